"""Objects that are propagated together get the masks that each would get alone, in fewer calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.masks import bounding_box
from pipeline.methods.base import Anchor, Estimate, ObjectRound, PropagationPass
from pipeline.methods.i_pt import IPt, IPtSettings
from pipeline.methods.per_object.tracked_video import TrackedVideo
from pipeline.methods.sam_pt import SamPt, SamPtSettings
from pipeline.segmenters.base import Segmentation, Segmenter
from pipeline.session.session import Session
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks
from pipeline.trackers.boxes.template import OpenCvTemplate
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.trackers.points.cotracker import CoTracker
from pipeline.trackers.points.lucas_kanade import LucasKanade
from pipeline.trackers.points.pips import Pips
from pipeline.trackers.points.raft import RaftTracker
from pipeline.trackers.points.tapir import Tapir
from pipeline.trackers.points.xfeat import XFeatTracker
from pipeline.types import BoolMask, FrameRGB
from pipeline.video.frames import FrameSource
from tests.built_methods import lite_segmenter
from tests.oracle.methods import ious, mask_prompt, oracle_method
from tests.oracle.model import oracle_segmenter
from tests.oracle.scenes import scene
from tests.pipeline.frame_sources import ArrayFrames
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter

SCENE, MOVING = scene("crosses"), scene("moves")
N_FRAMES = len(SCENE.images)
PASSES = [(1, 0, range(1, 14)), (2, 0, range(1, 14)), (1, 20, range(19, 12, -1)), (2, 6, range(7, 16))]
"""Objects, anchors and ranges."""


@dataclass
class CountedPoints:
    """Lucas-Kanade that counts its calls and the frames it goes through."""

    calls: list[tuple[int, int]] = field(default_factory=list)
    """Points and frames of each call."""

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        self.calls.append((len(queries.points_xy_px), len(frame_range)))
        return LucasKanade().track(frames, queries, frame_range)


@dataclass
class Unsettled(RecordingSegmenter):
    """Its mask is another one with every call, for the first ``unsettled_rows`` objects."""

    unsettled_rows: int = 2

    def segment(self, *args: Any, **options: Any) -> Segmentation:
        found = super().segment(*args, **options)
        if len(self.calls) % 2:
            found.low_res_logits[: self.unsettled_rows] *= -1
        return found


def opened(
    name: str, segmenter: Segmenter, points: CountedPoints, frames: FrameSource | None = None, *, memory: bool = False
) -> TrackedVideo:
    frames = frames or SCENE.frames
    if name == "sam_pt":
        return SamPt(segmenter, points, EmbeddingCache(64), SamPtSettings(refinement_iterations=2)).open(frames)
    settings = IPtSettings(memory_interval_frames=3, use_memory=memory)
    return IPt(segmenter, points, OpenCvTemplate(), EmbeddingCache(64), settings).open(frames)


def begun(video: TrackedVideo) -> list[PropagationPass]:
    """The passes, after a round has begun for each object."""
    memories = {}
    for object_id in (1, 2):
        anchors = tuple(Anchor(at, SCENE.masks[object_id][at]) for each, at, _ in PASSES if each == object_id)
        indices = frozenset(index for each, _, order in PASSES if each == object_id for index in order)
        memories[object_id] = video.begin_round(ObjectRound(object_id, 1, anchors, indices))
    return [
        PropagationPass(Anchor(at, SCENE.masks[object_id][at]), order, memories[object_id])
        for object_id, at, order in PASSES
    ]


def by_pass(found: Iterator[tuple[int, Estimate]]) -> dict[int, list[Estimate]]:
    masks: dict[int, list[Estimate]] = {}
    for position, estimate in found:
        masks.setdefault(position, []).append(estimate)
    return masks


@pytest.mark.parametrize("segmenter", [oracle_segmenter, lite_segmenter])
@pytest.mark.parametrize("method", ["i_pt", "sam_pt"])
def test_together_each_object_gets_the_mask_it_gets_alone(method: str, segmenter: type[Segmenter]) -> None:
    """Two passes of different objects; passes of one object share its memory, and see what the other stored."""
    n_frames = 10 if segmenter is oracle_segmenter else 3
    for chosen in ((0, 1), (3, 2))[: 2 if segmenter is oracle_segmenter else 1]:
        video = opened(method, segmenter(), CountedPoints(), memory=True)
        passes = [replace(each, frame_indices=each.frame_indices[:n_frames]) for each in begun(video)]
        together = by_pass(video.propagate_together([passes[position] for position in chosen]))
        for row, position in enumerate(chosen):
            video = opened(method, segmenter(), CountedPoints(), memory=True)
            given = begun(video)[position]
            alone = list(video.propagate(given.anchor, given.frame_indices[:n_frames], given.memory))
            assert [each.frame_index for each in together[row]] == list(PASSES[position][2][:n_frames])
            for one, other in zip(alone, together[row], strict=True):
                assert one.frame_index == other.frame_index
                assert one.score == pytest.approx(other.score, abs=1e-6)
                np.testing.assert_array_equal(one.logits > 0, other.logits > 0)
                np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)


def test_objects_on_the_same_frame_are_decoded_and_tracked_in_one_call() -> None:
    segmenter, points = Unsettled(), CountedPoints()
    video = opened("i_pt", segmenter, points)
    passes = begun(video)
    segmenter.calls.clear()
    found = [(position, each.frame_index) for position, each in video.propagate_together(passes[:2])]
    assert found == [(position, index) for index in range(1, 14) for position in (0, 1)]
    assert {len(call.prompts) for call in segmenter.calls} == {2}
    assert len(segmenter.calls) == 5 * 13, "as many as for one object"
    assert points.calls == [(18, 9), (18, 6)]


def test_an_object_whose_mask_has_converged_takes_no_part_in_later_iterations() -> None:
    segmenter = Unsettled(unsettled_rows=1)
    video = opened("i_pt", segmenter, CountedPoints())
    passes = begun(video)
    segmenter.calls.clear()
    list(video.propagate_together([replace(each, frame_indices=range(1, 2)) for each in passes[:2]]))
    assert [len(call.prompts) for call in segmenter.calls] == [2, 2, 2, 1, 1]


def test_passes_take_turns() -> None:
    video = opened("sam_pt", RecordingSegmenter(), CountedPoints())
    found = [(position, each.frame_index) for position, each in video.propagate_together(begun(video))]
    assert found[:6] == [(0, 1), (1, 1), (2, 19), (3, 7), (0, 2), (1, 2)]
    assert Counter(position for position, _ in found) == {k: len(order) for k, (*_, order) in enumerate(PASSES)}


def test_a_frame_that_cannot_be_read_yields_nothing_for_any_object() -> None:
    frames = ArrayFrames(list(SCENE.images), frozenset({5, 8}))
    video = opened("i_pt", RecordingSegmenter(), CountedPoints(), frames)
    found = by_pass(video.propagate_together(begun(video)[:2]))
    for row in (0, 1):
        assert [each.frame_index for each in found[row]] == [index for index in range(1, 14) if index not in (5, 8)]


def test_closing_ends_the_passes() -> None:
    video = opened("i_pt", RecordingSegmenter(), CountedPoints())
    running = video.propagate_together(begun(video))
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert next(running, None) is None


def test_flow_and_reduced_frames_are_computed_once_for_all_objects() -> None:
    reads = []
    for n_objects in (1, 2):
        frames = SCENE.frames
        video = opened("i_pt", RecordingSegmenter(uses_mask_prior=True), CountedPoints(), frames)
        passes = begun(video)[:n_objects]
        frames.reads = [0] * N_FRAMES
        list(video.propagate_together(passes))
        reads.append(sum(frames.reads))
    assert reads[0] == reads[1]


def sam_pt(segmenter: Segmenter, points: CountedPoints, frames: FrameSource, restart: str) -> TrackedVideo:
    settings = SamPtSettings(refinement_iterations=0, restart=restart, restart_frames=4)
    return SamPt(segmenter, points, EmbeddingCache(64), settings).open(frames)


@pytest.mark.parametrize("restart", ["median_area", "similar_area", "similar_area_together"])
def test_a_restart_that_looks_back_takes_at_most_twice_as_long(restart: str) -> None:
    """The object shrinks, so that the mask most like the first one is always the first of the horizon."""
    shrinking = scene("shrinks")
    segmenter, n_frames = RecordingSegmenter(), len(shrinking.images)
    video = sam_pt(segmenter, CountedPoints(), shrinking.frames, restart)
    anchor = Anchor(0, shrinking.masks[1][0])
    memory = video.begin_round(ObjectRound(1, 1, (anchor,), frozenset(range(1, n_frames))))
    segmenter.calls.clear()
    found = [each.frame_index for each in video.propagate(anchor, range(1, n_frames), memory)]
    assert found == list(range(1, n_frames))
    assert len(segmenter.calls) / 2 <= 2 * n_frames


def test_objects_that_restart_together_have_each_other_s_points_as_negative_ones() -> None:
    segmenter, points = RecordingSegmenter(), CountedPoints()
    video = sam_pt(segmenter, points, SCENE.frames, "similar_area_together")
    passes = begun(video)[:2]
    segmenter.calls.clear()
    found = by_pass(video.propagate_together(passes))
    assert [[each.frame_index for each in found[row]] for row in (0, 1)] == [list(range(1, 14))] * 2
    assert {n_points for n_points, _ in points.calls} == {18}, "both restart on the same frames"
    first = segmenter.calls[1].prompts
    for own, other in (first, first[::-1]):
        negative = {tuple(point) for point in own.points_xy_px[~own.positive].tolist()}
        assert own.positive.sum() == 8
        assert {tuple(point) for point in other.points_xy_px[other.positive].tolist()} <= negative


@pytest.mark.parametrize(("restart", "n_calls"), [("auto", 1), ("never", 1), ("horizon", 4)])
def test_a_tracker_that_keeps_its_points_restarts_only_when_told_to(restart: str, n_calls: int) -> None:
    class KeptPoints(CountedPoints):
        keeps_points = True

    points = KeptPoints()
    video = sam_pt(RecordingSegmenter(), points, SCENE.frames, restart)
    list(video.propagate_together(begun(video)[:1]))
    assert len(points.calls) == n_calls


def test_the_long_term_trackers_say_so() -> None:
    assert all(each.keeps_points for each in (Pips, CoTracker, Tapir))
    for each in (LucasKanade, XFeatTracker, RaftTracker):
        assert not hasattr(each, "keeps_points")


def test_opening_a_video_reads_no_frame() -> None:
    class Unread(ArrayFrames):
        @property
        def size_hw_px(self) -> tuple[int, int]:
            raise AssertionError("the size is known once a frame was read")

    frames = Unread(list(SCENE.images))
    for name in ("i_pt", "sam_pt"):
        opened(name, RecordingSegmenter(), CountedPoints(), frames)
    assert not any(frames.reads)


class OffBox:
    """The object's true box, a quarter of its width beside it, and not sure of itself."""

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:  # noqa: ARG002
        boxes = np.array([bounding_box(MOVING.masks[1][index]) for index in frame_range], np.float32)
        boxes[:, ::2] += 0.25 * (boxes[:, 2] - boxes[:, 0])[:, None]
        return BoxTracks(frame_range, boxes, np.full(len(boxes), 0.7, np.float32))


def test_a_tracked_box_that_is_off_does_not_cut_the_mask_off() -> None:
    """Its overlap with the true box is 0.6, as measured for the template tracker."""
    method = replace(oracle_method("i_pt"), box_tracker=OffBox())  # type: ignore[type-var]
    session = Session(MOVING.frames, method)
    list(session.run_round([mask_prompt(MOVING, 0)], object_ids=[1]))
    assert min(ious(session, MOVING)) > 0.9


def vanishing(n_frames: int) -> tuple[list[FrameRGB], BoolMask]:
    """A red square that is gone from frame 5 on, and its mask."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, (48, 64, 1)).repeat(3, axis=2).astype(np.uint8)
    ground[..., 0] //= 2
    shown, mask = ground.copy(), np.zeros((48, 64), np.bool_)
    mask[16:32, 20:40] = True
    shown[mask, 0] = 250
    return [shown] * 5 + [ground] * (n_frames - 5), mask


@pytest.mark.parametrize("restart", ["horizon", "median_area", "similar_area", "similar_area_together"])
def test_trackers_go_through_a_number_of_frames_in_proportion_to_the_clip_also_for_a_lost_object(restart: str) -> None:
    tracked = {}
    for n_frames in (240, 960):
        images, mask = vanishing(n_frames)
        points = CountedPoints()
        settings = SamPtSettings(refinement_iterations=0, restart=restart)
        video = SamPt(RecordingSegmenter(), points, EmbeddingCache(64), settings).open(ArrayFrames(images))
        anchor = Anchor(0, mask)
        memory = video.begin_round(ObjectRound(1, 1, (anchor,), frozenset(range(1, n_frames))))
        found = list(video.propagate(anchor, range(1, n_frames), memory))
        assert sum(bool((each.logits > 0).any()) for each in found) == 4
        tracked[n_frames] = sum(n for _, n in points.calls)
    assert tracked[240] <= 4 * 240
    assert tracked[960] <= 4 * 960
