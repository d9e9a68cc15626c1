"""Segmenter lite obeys prompts, follows objects, and reads its memories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.masks import bounding_box
from pipeline.memory.bank import MemoryBank
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, ReferenceFrame
from pipeline.segmenters.lite.embedding import TRUNK_LONG_SIDE_PX, WORK_LONG_SIDE_PX, embed
from pipeline.types import BoolMask, FrameRGB
from tests.clips import real_or_rendered
from tests.pipeline.segmenters.lite.scene import BOX, EMBEDDING, SEGMENTER, logits_of, segment
from tests.pipeline.segmenters.touching import IMAGE, NEIGHBOUR, OBJECT, clicks, iou

TRACKED = PromptBatch((ObjectPrompts(tracked=True),))


@pytest.mark.parametrize(
    ("prompts", "floor"),
    [
        (clicks(box=BOX), 0.85),
        (clicks((130, 120, True), box=BOX), 0.85),
        (clicks((130, 120, True), (210, 120, False), box=(62, 72, 200, 168)), 0.8),
        (clicks((130, 120, True)), 0.6),
        (clicks((110, 120, True), (150, 120, True), (215, 120, False)), 0.7),
    ],
    ids=["box", "box and click", "loose box and clicks", "one click", "three clicks"],
)
def test_prompts_alone_find_the_object(prompts: ObjectPrompts, floor: float) -> None:
    assert iou(segment(prompts), OBJECT) > floor


@pytest.mark.parametrize("name", ["dog", "car-shadow"])
def test_a_box_finds_a_real_object(name: str, tmp_path: Path) -> None:
    clip = real_or_rendered(name, tmp_path)
    mask = clip.mask(0)
    embedding = SEGMENTER.embed(clip.frames.frame(0))
    found = SEGMENTER.segment(embedding, PromptBatch((clicks(box=bounding_box(mask)),)))
    assert iou(SEGMENTER.to_full_size(embedding, found.low_res_logits[0, 0]) > 0, mask) > 0.75


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 319), st.integers(0, 239), st.booleans()), min_size=1, max_size=5),
    st.sampled_from([None, (40.0, 40.0, 280.0, 200.0)]),
    st.booleans(),
)
def test_every_click_is_obeyed(
    points: list[tuple[int, int, bool]], box: tuple[float, float, float, float] | None, corrects: bool
) -> None:
    apart = [p for k, p in enumerate(points) if all(abs(p[0] - q[0]) + abs(p[1] - q[1]) > 30 for q in points[:k])]
    assume(corrects or box is not None or any(positive for _, _, positive in apart))
    mask = segment(clicks(*apart, box=box), OBJECT | NEIGHBOUR if corrects else None)
    for x, y, positive in apart:
        assert mask[y, x] == positive


def test_a_negative_click_removes_what_was_wrongly_covered() -> None:
    mask = segment(clicks((212, 120, False)), OBJECT | NEIGHBOUR)
    assert (mask & NEIGHBOUR).sum() < 0.4 * NEIGHBOUR.sum()
    assert (mask & OBJECT).sum() > 0.8 * OBJECT.sum()


def test_a_positive_click_adds_what_is_missing() -> None:
    half = OBJECT.copy()
    half[:, 130:] = False
    assert iou(segment(clicks((160, 120, True)), half), OBJECT) > iou(half, OBJECT) + 0.1


def test_negative_clicks_alone_mean_no_object() -> None:
    assert not (segment(clicks((130, 120, False)))).any()


def test_objects_of_one_frame_get_the_masks_they_would_get_alone() -> None:
    prompts = clicks(box=BOX), clicks((212, 120, True)), clicks()
    together = SEGMENTER.segment(EMBEDDING, PromptBatch(prompts))
    for row, each in enumerate(prompts):
        alone = SEGMENTER.segment(EMBEDDING, PromptBatch((each,)))
        assert ((together.low_res_logits[row] > 0) != (alone.low_res_logits[0] > 0)).mean() < 1e-3
        np.testing.assert_allclose(together.predicted_iou[row], alone.predicted_iou[0], atol=1e-3)


def passes(image: FrameRGB, mask_prior: FloatMap | None) -> BoolMask:
    """Both passes over a frame between prompted ones, of an object that was prompted on `IMAGE`."""
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    embedding = SEGMENTER.embed(image)
    first = SEGMENTER.segment(embedding, TRACKED, mask_prior=[mask_prior], appearance=[learnt])
    found = SEGMENTER.segment(embedding, TRACKED, mask_input=[first.low_res_logits[0, 0]], appearance=[learnt])
    return np.asarray(found.low_res_logits[0, 0] > 0)


def test_an_object_is_followed() -> None:
    assert iou(passes(np.roll(IMAGE, 12, axis=1), logits_of(OBJECT)), np.roll(OBJECT, 12, axis=1)) > 0.8


def test_a_lost_object_is_found_again_and_nothing_else_is() -> None:
    assert iou(passes(np.roll(IMAGE, 40, axis=1), None), np.roll(OBJECT, 40, axis=1)) > 0.6
    away = IMAGE.copy()
    away[OBJECT | NEIGHBOUR] = np.flip(IMAGE, 0)[:1, :1].reshape(3)
    assert not passes(away, None).any()


def test_tracked_prompts_need_an_appearance() -> None:
    with pytest.raises(ValueError, match="call learn first"):
        SEGMENTER.segment(EMBEDDING, TRACKED)


def test_the_memory_corrects_a_mask_that_leaked() -> None:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    first = SEGMENTER.segment(EMBEDDING, TRACKED, mask_prior=[logits_of(OBJECT | NEIGHBOUR)], appearance=[learnt])
    bank = MemoryBank(64)
    bank.store(0, SEGMENTER.memorise(EMBEDDING, first.queries[0], logits_of(OBJECT)), interaction=True)
    readout = bank.read(first.queries[0], 10, 0.0)
    leaked = [logits_of(OBJECT | NEIGHBOUR)]
    found = SEGMENTER.segment(EMBEDDING, TRACKED, mask_input=leaked, appearance=[learnt], readout=[readout])
    assert iou(found.low_res_logits[0, 0] > 0, OBJECT) > iou(OBJECT | NEIGHBOUR, OBJECT) + 0.05


def test_an_empty_mask_is_asked_nothing_and_remembered_nowhere() -> None:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    empty = logits_of(np.zeros_like(OBJECT))
    found = SEGMENTER.segment(EMBEDDING, TRACKED, mask_input=[empty], appearance=[learnt])
    assert not (found.low_res_logits > 0).any()
    entry = SEGMENTER.memorise(EMBEDDING, found.queries[0], empty)
    assert entry.keys.shape[1] == entry.values.shape[1] == 0


def test_nothing_is_learnt_from_masks_that_nobody_checked() -> None:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    assert SEGMENTER.adapt(learnt, EMBEDDING, logits_of(OBJECT | NEIGHBOUR)) is learnt


def test_an_appearance_from_empty_masks_finds_nothing() -> None:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, np.zeros_like(OBJECT))])
    found = SEGMENTER.segment(EMBEDDING, TRACKED, appearance=[learnt])
    assert not (found.low_res_logits > 0).any()


def test_embeddings_are_stored_and_read_again() -> None:
    read = SEGMENTER.unpack(SEGMENTER.pack(EMBEDDING))
    prompts = PromptBatch((clicks(box=BOX),))
    expected = SEGMENTER.segment(EMBEDDING, prompts).low_res_logits
    np.testing.assert_array_equal(SEGMENTER.segment(read, prompts).low_res_logits, expected)
    assert read.trunk_size_hw_px == EMBEDDING.trunk_size_hw_px


@pytest.mark.parametrize("size_hw_px", [(480, 854), (854, 480), (33, 47), (9, 12), (1080, 1920)])
def test_frames_of_any_size(size_hw_px: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size_hw_px, 3), np.uint8)
    embedding = embed(image, SEGMENTER._model)
    assert max(embedding.work_size_hw_px) <= max(WORK_LONG_SIDE_PX, 12)
    assert max(embedding.trunk_size_hw_px) <= max(TRUNK_LONG_SIDE_PX, 12)
    assert embedding.nbytes < 4 * 2**20
    found = SEGMENTER.segment(embedding, PromptBatch((clicks(box=(1, 1, 8, 7)),)))
    full = SEGMENTER.to_full_size(embedding, found.low_res_logits[0, 0])
    assert full.shape == size_hw_px
    assert SEGMENTER.to_low_res(embedding, full).shape == embedding.work_size_hw_px
    keys = SEGMENTER.key_features(embedding)
    assert keys.shape == (432, *embedding.grid_hw)


def test_objects_that_touch_share_what_their_memories_say() -> None:
    masks = OBJECT, NEIGHBOUR
    learnt = [SEGMENTER.learn([ReferenceFrame(EMBEDDING, mask)]) for mask in masks]
    both = PromptBatch((ObjectPrompts(tracked=True),) * 2)
    expected = [logits_of(mask) for mask in masks]
    found = SEGMENTER.segment(EMBEDDING, both, mask_input=expected, appearance=learnt).low_res_logits[:, 0] > 0
    for mask, own in zip(found, masks, strict=True):
        assert iou(mask, own) > 0.75
    assert (found[0] & found[1]).sum() < 0.1 * NEIGHBOUR.sum()
