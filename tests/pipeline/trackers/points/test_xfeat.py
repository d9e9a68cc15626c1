"""XFeat follows what moves, says what it lost, and finds it again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model_zoo.xfeat import XFeat, load_xfeat
from pipeline.trackers.points import sampling
from pipeline.trackers.points.base import PointQueries, PointTracker
from pipeline.trackers.points.lucas_kanade import LucasKanade
from pipeline.trackers.points.xfeat import XFeatTracker, best_match, sampled
from tests.clips import Clip, has_shared_clips, real_or_rendered
from tests.pipeline.frame_sources import ArrayFrames
from tests.tiny_xfeat import write_like_xfeat
from tests.weights import MIRROR, has_shared_weights

STEP_XY_PX = np.array([7.0, -3.0], np.float32)
POINTS = np.array([[150, 150], [220, 90], [260, 190], [180, 120], [240, 150]], np.float32)


@pytest.fixture(scope="module", params=["real where there is one", "generated"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> XFeat:
    """XFeat, and a network of random filters with the same shapes; in a clone without the mirror only the latter."""
    if request.param != "generated" and has_shared_weights():
        return load_xfeat(MIRROR / "xfeat" / "xfeat.onnx")
    return load_xfeat(write_like_xfeat(tmp_path_factory.mktemp("xfeat") / "xfeat.onnx"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.uint8]]:
    """12 frames (240, 420) that pan over the first frame of a clip, so that its content moves by STEP_XY_PX a frame."""
    whole = real_or_rendered("dog", tmp_path_factory.mktemp("clip")).frames.frame(0)
    whole = np.asarray(cv2.resize(whole, (640, 360), interpolation=cv2.INTER_AREA), np.uint8)
    frames = []
    for index in range(12):
        x, y = (np.array([120.0, 40.0]) - index * STEP_XY_PX).round().astype(int)
        frames.append(np.ascontiguousarray(whole[y : y + 240, x : x + 420]))
    return frames


def _follow(
    tracker: PointTracker, frames: ArrayFrames, frame_range: range
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Errors (T, N) px and visibility (T, N) of points that lie at POINTS on frame 0."""
    truth = POINTS + np.arange(len(frames))[:, None, None] * STEP_XY_PX
    tracks = tracker.track(frames, PointQueries(frame_range[0], truth[frame_range[0]].astype(np.float32)), frame_range)
    np.testing.assert_array_equal(tracks.tracks_xy_px[0], truth[frame_range[0]])
    errors = np.linalg.norm(tracks.tracks_xy_px - truth[list(frame_range)], axis=2)
    return errors.astype(np.float32), tracks.visible


@pytest.mark.parametrize("frame_range", [range(0, 9), range(8, -1, -1), range(3, 5)], ids=str)
def test_points_follow_in_pixels_of_the_original_frame(
    network: XFeat, scene: list[NDArray[np.uint8]], frame_range: range
) -> None:
    errors, visible = _follow(XFeatTracker(network), ArrayFrames(scene), frame_range)
    assert visible.mean() >= 0.8
    assert np.median(errors[visible]) < 2.0
    assert errors[visible].max() < 6.0


def test_hidden_points_are_unknown_and_found_again(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    """Where Lucas-Kanade loses a point for good."""
    frames = list(scene[:9])
    for index in (3, 4, 5):
        frames[index] = np.random.default_rng(index).integers(0, 255, frames[index].shape, np.uint8)
    errors, visible = _follow(XFeatTracker(network), ArrayFrames(frames), range(9))
    assert visible[3:6].mean() < 0.2
    assert np.isnan(errors[~visible]).all()
    assert visible[6:].mean() > 0.8
    assert np.median(errors[6:][visible[6:]]) < 2.0
    assert not _follow(LucasKanade(), ArrayFrames(frames), range(9))[1][6:].any()


def test_the_search_widens_while_a_point_is_not_seen(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    blank = np.full_like(scene[0], 128)
    frames = ArrayFrames([scene[0], *[blank] * 8, *scene[9:]])
    settings = {"search_cells": 3.0, "distance_cost": 0.05}
    _, widening = _follow(XFeatTracker(network, growth_cells=2.0, **settings), frames, range(10))
    _, fixed = _follow(XFeatTracker(network, growth_cells=0.0, **settings), frames, range(10))
    assert widening[9].mean() > 0.8
    assert not fixed[9].any()


def test_points_that_leave_the_image_become_invisible(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    start = np.array([[402, 110], [210, 110]], np.float32)
    tracks = XFeatTracker(network).track(ArrayFrames(scene), PointQueries(0, start), range(10))
    assert not tracks.visible[7:, 0].any()
    assert tracks.visible[7:, 1].any()


def test_an_unreadable_frame_is_bridged(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    tracker, points = XFeatTracker(network), PointQueries(0, POINTS)
    tracks = tracker.track(ArrayFrames(scene, frozenset({3})), points, range(6))
    assert not tracks.visible[3].any()
    assert tracks.visible[4:].mean() > 0.9
    np.testing.assert_array_equal(tracks.tracks_xy_px[3], tracks.tracks_xy_px[2])


def test_nothing_is_known_from_an_unreadable_query_frame(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    frames = ArrayFrames(scene, frozenset({0}))
    tracks = XFeatTracker(network).track(frames, PointQueries(0, POINTS), range(4))
    assert not tracks.visible.any()
    assert np.isnan(tracks.tracks_xy_px[1:]).all()
    np.testing.assert_array_equal(tracks.tracks_xy_px[0], POINTS)


def test_no_points_give_no_tracks(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    tracks = XFeatTracker(network).track(ArrayFrames(scene), PointQueries(0, np.zeros((0, 2), np.float32)), range(3))
    assert tracks.tracks_xy_px.shape == (3, 0, 2)


def test_threads_do_not_disturb_each_other(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    tracker, ranges = XFeatTracker(network), [range(0, 4), range(8, 4, -1), range(2, 6)]
    alone = [_follow(tracker, ArrayFrames(scene), frame_range)[0] for frame_range in ranges]
    with ThreadPoolExecutor(3) as pool:
        together = pool.map(lambda r: _follow(tracker, ArrayFrames(scene), r)[0], ranges)
        for expected, found in zip(alone, together, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_range_that_does_not_start_at_the_query_is_refused(network: XFeat, scene: list[NDArray[np.uint8]]) -> None:
    with pytest.raises(ValueError, match="query frame 3"):
        XFeatTracker(network).track(ArrayFrames(scene), PointQueries(3, POINTS), range(5))


def _share_inside(clip: Clip, tracker: PointTracker, n_frames: int) -> tuple[float, float]:
    """Of points from inside the object on frame 0: the share inside it later among the visible ones, and among all."""
    grey = cv2.cvtColor(clip.frames.frame(0), cv2.COLOR_RGB2GRAY)
    core = cv2.erode(clip.mask(0).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    points = sampling.sample("mixed", grey, core, 16, np.random.default_rng(0)).astype(np.float32)
    tracks = tracker.track(clip.frames, PointQueries(0, points), range(n_frames))
    inside = 0
    for row in range(1, n_frames):
        x, y = tracks.tracks_xy_px[row][tracks.visible[row]].round().astype(int).T
        inside += int(np.pad(clip.mask(row), 8)[y + 8, x + 8].sum())
    return inside / max(1, int(tracks.visible[1:].sum())), inside / tracks.visible[1:].size


@pytest.mark.long
def test_on_a_real_clip_it_keeps_more_points_on_the_object_than_lucas_kanade(tmp_path: Path) -> None:
    clip = real_or_rendered("tennis", tmp_path)
    if not (has_shared_weights() and has_shared_clips()):
        generated = load_xfeat(write_like_xfeat(tmp_path / "xfeat.onnx"))
        right, _ = _share_inside(clip, XFeatTracker(generated), 8)
        assert right > 0.5
        return
    right, kept = _share_inside(clip, XFeatTracker(load_xfeat(MIRROR / "xfeat" / "xfeat.onnx")), 25)
    _, kept_by_flow = _share_inside(clip, LucasKanade(), 25)
    assert right > 0.85
    assert kept > kept_by_flow + 0.15


@pytest.mark.parametrize(
    ("peak", "radius", "expected"),
    [
        ((5.0, 3.0), 9.0, (5.0, 3.0)),
        ((5.3, 2.8), 9.0, (5.3, 2.8)),
        ((0.0, 0.0), 99.0, (0.0, 0.0)),
        ((9.0, 5.0), 99.0, (9.0, 5.0)),
        ((9.0, 3.0), 2.0, (5.0, 3.0)),
    ],
)
def test_the_best_match_is_found_between_cells_and_within_the_radius(
    peak: tuple[float, float], radius: float, expected: tuple[float, float]
) -> None:
    y, x = np.mgrid[:6, :10].astype(np.float32)
    angle = np.minimum(0.2 * np.hypot(x - peak[0], y - peak[1]), 1.5)
    maps = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    found = best_match(maps, np.array([[1, 0]], np.float32), np.array([[3, 3]], np.float32), np.array([radius]), 0.0)
    np.testing.assert_allclose(found, [expected], atol=0.06)


def test_distance_decides_between_equals() -> None:
    maps = np.tile(np.array([0, 1], np.float32), (1, 12, 1))
    maps[0, [1, 6]] = (1, 0)
    at = np.array([[3.0, 0.0], [5.0, 0.0]], np.float32)
    found = best_match(maps, np.array([[1, 0], [1, 0]], np.float32), at, np.array([9.0, 9.0]), 0.1)
    np.testing.assert_allclose(found[:, 0], [1, 6])


def test_sampling_between_cells() -> None:
    maps = np.zeros((2, 3, 2), np.float32)
    maps[..., 0], maps[0, 1], maps[1, 2] = 1, (0, 1), (0, 1)
    places = np.array([[0, 0], [0.5, 0], [1, 0], [9, 9], [-4, 0.5]], np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(sampled(maps, places), [[1, 0], [half, half], [0, 1], [0, 1], [1, 0]], atol=1e-6)
