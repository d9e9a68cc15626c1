"""Lucas-Kanade follows what moves and says what it lost."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.trackers.points import sampling
from pipeline.trackers.points.base import PointQueries
from pipeline.trackers.points.lucas_kanade import LucasKanade
from tests.pipeline.frame_sources import ArrayFrames, moving_square


@pytest.mark.parametrize("frame_range", [range(0, 8), range(7, -1, -1), range(3, 6), range(2, 3)])
def test_points_on_a_moving_square_move_with_it(frame_range: range) -> None:
    images, masks = moving_square()
    points = sampling.grid(np.roll(masks[frame_range[0]], 0), 40)
    inner = points[np.abs(points - points.mean(axis=0)).max(axis=1) < 15]
    tracks = LucasKanade().track(ArrayFrames(images), PointQueries(frame_range[0], inner), frame_range)
    assert tracks.tracks_xy_px.shape == (len(frame_range), len(inner), 2)
    assert tracks.visible[-1].mean() > 0.8
    moved = (tracks.tracks_xy_px[-1] - inner)[tracks.visible[-1]]
    expected = 3.0 * (frame_range[-1] - frame_range[0])
    assert np.median(np.abs(moved - (expected, 0.0)), axis=0) == pytest.approx((0.0, 0.0), abs=0.5)


def test_a_point_whose_surroundings_vanish_becomes_invisible() -> None:
    images, _ = moving_square()
    images[4:] = [np.random.default_rng(index).integers(0, 255, images[0].shape, np.uint8) for index in range(4)]
    points = np.array([[40, 60], [35, 65]], np.float32)
    tracks = LucasKanade().track(ArrayFrames(images), PointQueries(0, points), range(8))
    assert tracks.visible[:4].all()
    assert not tracks.visible[-1].any()


def test_an_unreadable_frame_is_bridged() -> None:
    images, _ = moving_square()
    points = np.array([[40, 60], [35, 65], [50, 55]], np.float32)
    tracks = LucasKanade().track(ArrayFrames(images, frozenset({3})), PointQueries(0, points), range(8))
    assert not tracks.visible[3].any()
    assert tracks.visible[4:].any(axis=1).all()


@pytest.mark.parametrize("frame_range", [range(1, 5), range(0, 6, 2), range(0)])
def test_a_range_that_does_not_start_at_the_query_is_refused(frame_range: range) -> None:
    images, _ = moving_square()
    with pytest.raises(ValueError, match="query frame 0"):
        LucasKanade().track(ArrayFrames(images), PointQueries(0, np.zeros((1, 2), np.float32)), frame_range)
