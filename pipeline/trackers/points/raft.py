"""Optical flow of RAFT, chained from frame to frame, with a forward-backward check."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.frames import WorkingSize, check_range
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class RaftTracker:
    """See `pipeline.trackers.points.base.PointTracker`.

    A point goes where the flow at its place leads. It is lost, once and for all, where it leaves the image, and where
    flow w and the flow back w' from where it leads disagree: |w + w'|^2 > 0.01 (|w|^2 + |w'|^2) + 0.5 (Sundaram et
    al., "Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow", ECCV 2010, Eq. 5, in pixels
    of the working size). Their second rule, to stop at motion boundaries, is not used. A lost point is invisible,
    its place unknown (NaN).

    Attributes:
        network: as `model_zoo.point_trackers.load_raft` builds it: ``(image, image, num_flow_updates)``, images
            (B, 3, H, W) in [-1, 1], to a list of flows (B, 2, H, W), the last one the best.
        device: where the network is.
        long_side_px: frames are reduced to this; their sides are multiples of 8 px and at least 128.
        flow_updates: iterations of RAFT.
    """

    network: torch.nn.Module
    device: str = "cpu"
    long_side_px: int = 512
    flow_updates: int = 12
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """torchvision's RAFT keeps the correlations of a call in itself, so calls must not overlap."""

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow points over a range of frames; flow is computed once for all points of a pair of frames."""
        check_range(queries.frame_index, frame_range)
        size = WorkingSize.fitting(frames.size_hw_px, self.long_side_px)
        tracks = np.repeat(queries.points_xy_px[None].astype(np.float32), len(frame_range), axis=0)
        visible = np.zeros(tracks.shape[:2], np.bool_)
        previous = size.frame(frames, frame_range[0])
        alive = np.full(tracks.shape[1], previous is not None)
        visible[0] = alive
        positions = size.to_working(tracks[0])
        for row, frame_index in enumerate(frame_range[1:], start=1):
            image = size.frame(frames, frame_index) if alive.any() else None
            if image is not None and previous is not None:
                forward, back = self._flows(previous, image)
                positions[alive], alive[alive] = _step(positions[alive], forward, back)
                visible[row] = alive
                previous = image
            tracks[row] = np.where(alive[:, None], size.to_original(positions), np.nan)
        return PointTracks(frame_range, tracks, visible)

    def _flows(
        self, previous: NDArray[np.uint8], image: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Flow (H, W, 2) px from one frame to the other, and back."""
        pair = torch.from_numpy(np.stack([previous, image])).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with self._lock, torch.inference_mode():
            flows = self.network(pair, pair.flip(0), num_flow_updates=self.flow_updates)[-1]
        forward, back = flows.permute(0, 2, 3, 1).float().cpu().numpy()
        return forward, back


def _step(
    points: NDArray[np.float32], forward: NDArray[np.float32], back: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the flow takes points (N, 2), and which of them are still seen there."""
    there = _sampled(forward, points)
    moved = points + there
    height, width = forward.shape[:2]
    inside = ((moved >= 0) & (moved <= (width - 1, height - 1))).all(axis=1)
    returned = _sampled(back, moved)
    error = ((there + returned) ** 2).sum(axis=1)
    allowed = 0.01 * ((there**2).sum(axis=1) + (returned**2).sum(axis=1)) + 0.5
    return moved, inside & (error <= allowed)


def _sampled(flow: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The flow at points (N, 2), between pixels interpolated."""
    places = points.reshape(-1, 1, 2).astype(np.float32)
    sampled = cv2.remap(flow, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(sampled.reshape(-1, 2), np.float32)


def _build(variant: str, context: PartContext) -> RaftTracker:
    from model_zoo.point_trackers import load_raft

    return RaftTracker(load_raft(variant, context.weights(variant), context.device), context.device)


build_small, build_large = partial(_build, "raft_small"), partial(_build, "raft_large")
