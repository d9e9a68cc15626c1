"""I-PT decodes in the paper's order, remembers what the paper remembers, and filters points as it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory import crstm
from pipeline.methods.base import Anchor, ObjectRound
from pipeline.methods.i_pt import IPt, IPtSettings
from pipeline.methods.per_object.prompt_tracking import PromptTracker, TrackingSettings
from pipeline.methods.per_object.restarts import RestartSettings
from pipeline.methods.per_object.tracked_video import TrackedVideo
from pipeline.methods.sam_pt import SamPt, SamPtSettings
from pipeline.segmenters.base import ObjectPrompts
from pipeline.session.session import Session
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks
from pipeline.trackers.boxes.mask_box import MaskBox
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.trackers.points.lucas_kanade import LucasKanade
from pipeline.trackers.points.sampling import STRATEGIES
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask
from pipeline.video.frames import FrameSource
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import Call, RecordingSegmenter

IMAGES, MASKS = moving_square(n_frames=13)


def open_i_pt(segmenter: RecordingSegmenter, **settings: object) -> TrackedVideo:
    method = IPt(
        segmenter,
        LucasKanade(),
        MaskBox(),
        EmbeddingCache(64),
        replace(IPtSettings(), **settings),  # type: ignore[arg-type]
    )
    return method.open(ArrayFrames(IMAGES))


def one_round(*frames: int, round_index: int = 1) -> ObjectRound:
    anchors = tuple(Anchor(frame, MASKS[frame]) for frame in frames)
    return ObjectRound(1, round_index, anchors, frozenset(range(13)) - set(frames))


def signs(call: Call) -> list[bool]:
    return [bool(sign) for sign in call.prompts[0].positive]


@pytest.mark.parametrize("refinements", [0, 3])
def test_a_frame_is_decoded_positives_and_box_first_then_all_with_memory_then_refined(refinements: int) -> None:
    segmenter = RecordingSegmenter(restless=True)
    video = open_i_pt(segmenter, refinement_iterations=refinements)
    memory = video.begin_round(one_round(0))
    segmenter.calls.clear()
    next(iter(video.propagate(Anchor(0, MASKS[0]), range(1, 13), memory)))
    first, second, *rest = segmenter.calls
    assert signs(first)
    assert all(signs(first))
    assert first.prompts[0].box_xyxy_px is not None
    assert not first.has_mask_input
    assert first.readout is None
    assert second.has_mask_input
    assert second.readout is not None
    assert second.readout.alpha == pytest.approx(crstm.alpha(1, 8))
    assert len(rest) == refinements
    assert all(call.has_mask_input and call.readout is None for call in rest)


def test_refinement_ends_when_the_mask_has_settled() -> None:
    segmenter = RecordingSegmenter()
    video = open_i_pt(segmenter, refinement_iterations=12)
    memory = video.begin_round(one_round(0))
    segmenter.calls.clear()
    next(iter(video.propagate(Anchor(0, MASKS[0]), range(1, 13), memory)))
    assert len(segmenter.calls) == 3


def test_without_memory_and_boxes_neither_takes_part() -> None:
    segmenter = RecordingSegmenter()
    video = open_i_pt(segmenter, use_memory=False, use_boxes=False)
    list(video.propagate(Anchor(0, MASKS[0]), range(1, 4), video.begin_round(one_round(0))))
    assert all(call.readout is None and call.prompts[0].box_xyxy_px is None for call in segmenter.calls)
    assert video.policies == {}
    assert 0 < video.held_bytes < 10**6, "small grey images for the trackers alone"


def test_the_memory_holds_prompted_frames_and_every_fifth_and_a_round_clears_its_range() -> None:
    video = open_i_pt(RecordingSegmenter(), refinement_iterations=0)
    memory = video.begin_round(one_round(0))
    assert memory.bank is not None
    list(video.propagate(Anchor(0, MASKS[0]), range(1, 13), memory))
    assert sorted(memory.bank.frame_indices) == [0, 5, 10]
    assert memory.bank.interaction_frames == (0,)
    later = video.begin_round(replace(one_round(0, 7, round_index=2), frame_indices=frozenset(range(1, 7))))
    assert later.bank is memory.bank
    assert sorted(memory.bank.frame_indices) == [0, 7, 10]
    assert sorted(memory.bank.interaction_frames) == [0, 7]
    assert (memory.prompted_frames, later.prompted_frames) == (1, 2)
    video.begin_round(one_round(7, round_index=3))
    assert sorted(memory.bank.frame_indices) == [7]
    assert 0 < video.held_bytes < 10**7


def test_what_frames_teach_is_learnt_again_only_when_a_mask_changed() -> None:
    segmenter = RecordingSegmenter()
    video = open_i_pt(segmenter)
    video.begin_round(one_round(0))
    video.begin_round(one_round(0))
    assert segmenter.learnt_from == [1]
    video.begin_round(one_round(0, 7))
    changed = Anchor(7, ~MASKS[7])
    video.begin_round(replace(one_round(0), anchors=(Anchor(0, MASKS[0]), changed)))
    assert segmenter.learnt_from == [1, 2, 2]


def test_one_click_asks_for_several_masks_and_takes_the_one_with_the_best_score() -> None:
    segmenter = RecordingSegmenter()
    video = open_i_pt(segmenter, refinement_iterations=0)
    memory = video.begin_round(ObjectRound(1, 1, (), frozenset(range(13))))
    click = ObjectPrompts(np.array([[30, 60]], np.float32), np.array([True]))
    video.segment_prompted(0, click, prior=None, memory=memory)
    assert [call.multimask for call in segmenter.calls] == [True, False]
    boxed = replace(click, box_xyxy_px=(10.0, 40.0, 60.0, 90.0))
    segmenter.calls.clear()
    video.segment_prompted(0, boxed, prior=None, memory=memory)
    assert not any(call.multimask for call in segmenter.calls)


@pytest.mark.parametrize("uses_carried", [True, False])
def test_the_mask_a_frame_had_is_given_as_the_segmenter_wants_it(uses_carried: bool) -> None:
    segmenter = RecordingSegmenter(uses_mask_prior=uses_carried)
    video = open_i_pt(segmenter, refinement_iterations=0)
    memory = video.begin_round(one_round(0))
    segmenter.calls.clear()
    click = ObjectPrompts(np.array([[30, 60]], np.float32), np.array([False]))
    video.segment_prompted(3, click, prior=np.where(MASKS[3], 4.0, -4.0).astype(np.float32), memory=memory)
    assert segmenter.calls[0].has_mask_prior is uses_carried
    assert segmenter.calls[0].has_mask_input is not uses_carried
    list(video.propagate(Anchor(0, MASKS[0]), range(1, 3), memory))
    assert segmenter.calls[2].has_mask_prior is uses_carried


class FixedPoints:
    """Tracks that do what the test says: per frame positions and visibility."""

    def __init__(self, tracks: list[list[tuple[float, float]]], visible: list[list[bool]]) -> None:
        self.tracks, self.visible = np.array(tracks, np.float32), np.array(visible)

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:  # noqa: ARG002
        assert len(queries.points_xy_px) == self.tracks.shape[1]
        return PointTracks(frame_range, self.tracks, self.visible)


class FixedBox:
    """A box that does not move, seen with the given scores."""

    def __init__(self, box: tuple[float, float, float, float], scores: list[float]) -> None:
        self.box, self.scores = box, scores

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:  # noqa: ARG002
        boxes = np.tile(np.array(self.box, np.float32), (len(frame_range), 1))
        return BoxTracks(frame_range, boxes, np.array(self.scores, np.float32))


def test_positive_points_outside_the_box_and_points_nowhere_are_dropped_and_hidden_ones_turn_negative() -> None:
    nan = float("nan")
    given = ObjectPrompts(
        np.array([[30, 60], [32, 60], [34, 60], [90, 60]], np.float32), np.array([True, True, True, False])
    )
    points = FixedPoints(
        [
            [(30, 60), (32, 60), (34, 60), (90, 60)],
            [(31, 60), (33, 60), (150, 60), (91, 60)],
            [(32, 60), (nan, nan), (36, 60), (92, 60)],
        ],
        [[True] * 4, [True, False, True, True], [True, False, True, True]],
    )
    tracker = PromptTracker(points, FixedBox((20, 40, 60, 80), [1.0, 0.9, 0.1]), TrackingSettings(3, 1))
    ((_, second, third),) = tracker.follow(ArrayFrames(IMAGES), [Anchor(0, MASKS[0], given)], range(3))
    assert second.points_xy_px.tolist() == [[31, 60], [33, 60], [91, 60]], "a negative point belongs outside the box"
    assert second.positive.tolist() == [True, False, False]
    assert third.box_xyxy_px is None, "an uncertain box is not believed"
    assert third.points_xy_px.tolist() == [[32, 60], [36, 60], [92, 60]]
    assert second.tracked


def test_a_tracked_box_is_widened_by_its_uncertainty() -> None:
    tracker = PromptTracker(LucasKanade(), FixedBox((20, 40, 60, 80), [1.0, 0.9, 0.6]), TrackingSettings())
    (prompts,) = tracker.follow(ArrayFrames(IMAGES), [Anchor(0, MASKS[0])], range(3))
    boxes = np.array([each.box_xyxy_px for each in prompts])
    np.testing.assert_allclose(boxes[0], (20, 40, 60, 80))
    np.testing.assert_allclose(boxes[1], (17.6, 37.6, 62.4, 82.4), atol=1e-3)
    np.testing.assert_allclose(boxes[2], (10.4, 30.4, 69.6, 89.6), atol=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_person_s_points_are_filled_up_from_the_mask(strategy: str) -> None:
    tracker = PromptTracker(LucasKanade(), None, TrackingSettings(8, 2, strategy))
    own = ObjectPrompts(np.array([[MASKS[0].nonzero()[1].mean(), 60]], np.float32), np.array([True]))
    prompts = tracker.prompts_at(ArrayFrames(IMAGES), Anchor(0, MASKS[0], own))
    assert prompts.positive.sum() == 8
    assert (~prompts.positive).sum() == 2
    assert prompts.points_xy_px[0].tolist() == own.points_xy_px[0].tolist()
    xs, ys = prompts.points_xy_px.round().astype(int).T
    assert MASKS[0][ys, xs].tolist() == prompts.positive.tolist()
    assert prompts.box_xyxy_px is not None


@pytest.mark.parametrize(
    ("variant", "areas_px", "first_px", "chosen"),
    [
        ("horizon", [5, 9, 2], 5, 2),
        ("median_area", [5, 9, 2], 5, 2),
        ("median_area", [0, 9, 0, 3, 4], 5, 4),
        ("similar_area", [5, 9, 6, 0], 6, 2),
        ("similar_area", [5, 7, 5], 6, 2),
        ("median_area", [0, 0], 5, 1),
    ],
)
def test_where_trackers_start_anew(variant: str, areas_px: list[int], first_px: int, chosen: int) -> None:
    assert RestartSettings(variant).choose(areas_px, first_px) == chosen


@pytest.mark.parametrize("variant", ["never", "horizon", "median_area", "similar_area"])
def test_every_restart_variant_gives_each_frame_once_and_in_order(variant: str) -> None:
    method = SamPt(
        RecordingSegmenter(uses_mask_prior=True),
        LucasKanade(),
        EmbeddingCache(64),
        SamPtSettings(refinement_iterations=0, restart=variant, restart_frames=4, filter_patches=True),
    )
    video = method.open(ArrayFrames(IMAGES, frozenset({6})))
    for order in (range(1, 13), range(11, -1, -1)):
        anchor = Anchor(order[0] - order.step, MASKS[order[0] - order.step])
        memory = video.begin_round(ObjectRound(1, 1, (anchor,), frozenset(order)))
        found = [estimate.frame_index for estimate in video.propagate(anchor, order, memory)]
        assert found == [frame for frame in order if frame != 6]


@pytest.mark.parametrize(("variant", "horizon"), [("sometimes", 8), ("horizon", 0)])
def test_impossible_restarts_are_refused(variant: str, horizon: int) -> None:
    with pytest.raises(ValueError, match="restart"):
        RestartSettings(variant, horizon)


def alphas(segmenter: RecordingSegmenter) -> set[float]:
    return {call.readout.alpha for call in segmenter.calls if call.readout is not None}


def test_prompted_frames_raise_alpha() -> None:
    segmenter = RecordingSegmenter()
    method = IPt(segmenter, LucasKanade(), MaskBox(), EmbeddingCache(64))
    session = Session(ArrayFrames(IMAGES), method)
    given = [MaskPrompt(1, 0, RunLengthMask.encode(MASKS[0]))]
    list(session.run_round(given, object_ids=[1]))
    more = [*given, BoxPrompt(1, 6, (30, 30, 90, 90)), PointPrompt(1, 6, 60, 60)]
    segmenter.calls.clear()
    list(session.run_round(more, object_ids=[1]))
    assert alphas(segmenter) == {crstm.alpha(2, 8)}
    assert session.held_bytes > 0


@dataclass
class LongKeys(RecordingSegmenter):
    """Says which temperature its keys need."""

    memory_temperature: float = 9.0


@pytest.mark.parametrize(
    ("segmenter", "asked", "used"),
    [(RecordingSegmenter(), 0.0, 1.0), (LongKeys(), 0.0, 9.0), (LongKeys(), 1.0, 1.0), (LongKeys(), 4.0, 4.0)],
)
def test_the_memory_is_read_at_the_temperature_asked_for_or_that_of_the_keys(
    segmenter: RecordingSegmenter, asked: float, used: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, temperatures = crstm.read, set()

    def noted(*arguments: Any) -> Any:
        temperatures.add(arguments[4])
        return read(*arguments)

    monkeypatch.setattr(crstm, "read", noted)
    video = open_i_pt(segmenter, memory_temperature=asked)
    next(iter(video.propagate(Anchor(0, MASKS[0]), range(1, 3), video.begin_round(one_round(0)))))
    assert temperatures == {used}


def test_a_negative_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        IPtSettings(memory_temperature=-1.0)


def test_eight_clicks_on_one_frame_leave_alpha_where_it_was() -> None:
    segmenter = RecordingSegmenter()
    session = Session(ArrayFrames(IMAGES), IPt(segmenter, LucasKanade(), MaskBox(), EmbeddingCache(64)))
    prompts: list[Prompt] = [MaskPrompt(1, 0, RunLengthMask.encode(MASKS[0])), BoxPrompt(1, 6, (30, 30, 90, 90))]
    list(session.run_round(prompts, object_ids=[1]))
    for click in range(8):
        segmenter.calls.clear()
        prompts.append(PointPrompt(1, 6, 56 + click, 60))
        list(session.run_round(prompts, object_ids=[1]))
        assert alphas(segmenter) == {crstm.alpha(2, 8)}


def test_trackers_go_on_from_the_last_mask_that_shows_the_object() -> None:
    images = [image.copy() for image in IMAGES]
    for frame in (3, 4):
        images[frame][..., 0] = 0  # nothing is redder than green: no object
    segmenter = RecordingSegmenter()
    method = SamPt(
        segmenter,
        LucasKanade(),
        EmbeddingCache(64),
        SamPtSettings(refinement_iterations=0, restart_frames=4),
    )
    video = method.open(ArrayFrames(images))
    memory = video.begin_round(one_round(0))
    found = list(video.propagate(Anchor(0, MASKS[0]), range(1, 13), memory))
    assert [bool((estimate.logits > 0).any()) for estimate in found[:4]] == [True, True, False, False]
    assert all((estimate.logits > 0).any() for estimate in found[4:])
    assert all(len(call.prompts[0].points_xy_px) or call.has_mask_input for call in segmenter.calls[-4:])
