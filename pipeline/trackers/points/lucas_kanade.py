"""Pyramidal Lucas-Kanade with a forward-backward check: followed back, a visible point returns to its start."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.frames import check_range, reduced_grey
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.video.frames import FrameSource

_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)


@dataclass(frozen=True)
class LucasKanade:
    """See `pipeline.trackers.points.base.PointTracker`. Lengths are in pixels of the reduced frame."""

    long_side_px: int = 640
    window_px: int = 21
    levels: int = 4
    max_return_error_px: float = 1.5

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow points over a range of frames; a point lost once stays lost: invisible, its place unknown (NaN)."""
        check_range(queries.frame_index, frame_range)
        n_points = len(queries.points_xy_px)
        tracks = np.repeat(queries.points_xy_px[None].astype(np.float32), len(frame_range), axis=0)
        visible = np.zeros((len(frame_range), n_points), np.bool_)
        previous, scale = reduced_grey(frames, frame_range[0], self.long_side_px)
        alive = np.full(n_points, previous is not None)
        visible[0] = alive
        positions = queries.points_xy_px.astype(np.float32) * scale
        for row, frame_index in enumerate(frame_range[1:], start=1):
            image, _ = reduced_grey(frames, frame_index, self.long_side_px)
            if image is not None and previous is not None and alive.any():
                positions[alive], found = self._step(previous, image, positions[alive])
                alive[alive] = found
                visible[row] = alive
            tracks[row] = np.where(alive[:, None], positions / scale, np.nan)
            previous = image if image is not None else previous
        return PointTracks(frame_range, tracks, visible)

    def _step(
        self, previous: NDArray[np.uint8], image: NDArray[np.uint8], points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """New positions (N, 2) and whether each was found, by following forward and back."""
        options = {"winSize": (self.window_px, self.window_px), "maxLevel": self.levels, "criteria": _CRITERIA}
        start = np.ascontiguousarray(points.reshape(-1, 1, 2))
        moved, ok, _ = cv2.calcOpticalFlowPyrLK(previous, image, start, None, **options)  # type: ignore[call-overload]
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(image, previous, moved, None, **options)  # type: ignore[call-overload]
        error = np.linalg.norm(back - start, axis=2).ravel()
        moved = moved.reshape(-1, 2)
        height, width = image.shape
        inside = ((moved >= 0) & (moved <= (width - 1, height - 1))).all(axis=1)
        found = (ok.ravel() == 1) & (ok_back.ravel() == 1) & (error <= self.max_return_error_px) & inside
        return np.where(found[:, None], moved, points).astype(np.float32), found


def build(context: PartContext) -> LucasKanade:  # noqa: ARG001
    """The tracker with its default settings; it needs no weights."""
    return LucasKanade()
