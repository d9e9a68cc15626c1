"""Chained flow: stand-ins that know the flow, and RAFT itself with random weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from model_zoo.point_trackers import load_raft
from pipeline.trackers.points.base import PointQueries
from pipeline.trackers.points.raft import RaftTracker
from tests.pipeline.trackers.points.known_motion import RedDisc, assert_follows


class _DiscFlow(torch.nn.Module):
    """Stands in for RAFT: what is red moves as the red disc does, all else stays. Refuses overlapping calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[int, ...], int]] = []
        self.busy = False

    def forward(self, image1: torch.Tensor, image2: torch.Tensor, num_flow_updates: int = 12) -> list[torch.Tensor]:
        assert not self.busy, "calls overlap"
        self.busy = True
        self.calls.append((tuple(image1.shape), num_flow_updates))
        assert -1 <= image1.min() < 0 < image1.max() <= 1
        (red1, centres1), (red2, centres2) = self._red(image1), self._red(image2)
        flow = (centres2 - centres1)[:, :, None, None] * torch.nn.functional.max_pool2d(red1[:, None], 9, 1, 4)
        assert red2.shape == red1.shape
        self.busy = False
        return [torch.zeros_like(flow), flow]

    @staticmethod
    def _red(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        red = (images[:, 0] - images[:, 1:].amax(1) > 0.5).float()
        y = torch.arange(red.shape[1], dtype=torch.float32)
        x = torch.arange(red.shape[2], dtype=torch.float32)
        centre = torch.stack([(red.sum(1) * x).sum(1), (red.sum(2) * y).sum(1)], 1)
        return red, centre / red.sum((1, 2)).clamp(min=1)[:, None]


class _Constant(torch.nn.Module):
    """Stands in for RAFT: the same flow everywhere, one forward and one back."""

    def __init__(self, forward: tuple[float, float], back: tuple[float, float]) -> None:
        super().__init__()
        self.flows = torch.tensor([forward, back])

    def forward(self, image1: torch.Tensor, _image2: torch.Tensor, num_flow_updates: int) -> list[torch.Tensor]:  # noqa: ARG002
        return [self.flows[:, :, None, None].expand(2, 2, *image1.shape[2:])]


@pytest.mark.parametrize("frame_range", [range(0, 20), range(19, -1, -1), range(4, 9), range(7, 8)], ids=str)
@pytest.mark.parametrize("long_side_px", [512, 280])
def test_points_follow_the_flow_in_pixels_of_the_original_frame(frame_range: range, long_side_px: int) -> None:
    scene, network = RedDisc(), _DiscFlow()
    tracks = scene.track(RaftTracker(network, long_side_px=long_side_px, flow_updates=5), frame_range)
    assert_follows(scene, tracks, frame_range, within_px=2.0)
    assert len(network.calls) == len(frame_range) - 1
    for (batch, channels, height, width), updates in network.calls:
        assert (batch, channels, updates) == (2, 3, 5)
        assert height % 8 == width % 8 == 0
        assert min(height, width) >= 128
        assert max(height, width) <= long_side_px


@pytest.mark.parametrize(
    ("forward", "back", "visible"),
    [
        ((5.0, -3.0), (-5.0, 3.0), True),
        ((5.0, -3.0), (-5.5, 3.5), True),
        ((5.0, -3.0), (-4.0, 3.9), False),
        ((20.0, 0.0), (-18.0, 0.0), True),
        ((20.0, 0.0), (-16.0, 0.0), False),
        ((0.0, 0.0), (0.5, 0.4), True),
        ((0.0, 0.0), (0.6, 0.5), False),
    ],
)
def test_a_point_is_lost_where_flow_and_flow_back_disagree(
    forward: tuple[float, float], back: tuple[float, float], visible: bool
) -> None:
    """|w + w'|^2 against 0.01 (|w|^2 + |w'|^2) + 0.5."""
    tracks = RedDisc().track(RaftTracker(_Constant(forward, back)), range(3))
    assert tracks.visible[0].all()
    assert (tracks.visible[1] == visible).all()
    assert (np.isfinite(tracks.tracks_xy_px[1]) == visible).all()


def test_the_flow_back_is_that_of_the_place_where_the_point_arrives() -> None:
    class Jump(torch.nn.Module):
        def forward(self, image1: torch.Tensor, image2: torch.Tensor, num_flow_updates: int) -> list[torch.Tensor]:  # noqa: ARG002
            flows = torch.zeros(2, 2, *image1.shape[2:])
            flows[0, 0], flows[1, 0, :, 210:] = 40.0, -40.0
            return [flows]

    points = np.array([[190, 90], [100, 90]], np.float32)
    tracks = RaftTracker(Jump()).track(RedDisc().frames, PointQueries(0, points), range(2))
    assert tracks.visible[1].tolist() == [True, False]


def test_a_lost_point_stays_lost_and_no_more_flow_is_computed() -> None:
    scene = RedDisc()
    tracks = scene.track(RaftTracker(_Constant((9.0, 0.0), (9.0, 0.0))), range(8))
    assert not tracks.visible[1:].any()
    assert np.isnan(tracks.tracks_xy_px[1:]).all()
    assert scene.frames.reads == [1, 1] + [0] * 18


def test_points_that_leave_the_image_are_lost() -> None:
    points = np.array([[400, 90], [100, 90], [300, 170]], np.float32)
    network = _Constant((8.0, 4.0), (-8.0, -4.0))
    tracks = RaftTracker(network).track(RedDisc().frames, PointQueries(0, points), range(8))
    np.testing.assert_array_equal(tracks.visible.sum(axis=0), [3, 8, 3])


def test_an_unreadable_frame_is_bridged() -> None:
    scene = RedDisc(broken=frozenset({5, 6, 19}))
    tracks = scene.track(RaftTracker(_DiscFlow()), range(20))
    assert_follows(scene, tracks, range(20), within_px=2.0)
    np.testing.assert_array_equal(tracks.tracks_xy_px[6], tracks.tracks_xy_px[4])


def test_nothing_is_known_from_an_unreadable_query_frame() -> None:
    scene = RedDisc(broken=frozenset({0}))
    tracks = scene.track(RaftTracker(_DiscFlow()), range(4))
    assert not tracks.visible.any()
    assert np.isnan(tracks.tracks_xy_px[1:]).all()


def test_threads_take_turns() -> None:
    scene, tracker = RedDisc(), RaftTracker(_DiscFlow())
    ranges = [range(0, 12), range(19, 5, -1), range(8, 20), range(10, -1, -1)]
    with ThreadPoolExecutor(4) as pool:
        for frame_range, tracks in zip(ranges, pool.map(lambda r: scene.track(tracker, r), ranges), strict=True):
            assert_follows(scene, tracks, frame_range, within_px=2.0)


def test_a_range_that_does_not_start_at_the_query_is_refused() -> None:
    with pytest.raises(ValueError, match="query frame 3"):
        RaftTracker(_DiscFlow()).track(RedDisc().frames, PointQueries(3, np.zeros((1, 2), np.float32)), range(5))


@pytest.mark.parametrize("variant", ["raft_small", "raft_large"])
@pytest.mark.parametrize("frame_range", [range(0, 3), range(4, 1, -1)], ids=str)
def test_raft_itself_runs_with_random_weights(variant: str, frame_range: range) -> None:
    """Its last layer is set to zero, so that its flow is nought and every point stays where it is."""
    torch.manual_seed(0)
    network = load_raft(variant, None)
    last = network.get_submodule("update_block.flow_head.conv2")
    for parameter in last.parameters():
        parameter.zero_()
    scene = RedDisc()
    tracks = scene.track(RaftTracker(network, long_side_px=160, flow_updates=3), frame_range)
    assert tracks.visible.all()
    start = np.broadcast_to(scene.points(frame_range[0]), tracks.tracks_xy_px.shape)
    np.testing.assert_allclose(tracks.tracks_xy_px, start, atol=1e-3)


def test_raft_with_random_weights_gives_flow_of_the_right_shape() -> None:
    torch.manual_seed(1)
    tracks = RedDisc().track(RaftTracker(load_raft("raft_small", None), long_side_px=128, flow_updates=2), range(2))
    assert tracks.tracks_xy_px.shape == (2, 3, 2)
    assert (np.isfinite(tracks.tracks_xy_px[1]).all(axis=1) == tracks.visible[1]).all()
