"""Frames as trackers want them: reduced, and without an exception where one is missing."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.video import FrameError, FrameSource


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
