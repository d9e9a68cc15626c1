"""The classical segmenter obeys prompts, propagates objects, and refines masks in later passes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.memory.bank import MemoryBank
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, ReferenceFrame
from pipeline.segmenters.classical.features import WORK_LONG_SIDE_PX, embed
from pipeline.types import BoolMask, FrameRGB
from tests.pipeline.segmenters.classical.scene import BOX, EMBEDDING, SEGMENTER, segment
from tests.pipeline.segmenters.touching import IMAGE, NEIGHBOUR, OBJECT, clicks, iou


@pytest.mark.parametrize(
    ("prompts", "floor"),
    [
        (clicks(box=BOX), 0.85),
        (clicks((130, 120, True), box=BOX), 0.85),
        (clicks((130, 120, True), (210, 120, False), box=(68, 78, 240, 162)), 0.8),
        (clicks((130, 120, True)), 0.7),
        (clicks((110, 120, True), (150, 120, True), (215, 120, False)), 0.7),
    ],
    ids=["box", "box and click", "loose box and clicks", "one click", "three clicks"],
)
def test_prompts_alone_find_the_object(prompts: ObjectPrompts, floor: float) -> None:
    assert iou(segment(prompts), OBJECT) > floor


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
    mask = segment(clicks(*apart, box=box), OBJECT | NEIGHBOUR if corrects else None)
    for x, y, positive in apart:
        assert mask[y, x] == positive


def test_a_box_bounds_the_object() -> None:
    mask = segment(clicks(box=(100, 90, 160, 150)))
    assert mask.any()
    outside = np.ones_like(mask)
    outside[88:152, 98:162] = False
    assert not (mask & outside).any()


def test_a_positive_click_outside_the_box_is_obeyed() -> None:
    mask = segment(clicks((150, 120, True), box=(75, 85, 135, 155)))
    assert mask[120, 150]


def test_a_negative_click_removes_the_wrongly_covered_region_and_keeps_the_rest() -> None:
    mask = segment(clicks((212, 120, False)), OBJECT | NEIGHBOUR)
    assert (mask & NEIGHBOUR).sum() < 0.1 * NEIGHBOUR.sum()
    assert (mask & OBJECT).sum() > 0.95 * OBJECT.sum()


def test_a_positive_click_adds_the_missing_region() -> None:
    half = OBJECT.copy()
    half[:, 130:] = False
    mask = segment(clicks((160, 120, True)), half)
    assert iou(mask, OBJECT) > 0.9


def test_negative_clicks_alone_mean_no_object() -> None:
    assert not segment(clicks((130, 120, False))).any()


def propagated(image: FrameRGB, mask_prior: FloatMap | None) -> BoolMask:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    tracked = PromptBatch((ObjectPrompts(tracked=True),))
    found = SEGMENTER.segment(SEGMENTER.embed(image), tracked, mask_prior=[mask_prior], appearance=[learnt])
    return np.asarray(found.low_res_logits[0, 0] > 0)


def test_propagation_finds_the_object_notices_when_it_is_gone_and_finds_it_again() -> None:
    moved = np.roll(IMAGE, 12, axis=1)
    prior = np.where(OBJECT, 4.0, -4.0).astype(np.float32)
    assert iou(propagated(moved, prior), np.roll(OBJECT, 12, axis=1)) > 0.85
    away = IMAGE.copy()
    away[OBJECT] = np.flip(IMAGE, 0)[:, ::-1][:1, :1].reshape(3)
    assert not propagated(away, prior).any()
    assert iou(propagated(moved, None), np.roll(OBJECT, 12, axis=1)) > 0.85


def test_tracked_prompts_need_an_appearance() -> None:
    with pytest.raises(ValueError, match="call learn first"):
        SEGMENTER.segment(EMBEDDING, PromptBatch((ObjectPrompts(tracked=True),)))


def test_the_memory_corrects_an_earlier_pass_and_alpha_one_leaves_it_out() -> None:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    tracked = PromptBatch((ObjectPrompts(tracked=True),))
    logits = np.where(OBJECT, 4.0, -4.0).astype(np.float32)
    first = SEGMENTER.segment(EMBEDDING, tracked, mask_prior=[logits], appearance=[learnt])
    bank = MemoryBank(64)
    bank.store(0, SEGMENTER.memorise(EMBEDDING, first.queries[0], logits), interaction=True)
    leaked = np.where(OBJECT | NEIGHBOUR, 0.6, -0.6).astype(np.float32)
    masks = {}
    for alpha in (0.0, 1.0):
        readout = bank.read(first.queries[0], 10, alpha)
        found = SEGMENTER.segment(EMBEDDING, tracked, mask_input=[leaked], appearance=[learnt], readout=[readout])
        masks[alpha] = found.low_res_logits[0, 0] > 0
    assert iou(masks[0.0], OBJECT) > 0.9
    assert iou(masks[1.0], OBJECT | NEIGHBOUR) > 0.9


def test_refinement_uses_the_frames_own_colours() -> None:
    tracked = PromptBatch((ObjectPrompts(tracked=True),))
    ragged = cv2.erode(OBJECT.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    vague = np.where(ragged, 0.5, -0.3).astype(np.float32)
    found = SEGMENTER.segment(EMBEDDING, tracked, mask_input=[vague])
    assert iou(found.low_res_logits[0, 0] > 0, OBJECT) > iou(ragged, OBJECT) + 0.1


def test_later_passes_obey_the_clicks_of_a_person() -> None:
    vague = np.where(OBJECT, 0.5, -0.5).astype(np.float32)
    prompts = PromptBatch((clicks((130, 120, False), (20, 20, True)),))
    mask = SEGMENTER.segment(EMBEDDING, prompts, mask_input=[vague]).low_res_logits[0, 0] > 0
    assert not mask[120, 130]
    assert mask[20, 20]


@pytest.mark.parametrize("size_hw_px", [(480, 854), (854, 480), (33, 47), (9, 12), (1080, 1920)])
def test_embeddings_of_any_size_are_reduced_and_small(size_hw_px: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size_hw_px, 3), np.uint8)
    embedding = embed(image)
    assert max(embedding.work_size_hw_px) <= max(WORK_LONG_SIDE_PX, 12)
    assert embedding.nbytes < 7 * 2**20
    found = SEGMENTER.segment(embedding, PromptBatch((clicks(box=(1, 1, 8, 7)),)))
    assert SEGMENTER.to_full_size(embedding, found.low_res_logits[0, 0]).shape == size_hw_px


def test_full_size_logits_are_as_strong_as_the_evidence() -> None:
    sides = np.where(OBJECT, 1.0, -1.0).astype(np.float32)
    sure, unsure = (SEGMENTER.to_full_size(EMBEDDING, strength * sides) for strength in (6.0, 0.5))
    np.testing.assert_array_equal(sure > 0, unsure > 0)
    core = cv2.erode(OBJECT.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.bool_)
    assert sure[core].min() > 6 * unsure[core].max() > 0
    assert sure.max() <= 4.0
