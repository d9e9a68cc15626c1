"""Our segmenter gives what `SamPredictor` gives, with random weights: same image, same prompts, same numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from pipeline.segmenters.base import FloatMap, MemoryReadout, ObjectPrompts, PromptBatch
from pipeline.segmenters.sam import SamEmbedding, SamSegmenter
from pipeline.segmenters.sam_memory import CellLimits
from tests.tiny_sam import build_tiny_sam

pytestmark = pytest.mark.long

TOLERANCE = 1e-4
SIZES_HW_PX = [(120, 160), (301, 417), (333, 97), (64, 64)]


@cache
def segmenter() -> SamSegmenter:
    return SamSegmenter(build_tiny_sam(), name="tiny")


@cache
def embedded(size_hw_px: tuple[int, int]) -> tuple[SamEmbedding, SamPredictor]:
    """One image, embedded by us and by the package."""
    rng = np.random.default_rng(sum(size_hw_px))
    image = rng.integers(0, 255, (*size_hw_px, 3), dtype=np.uint8)
    predictor = SamPredictor(build_tiny_sam())
    predictor.set_image(image)
    return segmenter().embed(image), predictor


def prompts(size_hw_px: tuple[int, int], n_points: int, box: bool, seed: int = 0) -> ObjectPrompts:
    rng = np.random.default_rng(seed)
    width_height = np.array(size_hw_px[::-1])
    points = (rng.random((n_points, 2)) * width_height).astype(np.float32)
    low, high = rng.random(2) * width_height / 2, (0.5 + rng.random(2) / 2) * width_height
    corners = (float(low[0]), float(low[1]), float(high[0]), float(high[1])) if box else None
    return ObjectPrompts(points, np.arange(n_points) % 2 == 0, corners)


def low_res_mask(seed: int) -> FloatMap:
    return np.random.default_rng(seed).normal(0, 5, (256, 256)).astype(np.float32)


def expected(
    predictor: Any, each: ObjectPrompts, mask: FloatMap | None, multimask: bool, **more: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Full-size logits, predicted IoU and low-resolution logits of a package's predictor, given ``more`` of its own."""
    has_points = len(each.points_xy_px) > 0
    masks, scores, low_res = predictor.predict(
        point_coords=each.points_xy_px if has_points else None,
        point_labels=each.positive.astype(int) if has_points else None,
        box=None if each.box_xyxy_px is None else np.array(each.box_xyxy_px),
        mask_input=None if mask is None else mask[None],
        multimask_output=multimask,
        return_logits=True,
        **more,
    )
    return masks, scores, low_res


def assert_equal(embedding: SamEmbedding, found: Any, row: int, wanted: tuple[Any, Any, Any]) -> None:
    masks, scores, low_res = wanted
    assert low_res.std() > 100 * TOLERANCE
    np.testing.assert_allclose(found.low_res_logits[row], low_res, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.predicted_iou[row], scores.clip(0, 1), atol=TOLERANCE, rtol=0)
    for candidate, mask in enumerate(masks):
        full = segmenter().to_full_size(embedding, found.low_res_logits[row, candidate])
        np.testing.assert_allclose(full, mask, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size_hw_px", SIZES_HW_PX)
def test_embeddings_are_equal(size_hw_px: tuple[int, int]) -> None:
    embedding, predictor = embedded(size_hw_px)
    torch.testing.assert_close(embedding.features, predictor.features[0], atol=TOLERANCE, rtol=0)
    assert embedding.original_size_px == predictor.original_size
    assert embedding.input_size_px == predictor.input_size


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize(("n_points", "box"), [(1, False), (5, False), (0, True), (4, True)])
def test_points_boxes_and_masks(n_points: int, box: bool, with_mask: bool, multimask: bool) -> None:
    size_hw_px = (301, 417)
    embedding, predictor = embedded(size_hw_px)
    each = prompts(size_hw_px, n_points, box)
    mask = low_res_mask(1) if with_mask else None
    found = segmenter().segment(embedding, PromptBatch((each,)), mask_input=[mask], multimask=multimask)
    assert_equal(embedding, found, 0, expected(predictor, each, mask, multimask))


@pytest.mark.parametrize("size_hw_px", SIZES_HW_PX)
def test_sizes(size_hw_px: tuple[int, int]) -> None:
    embedding, predictor = embedded(size_hw_px)
    each = prompts(size_hw_px, 3, True)
    found = segmenter().segment(embedding, PromptBatch((each,)))
    assert_equal(embedding, found, 0, expected(predictor, each, None, False))


@pytest.mark.parametrize("multimask", [False, True])
def test_a_batch_of_unlike_objects_is_each_of_them_alone(multimask: bool) -> None:
    size_hw_px = (301, 417)
    embedding, predictor = embedded(size_hw_px)
    kinds = [(1, False), (3, False), (0, True), (3, False), (0, False), (3, True)]
    objects = tuple(prompts(size_hw_px, n, box, seed) for seed, (n, box) in enumerate(kinds))
    masks = [None, low_res_mask(1), None, None, None, low_res_mask(3)]
    found = segmenter().segment(embedding, PromptBatch(objects), mask_input=masks, multimask=multimask)
    for row, (each, mask) in enumerate(zip(objects, masks, strict=True)):
        if kinds[row] != (0, False):
            assert_equal(embedding, found, row, expected(predictor, each, mask, multimask))


@pytest.mark.parametrize("alpha", [1.0, 0.0])
@pytest.mark.parametrize("with_mask", [False, True])
def test_the_frames_own_value_from_the_memory_changes_nothing(
    with_mask: bool, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eq. 6 at its ends: alpha 1 ignores whatever the memory says; alpha 0 takes it, here the frame's own value."""
    monkeypatch.setattr(segmenter(), "_cell_limits", CellLimits())
    size_hw_px = (301, 417)
    embedding, predictor = embedded(size_hw_px)
    each, mask = prompts(size_hw_px, 3, True), low_res_mask(1) if with_mask else None
    plain = segmenter().segment(embedding, PromptBatch((each,)), mask_input=[mask])
    asked = plain.queries[0].cells.cells
    if alpha == 1:
        values = torch.full((256, len(asked)), 7.0)
    else:
        values = predictor.model.prompt_encoder(
            points=None, boxes=None, masks=None if mask is None else torch.from_numpy(mask)[None, None]
        )[1][0].reshape(256, 4096)[:, asked]
    readout = MemoryReadout(plain.queries[0], values, alpha)
    found = segmenter().segment(embedding, PromptBatch((each,)), mask_input=[mask], readout=[readout])
    assert_equal(embedding, found, 0, expected(predictor, each, mask, False))


def test_a_readout_is_mixed_into_the_dense_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    """With alpha between, the decoder sees what Eq. 6 says around the object; here it is given that by hand."""
    monkeypatch.setattr(segmenter(), "_cell_limits", CellLimits())
    size_hw_px = (301, 417)
    embedding, predictor = embedded(size_hw_px)
    objects = tuple(prompts(size_hw_px, 2, False, seed) for seed in range(2))
    plain = segmenter().segment(embedding, PromptBatch(objects))
    asked = plain.queries[1].cells.cells
    values = torch.randn((256, len(asked)), generator=torch.Generator().manual_seed(0))
    readouts = [None, MemoryReadout(plain.queries[1], values, 0.3)]
    found = segmenter().segment(embedding, PromptBatch(objects), readout=readouts)
    model = predictor.model
    coordinates = predictor.transform.apply_coords(objects[1].points_xy_px, size_hw_px)
    points = (torch.tensor(coordinates, dtype=torch.float)[None], torch.from_numpy(objects[1].positive).int()[None])
    with torch.no_grad():
        sparse, dense = model.prompt_encoder(points=points, boxes=None, masks=None)
        dense = dense.flatten(2).clone()
        dense[0, :, asked] = 0.3 * dense[0, :, asked] + 0.7 * values
        low_res, _ = model.mask_decoder(
            image_embeddings=predictor.features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense.reshape(1, 256, 64, 64),
            multimask_output=False,
        )
    np.testing.assert_allclose(found.low_res_logits[1], low_res[0].numpy(), atol=TOLERANCE, rtol=0)
    assert np.abs(found.low_res_logits[1] - plain.low_res_logits[1]).max() > 100 * TOLERANCE
    np.testing.assert_allclose(found.low_res_logits[0], plain.low_res_logits[0], atol=TOLERANCE, rtol=0)
