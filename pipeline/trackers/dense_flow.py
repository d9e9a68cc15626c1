"""Carries a mask from one frame to the next along dense optical flow (OpenCV's DIS)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SATURATION_LOGIT = 4.0
CONFIDENT_PX = 2.0


def warp_logits(
    previous_grey: NDArray[np.uint8], grey: NDArray[np.uint8], logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logits (h, w) float32 of a mask carried to the next frame, halved where the flow there and back disagrees.

    Args:
        previous_grey: (h, w) uint8, the frame the logits belong to.
        grey: (h, w) uint8, the frame to carry them to.
        logits: (h, w) float32.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back = flow.calc(grey, previous_grey, None)  # type: ignore[call-overload]
    there = flow.calc(previous_grey, grey, None)  # type: ignore[call-overload]
    h, w = grey.shape
    ys, xs = np.mgrid[:h, :w].astype(np.float32)
    map_x, map_y = xs + back[..., 0], ys + back[..., 1]
    linear, replicate = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
    returned = cv2.remap(there, map_x, map_y, linear, borderMode=replicate) + back
    error = np.linalg.norm(returned, axis=2)
    confidence = np.exp(-error / CONFIDENT_PX)
    limited = np.clip(logits, -SATURATION_LOGIT, SATURATION_LOGIT)
    carried = cv2.remap(limited, map_x, map_y, linear, borderMode=replicate)
    return np.asarray(carried * (0.5 + 0.5 * confidence), np.float32)
