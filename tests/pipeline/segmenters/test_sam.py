"""What the segmenter adds to `SamPredictor`: memory keys and values, threads, resolutions, rows without prompts."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.masks import NO_OBJECT_LOGIT
from pipeline.segmenters.base import (
    FloatMap,
    MemoryReadout,
    ObjectPrompts,
    PromptBatch,
    Segmenter,
    memory_temperature,
)
from pipeline.segmenters.sam import SamEmbedding, SamSegmenter
from pipeline.segmenters.sam_memory import AskedCells, CellLimits
from tests.built_methods import lite_segmenter
from tests.tiny_sam import build_tiny_sam

SIZE_HW_PX = (301, 417)
VALUES = torch.zeros((256, 9))
ASKED = AskedCells(torch.zeros((4096, 256)), (64, 64), (47, 64), np.arange(3), np.arange(4))


@cache
def segmenter() -> SamSegmenter:
    return SamSegmenter(build_tiny_sam(), name="tiny")


@cache
def embedding(size_hw_px: tuple[int, int] = SIZE_HW_PX) -> SamEmbedding:
    image = np.random.default_rng(0).integers(0, 255, (*size_hw_px, 3), dtype=np.uint8)
    return segmenter().embed(image)


def clicks(n_points: int, seed: int = 0) -> ObjectPrompts:
    points = np.random.default_rng(seed).random((n_points, 2)) * SIZE_HW_PX[::-1]
    return ObjectPrompts(points.astype(np.float32), np.ones(n_points, np.bool_))


ONE = PromptBatch((clicks(1),))


def disc(size_hw_px: tuple[int, int], radius_px: float, centre_xy: tuple[float, float] | None = None) -> FloatMap:
    """Smooth logits, positive inside."""
    ys, xs = np.mgrid[: size_hw_px[0], : size_hw_px[1]].astype(np.float32)
    x, y = centre_xy or (size_hw_px[1] / 2, size_hw_px[0] / 2)
    return np.asarray(np.clip(radius_px - np.hypot(xs - x, ys - y), -10, 10), np.float32)


def test_it_is_a_segmenter() -> None:
    checked: Segmenter = segmenter()
    assert checked.name == "tiny"
    assert not checked.uses_mask_prior
    assert checked.learn([]) is None


def test_the_memory_s_temperature_follows_the_length_of_the_keys() -> None:
    assert memory_temperature(segmenter()) == 16.0
    model = build_tiny_sam()
    with torch.no_grad():
        model.mask_decoder.transformer.layers[-1].norm4.weight.fill_(0.5)
    assert memory_temperature(SamSegmenter(model, name="tiny")) == 4.0
    assert memory_temperature(lite_segmenter()) == 1.0


def test_the_model_is_frozen() -> None:
    model = build_tiny_sam().train()
    SamSegmenter(model, name="tiny")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_an_embedding_knows_its_size_and_survives_the_disk() -> None:
    made = embedding()
    assert made.nbytes == 256 * 64 * 64 * 4
    assert made.input_size_px == (739, 1024)
    read = pickle.loads(pickle.dumps(made))
    torch.testing.assert_close(read.features, made.features)
    features = segmenter().features(read)
    assert features.shape == (256, 64, 64)
    assert features.dtype == torch.float32


def test_a_row_without_prompts_is_empty_and_leaves_no_memory() -> None:
    batch = PromptBatch((ObjectPrompts(), clicks(2)))
    values = torch.ones((256, 0))
    first = segmenter().segment(embedding(), batch, multimask=True)
    readouts = [MemoryReadout(first.queries[0], values, 0.5), MemoryReadout(first.queries[0], values, 0.5)]
    found = segmenter().segment(
        embedding(), batch, mask_input=[disc((256, 256), 40), None], readout=readouts, multimask=True
    )
    assert found.low_res_logits.shape == (2, 3, 256, 256)
    assert (found.low_res_logits[0] == NO_OBJECT_LOGIT).all()
    assert (found.predicted_iou[0] == 0).all()
    np.testing.assert_array_equal(found.low_res_logits[1], first.low_res_logits[1])
    entry = segmenter().memorise(embedding(), found.queries[0], found.low_res_logits[0, 0])
    assert entry.keys.shape == entry.values.shape == (256, 0)


def test_no_object_at_all() -> None:
    found = segmenter().segment(embedding(), PromptBatch(()))
    assert found.low_res_logits.shape == (0, 1, 256, 256)
    assert found.queries == ()


def test_keys_leave_the_transformer_and_values_the_prompt_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_tiny_sam()
    monkeypatch.setattr(segmenter(), "_cell_limits", CellLimits())
    found = segmenter().segment(embedding(), PromptBatch((clicks(3),)))
    mask = found.low_res_logits[0, 0]
    entry = segmenter().memorise(embedding(), found.queries[0], mask)
    each = clicks(3)
    coordinates = torch.from_numpy(each.points_xy_px * np.float32(1024 / SIZE_HW_PX[1]))
    with torch.no_grad():
        sparse, dense = model.prompt_encoder((coordinates[None], torch.ones((1, 3))), None, None)
        decoder = model.mask_decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, sparse[0]])[None]
        image = embedding().features[None] + dense
        keys = decoder.transformer(image, model.prompt_encoder.get_dense_pe(), tokens)[1][0]
        values = model.prompt_encoder(None, None, torch.from_numpy(mask)[None, None])[1][0]
    # The height is resized to a whole number of pixels, so that its scale differs a little from the width's.
    # 739 of 1024 pixels are image, which is 47 of 64 rows of cells.
    on_image = 47 * 64
    torch.testing.assert_close(entry.keys, keys.T[:, :on_image], atol=1e-2, rtol=0)
    torch.testing.assert_close(entry.values, values.reshape(256, 4096)[:, :on_image], atol=1e-5, rtol=0)
    assert entry.nbytes == 2 * 256 * on_image * 4
    # No view of a larger tensor: the memory bank's limit counts bytes in use.
    assert entry.keys.untyped_storage().nbytes() == entry.keys.nbytes
    assert entry.values.untyped_storage().nbytes() == entry.values.nbytes


def test_every_thread_gets_the_keys_of_its_own_prompts() -> None:
    made = embedding()
    batches = [PromptBatch((clicks(1 + seed % 2, seed),)) for seed in range(4)]
    alone = [segmenter().segment(made, batch) for batch in batches]
    with ThreadPoolExecutor(len(batches)) as pool:
        together = list(pool.map(lambda batch: segmenter().segment(made, batch), batches * 3))
    for row, found in enumerate(together):
        wanted = alone[row % len(batches)]
        np.testing.assert_allclose(found.low_res_logits, wanted.low_res_logits, atol=1e-5)
        for query, wanted_query in zip(found.queries, wanted.queries, strict=True):
            torch.testing.assert_close(query.keys, wanted_query.keys, atol=1e-5, rtol=0)
    assert (alone[0].queries[0].keys - alone[2].queries[0].keys).abs().max() > 1e-3


def test_many_objects_are_decoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = PromptBatch(tuple(clicks(2, seed) for seed in range(3)))
    monkeypatch.setattr(segmenter(), "_max_rows", 3)
    at_once = segmenter().segment(embedding(), batch)
    monkeypatch.setattr(segmenter(), "_max_rows", 2)
    in_parts = segmenter().segment(embedding(), batch)
    np.testing.assert_allclose(in_parts.low_res_logits, at_once.low_res_logits, atol=1e-5)


@pytest.mark.parametrize("size_hw_px", [(301, 417), (417, 301), (96, 96), (1080, 1920), (100, 37)])
def test_masks_survive_the_low_resolution(size_hw_px: tuple[int, int]) -> None:
    """A disc keeps its mask, whether it lies in the middle or is cut by the right and the lower border."""
    frame = segmenter().embed(np.zeros((*size_hw_px, 3), np.uint8))
    radius_px = min(size_hw_px) / 4
    for centre_xy in (None, (size_hw_px[1] - 1.0, size_hw_px[0] - 1.0)):
        logits = disc(size_hw_px, radius_px, centre_xy)
        low_res = segmenter().to_low_res(frame, logits)
        assert low_res.shape == (256, 256)
        assert low_res.dtype == np.float32
        back = segmenter().to_full_size(frame, low_res)
        assert back.shape == size_hw_px
        # Of a curved border half a cell may be lost.
        cell_px = max(size_hw_px) / 256
        boundary = np.abs(logits) <= max(1.0, 0.75 * cell_px)
        assert ((back > 0) == (logits > 0))[~boundary].all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 1024))
def test_the_padding_is_no_object(height_px: int) -> None:
    frame = SamEmbedding(torch.zeros(0), (height_px, 1024), (height_px, 1024))
    low_res = segmenter().to_low_res(frame, np.full((height_px, 1024), 5, np.float32))
    cells = -(-height_px // 4)
    assert (low_res[:cells] == 5).all()
    assert (low_res[cells + 1 :] == NO_OBJECT_LOGIT).all()
    np.testing.assert_allclose(segmenter().to_full_size(frame, low_res), 5, atol=1e-5)


def test_low_resolution_logits_are_cell_averages() -> None:
    """A pattern finer than a cell does not become noise."""
    frame = SamEmbedding(torch.zeros(0), (2048, 2048), (1024, 1024))
    checks: FloatMap = np.where(np.indices((2048, 2048)).sum(0) % 2 == 0, 10, -10).astype(np.float32)
    assert np.abs(segmenter().to_low_res(frame, checks)[1:-1, 1:-1]).max() < 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, _: s.embed(np.zeros((8, 8), np.uint8)), "must be (H, W, 3) uint8, but got (8, 8) uint8"),
        (lambda s, _: s.embed(np.zeros((8, 8, 3), np.float32)), "but got (8, 8, 3) float32"),
        (lambda s, e: s.to_low_res(e, disc((5, 7), 1)), "frame's size (301, 417), but got (5, 7)"),
        (lambda s, e: s.to_full_size(e, disc((5, 7), 1)), "(256, 256) of low resolution, but got (5, 7)"),
        (lambda s, e: s.segment(e, ONE, mask_input=[]), "mask_input must have one item per object, but got 0 for 1"),
        (lambda s, e: s.segment(e, ONE, readout=[None] * 2), "readout must have one item per object, but got 2 for 1"),
        (lambda s, e: s.segment(e, ONE, mask_input=[disc((5, 7), 1)]), "(256, 256) of low resolution, but got (5, 7)"),
        (
            lambda s, e: s.segment(e, ONE, readout=[MemoryReadout(ASKED.query(), VALUES, 0.5)]),
            "values (256, 12), but got (256, 9)",
        ),
    ],
)
def test_errors_state_what_was_expected(call: Callable[[SamSegmenter, SamEmbedding], object], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message is compared below
        call(segmenter(), embedding())
    assert message in str(raised.value)
