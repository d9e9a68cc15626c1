"""What the segmenter is asked: never with negative points alone, and for one mask where a tracked point is left."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.methods.base import Anchor, ObjectRound
from pipeline.segmenters.base import ObjectPrompts
from pipeline.session.session import Session
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.types import PointPrompt
from pipeline.video.frames import FrameSource
from tests.oracle.methods import METHODS, mask_prompt, oracle_method
from tests.oracle.scenes import scene


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
    session = Session(shown.frames, oracle_method(method))
    given = [mask_prompt(shown, 0)]
    list(session.run_round(given, object_ids=[1]))
    before = {each.frame_index: each.mask.decode() for each in session.results(1)}[2]
    x_px = float(np.nonzero(shown.masks[1][2])[1].max() - 12)
    list(session.run_round([*given, PointPrompt(1, 2, x_px, 96.0, positive=False)], object_ids=[1]))
    after = {each.frame_index: each.mask.decode() for each in session.results(1)}[2]
    assert before[96, int(x_px)]
    assert not after[96, int(x_px)]
    assert 0.3 * before.sum() < after.sum() < before.sum()
