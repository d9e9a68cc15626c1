"""What the segmenter is asked: never with negative points alone, and for one mask where a tracked point is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.methods.base import Anchor, ObjectRound
from pipeline.methods.per_object.prompt_tracking import PromptTracker, TrackingSettings
from pipeline.segmenters.base import ObjectPrompts
from pipeline.session.session import Session
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.types import PointPrompt
from pipeline.video.frames import FrameSource
from tests.oracle.methods import METHODS, mask_prompt, oracle_method
from tests.oracle.model import POSITIVE
from tests.oracle.scenes import scene
from tests.pipeline.frame_sources import ArrayFrames


class OnePoint:
    """A point that moves with the object of the scene "two_coloured", sometimes nearer to its left border."""

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:  # noqa: ARG002
        left_px = [np.nonzero(mask)[1].min() for mask in scene("two_coloured").masks[1]]
        places = [[(left_px[index] + (6 if index % 3 else 22), 96)] for index in frame_range]
        return PointTracks(frame_range, np.array(places, np.float32), np.ones((len(frame_range), 1), np.bool_))


def test_a_last_tracked_point_does_not_switch_between_part_and_whole() -> None:
    shown = scene("two_coloured")
    method = oracle_method("sam_pt", positive_points=1, negative_points=0, restart="never", refinement_iterations=0)
    video = type(method)(method.segmenter, OnePoint(), method.embeddings, method.settings).open(shown.frames)  # type: ignore[attr-defined, call-arg]
    anchor = Anchor(0, shown.masks[1][0], ObjectPrompts(np.array([[46, 96]], np.float32), np.array([True])))
    memory = video.begin_round(ObjectRound(1, 1, (anchor,), frozenset(range(1, 30))))
    areas_px = np.array([(each.logits > 0).sum() for each in video.propagate(anchor, range(1, 30), memory)])
    assert (areas_px[1:] / areas_px[:-1]).max() < 1.3


class HiddenPoints:
    """Points that are where they were, and hidden from the third frame on."""

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:  # noqa: ARG002
        points = np.repeat(queries.points_xy_px[None], len(frame_range), axis=0)
        visible = np.array([[index < 3] * len(queries.points_xy_px) for index in frame_range])
        return PointTracks(frame_range, points, visible)


@pytest.mark.parametrize("name", ["i_pt", "sam_pt"])
def test_without_a_visible_point_and_a_box_the_segmenter_is_not_asked(name: str) -> None:
    shown, options = scene("moves"), {"use_boxes": False, "find_lost": False} if name == "i_pt" else {}
    method = replace(oracle_method(name, **options), point_tracker=HiddenPoints())  # type: ignore[type-var, call-arg]
    segmenter, asked = method.segmenter, []  # type: ignore[attr-defined]
    decoder = segmenter._model.mask_decoder
    decoder.register_forward_pre_hook(lambda _m, _a, given: asked.append(given), with_kwargs=True)
    video = method.open(shown.frames)
    anchor = Anchor(0, shown.masks[1][0])
    memory = video.begin_round(ObjectRound(1, 1, (anchor,), frozenset(range(1, 8))))  # type: ignore[union-attr]
    found = list(video.propagate(anchor, range(1, 8), memory))  # type: ignore[union-attr]
    assert all((each["sparse_prompt_embeddings"][..., 2] == POSITIVE).any() for each in asked)
    assert [bool((each.logits > 0).any()) for each in found] == [True] * 2 + [False] * 5
    assert [each.score for each in found[2:]] == [0.5] * 5


@pytest.mark.parametrize(("turn_negative", "kept"), [(True, [True, False]), (False, [True])])
def test_hidden_points_turn_negative_in_i_pt_and_are_dropped_in_sam_pt(turn_negative: bool, kept: list[bool]) -> None:
    class OneHidden:
        def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:  # noqa: ARG002
            points = np.repeat(queries.points_xy_px[None], len(frame_range), axis=0)
            return PointTracks(frame_range, points, np.array([[True, False]] * len(frame_range)))

    shown = scene("moves")
    tracker = PromptTracker(OneHidden(), None, TrackingSettings(2, 0, hidden_turn_negative=turn_negative))
    ((_, prompts),) = tracker.follow(shown.frames, [Anchor(0, shown.masks[1][0])], range(2))
    assert prompts.positive.tolist() == kept


@pytest.mark.parametrize("method", METHODS)
def test_negative_clicks_alone_give_an_empty_mask_that_is_not_sure(method: str) -> None:
    shown = scene("moves")
    session = Session(shown.frames, oracle_method(method))
    (first, *_) = session.run_round([PointPrompt(1, 4, 20.0, 20.0, positive=False)], object_ids=[1])
    assert (first.frame_index, first.mask.area_px) == (4, 0)
    assert first.score == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_negative_clicks_alone_correct_the_mask_a_frame_had(method: str) -> None:
    shown = scene("two_coloured")
    session = Session(ArrayFrames(list(shown.images[:8])), oracle_method(method))
    given = [mask_prompt(shown, 0)]
    list(session.run_round(given, object_ids=[1]))
    before = {each.frame_index: each.mask.decode() for each in session.results(1)}[2]
    x_px = float(np.nonzero(shown.masks[1][2])[1].max() - 12)
    list(session.run_round([*given, PointPrompt(1, 2, x_px, 96.0, positive=False)], object_ids=[1]))
    after = {each.frame_index: each.mask.decode() for each in session.results(1)}[2]
    assert before[96, int(x_px)]
    assert not after[96, int(x_px)]
    assert 0.3 * before.sum() < after.sum() < before.sum()
