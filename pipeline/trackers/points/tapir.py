"""TAPIR: a match of each point on each frame by itself, refined over time."""

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


@dataclass(frozen=True)
class Tapir:
    """See `pipeline.trackers.points.base.PointTracker`.

    A point is visible where (1 - sigmoid(occlusion)) (1 - sigmoid(expected distance)) exceeds a threshold (Doersch et
    al., "TAPIR", ICCV 2023, Sec. 3.3: probably seen and probably near). Run with the official code of
    google-deepmind/tapnet at commit c2cbab8 and random weights; never with published weights.

    Attributes:
        network: as `model_zoo.point_trackers.load_tapir` builds it: video (1, T, H, W, 3) in [-1, 1] and queries
            (1, N, 3) as (t, y, x), to ``tracks`` (1, N, T, 2) as (x, y) and the logits ``occlusion`` and
            ``expected_dist`` (1, N, T). Positions count from the corner of the image: the centre of the first pixel is
            at 0.5.
        device: where the network is.
        side_px: frames are resized to this square, in multiples of 8; 256 is what TAPIR was trained at, 512 refines
            at 256 and 512.
        visibility_threshold: in (0, 1); the authors' is 0.5.
        windows: how long ranges are cut.
    """

    keeps_points: ClassVar[bool] = True

    network: torch.nn.Module
    device: str = "cpu"
    side_px: int = 256
    visibility_threshold: float = 0.5
    windows: Windows = field(default_factory=Windows)

    def __post_init__(self) -> None:
        if self.side_px < 64 or self.side_px % 8:
            raise ValueError(f"TAPIR's working side must be a multiple of 8 of at least 64 px, but got {self.side_px}")

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow points over a range of frames; a hidden point has the place that the network believes it at."""
        size = WorkingSize(frames.size_hw_px, (self.side_px, self.side_px))
        return track_in_windows(frames, queries, frame_range, size, self.windows, self._predict)

    def _predict(
        self, video: NDArray[np.uint8], queries: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        frames = torch.from_numpy(video).to(self.device)[None].float() / 127.5 - 1
        points = torch.from_numpy(queries[:, [0, 2, 1]] + np.array([0, 0.5, 0.5], np.float32)).to(self.device)[None]
        with torch.inference_mode():
            found = self.network(frames, points)
            seen = (1 - torch.sigmoid(found["occlusion"])) * (1 - torch.sigmoid(found["expected_dist"]))
        visible = (seen[0] > self.visibility_threshold).T
        return found["tracks"][0].transpose(0, 1).float().cpu().numpy() - 0.5, visible.cpu().numpy()


def build(context: PartContext) -> Tapir:
    """The tracker with its authors' code and weights."""
    from model_zoo.point_trackers import load_tapir

    network = load_tapir(context.code("tapir"), context.weights("tapir"), context.device)
    return Tapir(network, context.device)
