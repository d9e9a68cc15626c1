"""Our HQ-SAM segmenter gives what the package's own predictor gives, with random weights."""

from __future__ import annotations

import warnings
from copy import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.segmenters.base import MemoryReadout, PromptBatch
from pipeline.segmenters.hq_sam import HqSamEmbedding, HqSamSegmenter
from pipeline.segmenters.sam_memory import CellLimits
from tests.parity.test_sam_predictor import TOLERANCE, expected, low_res_mask, prompts
from tests.tiny_hq_sam import build_tiny_hq_sam

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from segment_anything_hq import SamPredictor

pytestmark = pytest.mark.long
SIZE_HW_PX = (301, 417)
SIZES_HW_PX = [SIZE_HW_PX, (333, 97), (64, 64)]


@cache
def segmenter() -> HqSamSegmenter:
    return HqSamSegmenter(build_tiny_hq_sam(), name="tiny")


@cache
def embedded(size_hw_px: tuple[int, int]) -> tuple[HqSamEmbedding, Any]:
    """One image, embedded by us and by the package."""
    image = np.random.default_rng(sum(size_hw_px)).integers(0, 255, (*size_hw_px, 3), dtype=np.uint8)
    predictor = SamPredictor(build_tiny_hq_sam())
    predictor.set_image(image)
    embedding = segmenter().embed(image)
    assert isinstance(embedding, HqSamEmbedding)
    return embedding, predictor


def assert_equal(embedding: HqSamEmbedding, found: Any, row: int, wanted: tuple[Any, Any, Any]) -> None:
    masks, scores, low_res = wanted
    assert low_res.std() > 100 * TOLERANCE
    np.testing.assert_allclose(found.low_res_logits[row], low_res, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.predicted_iou[row], scores.clip(0, 1), atol=TOLERANCE, rtol=0)
    full = segmenter().to_full_size(embedding, found.low_res_logits[row, 0])
    np.testing.assert_allclose(full, masks[0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size_hw_px", SIZES_HW_PX)
def test_sizes(size_hw_px: tuple[int, int]) -> None:
    embedding, predictor = embedded(size_hw_px)
    torch.testing.assert_close(embedding.features, predictor.features[0], atol=TOLERANCE, rtol=0)
    assert (embedding.original_size_px, embedding.input_size_px) == (predictor.original_size, predictor.input_size)
    each = prompts(size_hw_px, 3, True)
    found = segmenter().segment(embedding, PromptBatch((each,)))
    assert_equal(embedding, found, 0, expected(predictor, each, None, False))


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize(("n_points", "box"), [(1, False), (5, False), (0, True), (4, True)])
def test_points_boxes_and_masks(n_points: int, box: bool, with_mask: bool, multimask: bool) -> None:
    embedding, predictor = embedded(SIZE_HW_PX)
    each = prompts(SIZE_HW_PX, n_points, box)
    mask = low_res_mask(1) if with_mask else None
    found = segmenter().segment(embedding, PromptBatch((each,)), mask_input=[mask], multimask=multimask)
    assert found.low_res_logits.shape == (1, 1, 256, 256)
    assert_equal(embedding, found, 0, expected(predictor, each, mask, multimask))


@pytest.mark.parametrize("multimask", [False, True])
def test_the_hq_token_alone(multimask: bool) -> None:
    embedding, predictor = embedded(SIZE_HW_PX)
    each = prompts(SIZE_HW_PX, 3, True)
    alone = HqSamSegmenter(build_tiny_hq_sam(), name="tiny", hq_token_only=True)
    found = alone.segment(embedding, PromptBatch((each,)), multimask=multimask)
    assert_equal(embedding, found, 0, expected(predictor, each, None, multimask, hq_token_only=True))


@pytest.mark.parametrize("multimask", [False, True])
def test_a_batch_of_unlike_objects_is_each_of_them_alone(multimask: bool) -> None:
    embedding, predictor = embedded(SIZE_HW_PX)
    kinds = [(1, False), (3, False), (0, True), (3, False), (0, False), (3, True)]
    objects = tuple(prompts(SIZE_HW_PX, n, box, seed) for seed, (n, box) in enumerate(kinds))
    masks = [None, low_res_mask(1), None, None, None, low_res_mask(3)]
    found = segmenter().segment(embedding, PromptBatch(objects), mask_input=masks, multimask=multimask)
    for row, (each, mask) in enumerate(zip(objects, masks, strict=True)):
        if kinds[row] != (0, False):
            assert_equal(embedding, found, row, expected(predictor, each, mask, multimask))


def test_an_ambiguous_prompt_may_take_any_of_the_three_masks() -> None:
    """Without this, the parity of ``multimask`` would show little about the choice."""
    embedding, predictor = embedded(SIZE_HW_PX)
    each = prompts(SIZE_HW_PX, 1, False)
    chosen = set()
    for best in (1, 2, 3):
        model = build_tiny_hq_sam()
        with torch.no_grad():
            model.mask_decoder.iou_prediction_head.layers[-1].bias[best] += 1
        package = copy(predictor)
        package.model = model
        found = HqSamSegmenter(model, name="tiny").segment(embedding, PromptBatch((each,)), multimask=True)
        assert_equal(embedding, found, 0, expected(package, each, None, True))
        chosen.add(found.low_res_logits.tobytes())
    assert len(chosen) == 3


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_readout_is_mixed_into_the_dense_embedding(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-PT, Eq. 6, around the object; the package's decoder is given the mixture by hand."""
    monkeypatch.setattr(segmenter(), "_cell_limits", CellLimits())
    embedding, predictor = embedded(SIZE_HW_PX)
    each = prompts(SIZE_HW_PX, 2, False)
    plain = segmenter().segment(embedding, PromptBatch((each,)))
    asked = plain.queries[0].cells.cells
    values = torch.randn((256, len(asked)), generator=torch.Generator().manual_seed(0))
    readout = MemoryReadout(plain.queries[0], values, alpha)
    found = segmenter().segment(embedding, PromptBatch((each,)), readout=[readout])
    model = predictor.model
    coordinates = predictor.transform.apply_coords(each.points_xy_px, SIZE_HW_PX)
    points = (torch.tensor(coordinates, dtype=torch.float)[None], torch.from_numpy(each.positive).int()[None])
    keys = []
    hook = model.mask_decoder.transformer.register_forward_hook(lambda _module, _inputs, output: keys.append(output[1]))
    with torch.no_grad():
        sparse, dense = model.prompt_encoder(points=points, boxes=None, masks=None)
        dense = dense.flatten(2).clone()
        dense[0, :, asked] = alpha * dense[0, :, asked] + (1 - alpha) * values
        low_res, _ = model.mask_decoder(
            image_embeddings=predictor.features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense.reshape(1, 256, 64, 64),
            multimask_output=False,
            hq_token_only=False,
            interm_embeddings=predictor.interm_features,
        )
    hook.remove()
    np.testing.assert_allclose(found.low_res_logits[0], low_res[0].numpy(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(found.queries[0].cells.all_keys, keys[0][0], atol=TOLERANCE, rtol=0)
    changed = np.abs(found.low_res_logits - plain.low_res_logits).max() > 100 * TOLERANCE
    assert changed == (alpha < 1)
