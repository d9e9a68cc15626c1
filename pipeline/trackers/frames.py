"""Frames for trackers: reduced in size, and None instead of an exception where one cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, FrameSource

REDUCED_MIB = 32
"""Bound of the reduced frames that `ReducedFrames` keeps; as many as 140 grey ones of 640 x 360 pixels."""


def check_range(query_frame_index: int, frame_range: range) -> None:
    """Check that a range can be tracked.

    Raises:
        ValueError: it does not start at the query frame or its step is neither 1 nor -1.
    """
    if not frame_range or frame_range[0] != query_frame_index or frame_range.step not in (1, -1):
        raise ValueError(
            f"frames to track must start at the query frame {query_frame_index} and step by 1 or -1, "
            f"but got {frame_range}"
        )


class ReducedFrames:
    """A `FrameSource` that keeps what `reduced` and `reduced_grey` make of its frames: all objects need the same.

    What it returns must not be changed. Not thread-safe.
    """

    def __init__(self, frames: FrameSource, limit_mib: float = REDUCED_MIB) -> None:
        self._frames = frames
        self._kept: LRUCache[tuple[int, int, bool], tuple[NDArray[np.uint8], float]] = LRUCache(
            int(limit_mib * 2**20), getsizeof=lambda kept: kept[0].nbytes
        )

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """See `FrameSource.size_hw_px`."""
        return self._frames.size_hw_px

    @property
    def held_bytes(self) -> int:
        """Memory of the reduced frames, in bytes."""
        return int(self._kept.currsize)

    def frame(self, frame_index: int) -> FrameRGB:
        """See `FrameSource.frame`."""
        return self._frames.frame(frame_index)

    def reduced(self, frame_index: int, long_side_px: int, grey: bool) -> tuple[NDArray[np.uint8] | None, float]:
        """See `reduced` and `reduced_grey`."""
        key = frame_index, long_side_px, grey
        kept: tuple[NDArray[np.uint8], float] | None = self._kept.get(key)
        if kept is not None:
            return kept
        image, scale = _reduced(self._frames, frame_index, long_side_px, grey)
        # A colour frame that is not reduced is the frame source's own.
        if image is not None and (grey or scale < 1.0) and image.nbytes <= self._kept.maxsize:
            image.flags.writeable = False
            self._kept[key] = image, scale
        return image, scale


def reduced(frames: FrameSource, frame_index: int, long_side_px: int) -> tuple[NDArray[np.uint8] | None, float]:
    """The frame, its long side at most ``long_side_px``, and reduced pixels per original pixel; None if unreadable."""
    if isinstance(frames, ReducedFrames):
        return frames.reduced(frame_index, long_side_px, grey=False)
    return _reduced(frames, frame_index, long_side_px, grey=False)


def reduced_grey(frames: FrameSource, frame_index: int, long_side_px: int) -> tuple[NDArray[np.uint8] | None, float]:
    """As `reduced`, in grey."""
    if isinstance(frames, ReducedFrames):
        return frames.reduced(frame_index, long_side_px, grey=True)
    return _reduced(frames, frame_index, long_side_px, grey=True)


def _reduced(
    frames: FrameSource, frame_index: int, long_side_px: int, grey: bool
) -> tuple[NDArray[np.uint8] | None, float]:
    try:
        image = frames.frame(frame_index)
    except FrameError:
        return None, 1.0
    scale = min(1.0, long_side_px / max(image.shape[:2]))
    if scale < 1.0:
        size = max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return (np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) if grey else image), scale


@dataclass(frozen=True)
class WorkingSize:
    """The input size of a network, and the conversion of points to it and back.

    A point at (0, 0) is the centre of the top left pixel at either size, as in `cv2.resize`.

    Attributes:
        frame_hw_px: height and width of the original frames.
        working_hw_px: height and width that the network gets; the sides may shrink by different factors.
    """

    frame_hw_px: tuple[int, int]
    working_hw_px: tuple[int, int]

    @classmethod
    def fitting(
        cls, frame_hw_px: tuple[int, int], long_side_px: int, *, multiple_px: int = 8, least_px: int = 128
    ) -> WorkingSize:
        """The frame's proportions; its long side ``long_side_px`` at most, no side below ``least_px``, in multiples."""
        scale = min(1.0, long_side_px / max(frame_hw_px))
        sides = [max(least_px, round(side * scale / multiple_px) * multiple_px) for side in frame_hw_px]
        return cls(frame_hw_px, (sides[0], sides[1]))

    def frame(self, frames: FrameSource, frame_index: int) -> NDArray[np.uint8] | None:
        """A frame (height, width, 3) RGB uint8 at the working size; None if unreadable."""
        try:
            image = frames.frame(frame_index)
        except FrameError:
            return None
        height_px, width_px = self.working_hw_px
        shrinks = height_px <= image.shape[0] and width_px <= image.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, (width_px, height_px), interpolation=how), np.uint8)

    @property
    def _scale_xy(self) -> NDArray[np.float32]:
        (height, width), (working_height, working_width) = self.frame_hw_px, self.working_hw_px
        return np.array([working_width / width, working_height / height], np.float32)

    def to_working(self, points_xy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (..., 2) of the original frame in pixels of the working size."""
        return np.asarray((points_xy_px + 0.5) * self._scale_xy - 0.5, np.float32)

    def to_original(self, points_xy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (..., 2) of the working size in pixels of the original frame."""
        return np.asarray((points_xy_px + 0.5) / self._scale_xy - 0.5, np.float32)
