"""IDPro: prompted frames see each other, all objects go through the video together, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory import shared
from pipeline.methods.base import Anchor, ConcurrentVideo, Estimate, Interaction, ObjectRound
from pipeline.methods.common.expected_prompts import prompts_from
from pipeline.methods.common.mask_flow import FlowField, FlowFields, MaskFlow
from pipeline.methods.concurrent.settings import ConcurrentSettings
from pipeline.methods.idpro import IdPro
from pipeline.segmenters.base import ObjectPrompts, Segmenter
from pipeline.segmenters.sam import SamSegmenter
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError
from tests.built_methods import lite_segmenter
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import Frame, RecordingSegmenter
from tests.pipeline.segmenters.touching import IMAGE, OBJECT, clicks, iou
from tests.tiny_sam import build_tiny_sam

N_FRAMES = 13
IMAGES, MASKS = moving_square(n_frames=N_FRAMES)
CLICK = ObjectPrompts(np.array([[40.0, 60.0]], np.float32), np.array([True]))
BOX = ObjectPrompts(box_xyxy_px=(20.0, 40.0, 60.0, 80.0))


def opened(segmenter: Segmenter, *, broken: frozenset[int] = frozenset(), **settings: object) -> ConcurrentVideo:
    method = IdPro(segmenter, EmbeddingCache(256), replace(ConcurrentSettings(), **settings))  # type: ignore[arg-type]
    return method.open(ArrayFrames(IMAGES, broken))


def task(object_id: int, *frames: int, masks: Sequence[BoolMask] = MASKS) -> ObjectRound:
    anchors = tuple(Anchor(frame, masks[frame]) for frame in frames)
    return ObjectRound(object_id, 1, anchors, frozenset(range(N_FRAMES)) - set(frames))


def walked(video: ConcurrentVideo, tasks: Sequence[ObjectRound], frames: Sequence[int]) -> list[list[Estimate]]:
    memory = video.begin_round(tasks)
    passes = [video.start_pass(each.object_id, each.anchors[0], memory) for each in tasks]
    video.prefetch(frames)
    return [video.step(frame, passes, memory) for frame in frames]


def overlap(estimate: Estimate) -> float:
    mask, truth = estimate.logits > 0, MASKS[estimate.frame_index]
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("refinements", [0, 2])
def test_a_frame_is_segmented_for_all_objects_in_one_call(refinements: int) -> None:
    segmenter = RecordingSegmenter(restless=True)
    video = opened(segmenter, refinement_iterations=refinements)
    found = walked(video, [task(object_id, 0) for object_id in (3, 1, 7)], range(1, 3))
    assert [[each.frame_index for each in estimates] for estimates in found] == [[1] * 3, [2] * 3]
    assert len(segmenter.calls) == 2 * (1 + refinements)
    assert all(len(call.prompts) == 3 and call.has_mask_input and not call.has_mask_prior for call in segmenter.calls)


def test_every_objects_prompts_are_alike_so_that_they_are_decoded_together() -> None:
    segmenter = RecordingSegmenter()
    small: BoolMask = np.zeros_like(MASKS[0])
    small[10:13, 100:103] = True
    masks = [small] * N_FRAMES
    video = opened(segmenter, positive_points=3, negative_points=2)
    walked(video, [task(1, 0), task(2, 0, masks=masks)], [1])
    (call,) = segmenter.calls
    for prompts in call.prompts:
        assert prompts.tracked
        assert prompts.positive.tolist() == [True] * 3 + [False] * 2
        assert prompts.box_xyxy_px is not None


def test_the_affinity_is_computed_once_a_frame_whatever_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    affinity = shared.affinity
    monkeypatch.setattr(shared, "affinity", lambda m, q: calls.append(1) or affinity(m, q))
    walked(opened(RecordingSegmenter()), [task(object_id, 0) for object_id in range(1, 11)], range(1, 6))
    assert len(calls) == 5


def test_the_flow_is_computed_once_a_frame_whatever_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    between = FlowField.between
    monkeypatch.setattr(FlowField, "between", lambda *greys: calls.append(1) or between(*greys))
    walked(opened(RecordingSegmenter()), [task(object_id, 0) for object_id in range(1, 11)], range(1, 6))
    assert len(calls) == 5


@pytest.mark.parametrize("kind", ["recording", "lite"])
def test_another_object_changes_nothing(kind: str) -> None:
    other = [np.asarray(np.roll(mask, (30, 50), (0, 1))) for mask in MASKS]

    def video() -> ConcurrentVideo:
        return opened(RecordingSegmenter() if kind == "recording" else lite_segmenter())

    alone = walked(video(), [task(1, 0)], range(1, 4))
    together = walked(video(), [task(2, 0, masks=other), task(1, 0)], range(1, 4))
    for (single,), (_, same) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(single.logits > 0, same.logits > 0)


def test_a_known_mask_is_followed() -> None:
    found = walked(opened(lite_segmenter()), [task(1, 0)], range(1, N_FRAMES))
    assert min(overlap(each) for (each,) in found) > 0.85


def test_the_memory_leads_where_the_flow_has_nothing_to_carry() -> None:
    segmenter = RecordingSegmenter()
    video = opened(segmenter)
    tasks = [task(1, 0)]
    memory = video.begin_round(tasks)
    lost = video.start_pass(1, Anchor(0, MASKS[0]), memory)
    lost.flow.start(4, np.zeros_like(MASKS[4]))
    (estimate,) = video.step(5, [lost], memory)
    box = segmenter.calls[-1].prompts[0].box_xyxy_px
    assert box is not None
    np.testing.assert_allclose(box, (35, 40, 75, 80), atol=8)
    assert overlap(estimate) > 0.85


def test_later_rounds_embed_nothing_again() -> None:
    frames = ArrayFrames(IMAGES)
    embedded: list[int] = []

    class Counting(RecordingSegmenter):
        def embed(self, frame_rgb: object) -> object:
            embedded.append(1)
            return super().embed(frame_rgb)  # type: ignore[arg-type]

    video = IdPro(Counting(), EmbeddingCache(256)).open(frames)
    walked(video, [task(1, 0)], range(1, N_FRAMES))
    assert len(embedded) == N_FRAMES
    walked(video, [task(1, 0, 6), task(2, 3)], range(1, 6))
    assert len(embedded) == N_FRAMES


def test_an_unreadable_frame_leaves_the_passes_where_they_were() -> None:
    video = opened(RecordingSegmenter(), broken=frozenset({2, 6}))
    tasks = [task(1, 0, 6)]
    memory = video.begin_round(tasks)
    passes = [video.start_pass(1, tasks[0].anchors[0], memory)]
    video.prefetch(range(1, 5))
    assert overlap(video.step(1, passes, memory)[0]) > 0.85
    with pytest.raises(FrameError):
        video.step(2, passes, memory)
    assert overlap(video.step(3, passes, memory)[0]) > 0.85


def test_prompts_are_answered_in_one_call_a_frame() -> None:
    segmenter = RecordingSegmenter()
    asked = [Interaction(2, 5, BOX), Interaction(1, 5, BOX)]
    answers = list(opened(segmenter).interact(asked, ()))
    assert [each for each, _ in answers] == asked
    assert [len(call.prompts) for call in segmenter.calls] == [2]


def test_a_single_click_asks_for_candidates_and_takes_the_best() -> None:
    segmenter = RecordingSegmenter()
    answers = list(opened(segmenter).interact([Interaction(1, 5, BOX), Interaction(2, 5, CLICK)], ()))
    assert [call.multimask for call in segmenter.calls] == [False, True]
    assert [each.score for _, each in answers] == pytest.approx([0.4, 0.6])


def test_all_first_answers_come_before_those_that_saw_the_other_frames() -> None:
    segmenter = RecordingSegmenter(restless=True)
    video = opened(segmenter, prompted_refinements=1)
    asked = [Interaction(1, 9, BOX), Interaction(1, 2, CLICK), Interaction(2, 2, BOX)]
    order = [(each.object_id, each.frame_index) for each, _ in video.interact(asked, ())]
    assert order[:3] == [(1, 2), (2, 2), (1, 9)]
    # Object 2 is known on one frame: there is nothing more to say about it.
    assert order[3:] == [(1, 2), (1, 9)]


def test_frames_known_before_are_seen_too() -> None:
    segmenter = RecordingSegmenter()
    video = opened(segmenter)
    known = [task(1, 0)]
    answers = list(video.interact([Interaction(1, 9, BOX)], known))
    assert len(answers) == 2
    assert segmenter.calls[-1].has_mask_input


def test_a_cue_on_one_frame_leaves_a_good_mask_of_the_other() -> None:
    """What a box says on another frame takes nothing away from a good click, and does not add a neighbour."""
    method = IdPro(lite_segmenter(), EmbeddingCache(256))
    frames = ArrayFrames([IMAGE, np.roll(IMAGE, 9, axis=1)])
    click = Interaction(1, 1, clicks((189, 120, True)))
    alone = list(method.open(frames).interact([click], ()))
    together = list(method.open(frames).interact([click, Interaction(1, 0, clicks(box=(71, 81, 190, 160)))], ()))
    last = [estimate for each, estimate in together if each is click][-1]
    by_itself, helped = (iou(each.logits > 0, np.roll(OBJECT, 9, axis=1)) for each in (alone[-1][1], last))
    assert helped > max(0.95, by_itself - 0.01)


def test_an_unreadable_prompted_frame_is_left_out() -> None:
    video = opened(RecordingSegmenter(), broken=frozenset({4}))
    asked = [Interaction(1, 4, BOX), Interaction(1, 2, BOX)]
    assert {each.frame_index for each, _ in video.interact(asked, [task(1, 4)])} == {2}


def test_the_memory_holds_all_prompted_frames_and_forgets_objects() -> None:
    class ManyChannels(RecordingSegmenter):
        def key_features(self, embedding: Frame) -> torch.Tensor:
            return self.features(embedding).repeat(40, 1, 1)

    video = opened(ManyChannels())
    assert video.held_bytes == 0
    video.begin_round([task(1, 0, 6)])
    one = video.held_bytes
    video.begin_round([task(2, 6)])
    # Another object on the same frame costs its values alone, a new frame its keys too.
    assert 0 < video.held_bytes - one < one / 50
    video.begin_round([task(2, 6, 9)])
    assert video.held_bytes > 1.4 * one
    video.begin_round([task(1, 6)])
    assert one < video.held_bytes < 1.1 * one
    for object_id in (1, 2):
        video.forget(object_id)
    assert video.held_bytes == 0


def test_sam_takes_part_with_its_padding() -> None:
    video = opened(SamSegmenter(build_tiny_sam(), name="tiny"), frames_ahead=1)
    answers = list(video.interact([Interaction(1, 0, BOX), Interaction(1, 3, CLICK)], ()))
    assert len(answers) == 4
    for estimates in walked(video, [task(1, 0), task(2, 0)], [1, 2]):
        assert [each.logits.shape for each in estimates] == [(120, 160)] * 2
        assert all(np.isfinite(each.logits).all() for each in estimates)


def test_points_lie_in_the_expected_mask_and_outside_of_it() -> None:
    segmenter = lite_segmenter()
    embedding = segmenter.embed(IMAGES[4])
    video = opened(segmenter)
    grid = video._memory.grid(embedding)  # type: ignore[attr-defined]
    expected = np.where(MASKS[4], 3.0, -3.0).astype(np.float32)
    prompts = prompts_from(expected, grid, 4, 2, (120, 160))
    columns, rows = np.rint(prompts.points_xy_px).astype(int).T
    assert MASKS[4][rows, columns].tolist() == prompts.positive.tolist() == [True] * 4 + [False] * 2
    assert len({(column, row) for column, row in zip(columns, rows, strict=True)}) == 6
    np.testing.assert_allclose(prompts.box_xyxy_px or (), (32, 40, 72, 80), atol=3)
    assert not len(prompts_from(-np.abs(expected), grid, 4, 2, (120, 160)).points_xy_px)


def test_a_mask_is_carried_along_and_none_where_there_is_none() -> None:
    fields = FlowFields(ArrayFrames(IMAGES, frozenset({3})), 160)
    flow = MaskFlow(fields)
    flow.start(0, MASKS[0])
    carried = flow.to(1)
    assert carried is not None
    assert ((carried > 0) != MASKS[1]).sum() < 0.05 * MASKS[1].sum()
    assert flow.to(3) is None
    flow.start(1, np.zeros_like(MASKS[1]))
    assert flow.to(2) is None
    assert fields.held_bytes == 2 * 120 * 160 + 3 * 4 * 120 * 160
    assert cv2.countNonZero(fields.grey(2)) > 0  # type: ignore[arg-type]
