"""The interface of point trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class PointQueries:
    """Points to follow: ``points_xy_px`` (N, 2) float32 in pixels of the original frame ``frame_index``."""

    frame_index: int
    points_xy_px: NDArray[np.float32]


@dataclass(frozen=True)
class PointTracks:
    """Where points went: ``tracks_xy_px`` (T, N, 2) float32 px, ``visible`` (T, N) bool, a row per frame index.

    An invisible point has the place where it is hidden, or NaN where the tracker does not know.
    """

    frame_indices: range
    tracks_xy_px: NDArray[np.float32]
    visible: NDArray[np.bool_]


class PointTracker(Protocol):
    """Follows points from frame to frame, in either direction. Safe to call from several threads.

    A class with ``keeps_points = True`` keeps its points over any range: methods do not restart it unless told to.
    """

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow the points over ``frame_range``, which starts at the query frame and may step by 1 or -1.

        A frame that cannot be read keeps the last positions, with every point invisible.
        """
        ...
