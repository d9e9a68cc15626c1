# ruff: noqa: ARG002
"""Stand-in for cotracker/predictor.py of the official code of CoTracker."""

import torch
from torch import nn

torch.manual_seed(0)


def red_places(video):
    """Centres (T, 2) xy in pixels of the red thing on frames (T, 3, H, W) in [0, 255], and whether it is there (T,)."""
    assert video.shape[1] == 3
    assert 100 < video.max() <= 255
    assert video.min() >= 0
    red = (video[:, 0] - video[:, 1:].amax(1) - 60).clamp(min=0)
    mass = red.sum((1, 2))
    y = torch.arange(red.shape[1], dtype=torch.float32)
    x = torch.arange(red.shape[2], dtype=torch.float32)
    centre = torch.stack([(red.sum(1) * x).sum(1), (red.sum(2) * y).sum(1)], 1) / mass.clamp(min=1)[:, None]
    return centre, mass > 1000


class CoTrackerPredictor(nn.Module):
    """A point keeps its place beside the red thing, as it was on the frame of its query."""

    def __init__(self, checkpoint="./checkpoints/scaled_offline.pth", offline=True, v2=False, window_len=60):
        super().__init__()
        assert checkpoint is None
        assert offline
        assert not v2
        self.model = nn.Linear(2, 1)

    @torch.no_grad()
    def forward(
        self,
        video,
        queries=None,
        segm_mask=None,
        grid_size=0,
        grid_query_frame=0,
        backward_tracking=False,
    ):
        """As upstream: (1, T, 3, H, W) and (1, N, 3) as (t, x, y) to tracks (1, T, N, 2) and visible (1, T, N)."""
        assert grid_size == 0
        places, seen = red_places(video[0])
        times = queries[0, :, 0].long()
        assert seen[times].all(), "a query where the point is hidden"
        beside = queries[0, :, 1:] - places[times]
        tracks = places[:, None] + beside[None]
        tracks[~seen] = 0.0
        return tracks[None], seen[None, :, None].expand(1, -1, len(times))
