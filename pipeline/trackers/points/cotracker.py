"""CoTracker 3: all points of a window of frames, tracked together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.frames import WorkingSize
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.trackers.points.windowed import Windows, track_in_windows
from pipeline.video.frames import FrameSource

WORKING_HW_PX = (384, 512)
"""What CoTracker 3 was trained at; its predictor resizes to it, whatever it gets."""


@dataclass(frozen=True)
class CoTracker:
    """See `pipeline.trackers.points.base.PointTracker`.

    The predictor of Karaev et al., "CoTracker3", 2024, adds a grid of support points itself and calls a point visible
    above a visibility of 0.9, a constant of its code. Run with the official code at commit 82e02e8 and random
    weights; never with published weights.

    Attributes:
        network: as `model_zoo.point_trackers.load_cotracker` builds it: video (1, T, 3, H, W) in [0, 255] and queries
            (1, N, 3) as (t, x, y) px, to tracks (1, T, N, 2) px and visible (1, T, N) bool.
        device: where the network is.
        windows: how long ranges are cut; CoTracker 3 was trained on up to 60 frames. On a CPU a process with windows of
            32 frames grew to 4 GiB, with 48 to 5 GiB.
    """

    keeps_points: ClassVar[bool] = True

    network: torch.nn.Module
    device: str = "cpu"
    windows: Windows = field(default_factory=lambda: Windows(frames=32, overlap_frames=16))

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow points over a range of frames; a hidden point has the place that the network believes it at."""
        size = WorkingSize(frames.size_hw_px, WORKING_HW_PX)
        return track_in_windows(frames, queries, frame_range, size, self.windows, self._predict)

    def _predict(
        self, video: NDArray[np.uint8], queries: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        frames = torch.from_numpy(video).to(self.device).permute(0, 3, 1, 2)[None].float()
        points = torch.from_numpy(queries).to(self.device)[None]
        with torch.inference_mode():
            tracks, visible = self.network(frames, queries=points)
        return tracks[0].float().cpu().numpy(), visible[0].cpu().numpy()


def build(context: PartContext) -> CoTracker:
    """The tracker with its authors' code and weights."""
    from model_zoo.point_trackers import load_cotracker

    network = load_cotracker(context.code("cotracker3"), context.weights("cotracker3"), context.device)
    return CoTracker(network, context.device)
