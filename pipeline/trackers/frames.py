"""Frames for trackers: reduced in size, and None instead of an exception where one cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.video.frames import FrameError, FrameSource


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


def reduced(frames: FrameSource, frame_index: int, long_side_px: int) -> tuple[NDArray[np.uint8] | None, float]:
    """The frame, its long side at most ``long_side_px``, and reduced pixels per original pixel; None if unreadable."""
    try:
        image = frames.frame(frame_index)
    except FrameError:
        return None, 1.0
    scale = min(1.0, long_side_px / max(image.shape[:2]))
    if scale < 1.0:
        size = max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale
    return image, scale


def reduced_grey(frames: FrameSource, frame_index: int, long_side_px: int) -> tuple[NDArray[np.uint8] | None, float]:
    """As `reduced`, in grey."""
    image, scale = reduced(frames, frame_index, long_side_px)
    return (None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)), scale


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
