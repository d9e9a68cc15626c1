"""CoTracker, PIPS and TAPIR against stand-ins for their official code, which really look at what they are given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from model_zoo.point_trackers import load_cotracker, load_pips, load_tapir
from pipeline.trackers.points.base import PointQueries, PointTracker
from pipeline.trackers.points.cotracker import CoTracker
from pipeline.trackers.points.pips import Pips
from pipeline.trackers.points.tapir import Tapir
from pipeline.trackers.points.windowed import Windows
from tests.pipeline.trackers.points.known_motion import RedDisc, assert_follows
from tests.stand_ins import CO_TRACKER, PIPS, TAPNET

SHORT = Windows(frames=8, overlap_frames=4)
TRACKERS: dict[str, Callable[[], PointTracker]] = {
    "cotracker3": lambda: CoTracker(load_cotracker(CO_TRACKER, None), windows=SHORT),
    "pips": lambda: Pips(load_pips(PIPS, None)),
    "tapir": lambda: Tapir(load_tapir(TAPNET, None), windows=SHORT),
    "tapir at another size": lambda: Tapir(load_tapir(TAPNET, None), side_px=328, windows=SHORT),
    "pips at a reduced size": lambda: Pips(load_pips(PIPS, None), long_side_px=304),
}
RANGES = [range(0, 20), range(19, -1, -1), range(4, 9), range(12, 10, -1), range(7, 8)]

each_tracker = pytest.mark.parametrize("make", TRACKERS.values(), ids=TRACKERS.keys())


@each_tracker
@pytest.mark.parametrize("frame_range", RANGES, ids=str)
def test_points_follow_in_pixels_of_the_original_frame(make: Callable[[], PointTracker], frame_range: range) -> None:
    scene = RedDisc()
    assert_follows(scene, scene.track(make(), frame_range), frame_range)


@each_tracker
@pytest.mark.parametrize("frame_range", RANGES[:2], ids=str)
def test_hidden_points_are_invisible_and_found_again(make: Callable[[], PointTracker], frame_range: range) -> None:
    scene = RedDisc(hidden=frozenset({6, 7, 13}))
    assert_follows(scene, scene.track(make(), frame_range), frame_range)


@each_tracker
@pytest.mark.parametrize("frame_range", RANGES[:2], ids=str)
def test_unreadable_frames_are_bridged(make: Callable[[], PointTracker], frame_range: range) -> None:
    scene = RedDisc(broken=frozenset({5, 6, 14}))
    tracks = scene.track(make(), frame_range)
    assert_follows(scene, tracks, frame_range)
    for row, frame_index in enumerate(frame_range):
        if frame_index in scene.broken:
            np.testing.assert_array_equal(tracks.tracks_xy_px[row], tracks.tracks_xy_px[row - 1])


@each_tracker
def test_an_unreadable_last_frame_keeps_the_places(make: Callable[[], PointTracker]) -> None:
    scene = RedDisc(broken=frozenset({18, 19}))
    assert_follows(scene, scene.track(make(), range(20)), range(20))


@each_tracker
def test_nothing_is_known_from_an_unreadable_query_frame(make: Callable[[], PointTracker]) -> None:
    scene = RedDisc(broken=frozenset({0}))
    tracks = scene.track(make(), range(6))
    assert not tracks.visible.any()
    np.testing.assert_array_equal(tracks.tracks_xy_px[0], scene.points(0))
    assert np.isnan(tracks.tracks_xy_px[1:]).all()


@each_tracker
def test_no_points_give_no_tracks(make: Callable[[], PointTracker]) -> None:
    tracks = make().track(RedDisc().frames, PointQueries(0, np.zeros((0, 2), np.float32)), range(12))
    assert tracks.tracks_xy_px.shape == (12, 0, 2)
    assert tracks.visible.shape == (12, 0)


@each_tracker
@pytest.mark.parametrize("frame_range", [range(1, 5), range(0, 6, 2), range(0)], ids=str)
def test_a_range_that_does_not_start_at_the_query_is_refused(
    make: Callable[[], PointTracker], frame_range: range
) -> None:
    with pytest.raises(ValueError, match="query frame 0"):
        make().track(RedDisc().frames, PointQueries(0, np.zeros((1, 2), np.float32)), frame_range)


@each_tracker
def test_threads_do_not_disturb_each_other(make: Callable[[], PointTracker]) -> None:
    tracker, scene = make(), RedDisc()
    ranges = [range(0, 12), range(19, 5, -1), range(8, 20), range(10, -1, -1)]
    with ThreadPoolExecutor(4) as pool:
        for frame_range, tracks in zip(ranges, pool.map(lambda r: scene.track(tracker, r), ranges), strict=True):
            assert_follows(scene, tracks, frame_range)


@each_tracker
def test_long_ranges_are_tracked_piece_by_piece(make: Callable[[], PointTracker]) -> None:
    """The network never sees more frames than a window has, and each frame is read once."""
    tracker, scene = make(), RedDisc(n_frames=120, steps=0.2)
    lengths: list[int] = []
    network: torch.nn.Module = tracker.network  # type: ignore[attr-defined]
    network.register_forward_pre_hook(lambda _, args: lengths.append(max(a.shape[1] for a in args if a.ndim == 5)))
    assert_follows(scene, scene.track(tracker, range(120)), range(120))
    assert max(lengths) <= 8
    assert scene.frames.reads == [1] * 120


def test_a_point_hidden_for_a_whole_overlap_is_lost() -> None:
    scene = RedDisc(hidden=frozenset(range(4, 8)))
    tracks = scene.track(TRACKERS["cotracker3"](), range(20))
    assert tracks.visible[:4].all()
    assert not tracks.visible[4:].any()
    assert np.isnan(tracks.tracks_xy_px[8:]).all()


@pytest.mark.parametrize(("frames", "overlap"), [(8, 8), (8, 0), (1, 1), (4, 6)])
def test_windows_that_do_not_advance_are_refused(frames: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="windows of at least 2 frames"):
        Windows(frames, overlap)


class _Certain(torch.nn.Module):
    """Stands in for TAPIR: gives the same two logits everywhere."""

    def __init__(self, occlusion: float, expected_dist: float) -> None:
        super().__init__()
        self.values = occlusion, expected_dist

    def forward(self, video: torch.Tensor, query_points: torch.Tensor) -> dict[str, torch.Tensor]:
        shape = (1, query_points.shape[1], video.shape[1])
        occlusion, distance = (torch.full(shape, value) for value in self.values)
        return {"tracks": torch.zeros(*shape, 2), "occlusion": occlusion, "expected_dist": distance}


@pytest.mark.parametrize(
    ("occlusion", "expected_dist", "visible"),
    [(-3.0, -3.0, True), (3.0, -3.0, False), (-3.0, 3.0, False), (-0.5, -0.5, False), (-0.5, -9.0, True)],
)
def test_tapir_sees_what_is_probably_unoccluded_and_probably_near(
    occlusion: float, expected_dist: float, visible: bool
) -> None:
    tracks = RedDisc().track(Tapir(_Certain(occlusion, expected_dist)), range(4))
    assert (tracks.visible[1:] == visible).all()


def test_tapir_counts_from_the_corner_of_the_image() -> None:
    """Place 0 of its network is half a pixel left of the first pixel's centre."""
    tracks = RedDisc().track(Tapir(_Certain(-9.0, -9.0)), range(2))
    np.testing.assert_allclose(tracks.tracks_xy_px[1], -0.5, atol=1e-4)


@pytest.mark.parametrize("side_px", [250, 32])
def test_tapir_refuses_sizes_that_its_network_cannot_take(side_px: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        Tapir(_Certain(0, 0), side_px=side_px)


class _Fading(torch.nn.Module):
    """Stands in for PIPS: nothing moves, and the given visibility fades within each piece. Records what it is given."""

    def __init__(self, visibility: list[float]) -> None:
        super().__init__()
        self.logits = torch.logit(torch.tensor(visibility))
        self.calls: list[tuple[float, int]] = []
        self.features: list[object] = []

    def forward(
        self, xys: torch.Tensor, rgbs: torch.Tensor, feat_init: object, iters: int, return_feat: bool
    ) -> tuple[object, ...]:
        assert return_feat
        self.calls.append((float(rgbs[0, 0].mean()), iters))
        self.features.append(feat_init)
        tracks = xys[:, None].expand(1, 8, xys.shape[1], 2)
        features = torch.arange(xys.shape[1] * 1.0)[None, :, None] if feat_init is None else feat_init
        return [tracks], [tracks], self.logits[None, :, None].expand(1, 8, xys.shape[1]), features, None


@pytest.mark.parametrize(
    ("visibility", "step"),
    [
        ([0.99] * 8, 7),
        ([0.99, 0.99, 0.95, 0.94, 0.2, 0.1, 0.1, 0.1], 3),
        ([0.99, 0.99, 0.895, 0.1, 0.1, 0.1, 0.1, 0.1], 2),
        ([0.99, 0.99, 0.1, 0.5, 0.89, 0.1, 0.87, 0.1], 4),
        ([0.01] * 8, 7),
    ],
)
def test_pips_links_pieces_where_the_point_is_seen(visibility: list[float], step: int) -> None:
    network, images = _Fading(visibility), [np.full((64, 96, 3), value, np.uint8) for value in range(24)]
    scene = RedDisc(n_frames=24)
    scene.frames.frames[:] = images
    scene.track(Pips(network, iterations=5), range(24))
    starts = [round(value) for value, _ in network.calls]
    assert starts == list(range(0, 23, step))
    assert {iterations for _, iterations in network.calls} == {5}
    assert network.features[0] is None
    for features in network.features[1:]:
        assert isinstance(features, torch.Tensor)
        assert features[0, :, 0].tolist() == [0.0, 1.0, 2.0]
