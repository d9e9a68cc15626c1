"""The interface of box trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.trackers.frames import check_range
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class BoxQuery:
    """A box to follow, x0, y0, x1, y1 in pixels of the original frame ``frame_index``."""

    frame_index: int
    box_xyxy_px: tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxTracks:
    """Where the box went: ``boxes_xyxy_px`` (T, 4) float32 and ``scores`` (T,) float32 in [0, 1]."""

    frame_indices: range
    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]


def nothing_found(query: BoxQuery, frame_range: range) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (T, 4) that stay where the query's is, and scores (T,) of 0: what a tracker fills in, both float32.

    Raises:
        ValueError: the range cannot be tracked; see `pipeline.trackers.frames.check_range`.
    """
    check_range(query.frame_index, frame_range)
    boxes = np.tile(np.array(query.box_xyxy_px, np.float32), (len(frame_range), 1))
    return boxes, np.zeros(len(frame_range), np.float32)


class BoxTracker(Protocol):
    """Follows one box from frame to frame, in either direction. Safe to call from several threads."""

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:
        """Follow the box over ``frame_range``, which starts at the query frame and may step by 1 or -1.

        A frame that cannot be read keeps the last box with score 0.
        """
        ...
