"""Carries a mask from one frame to the next along dense optical flow (OpenCV's DIS)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SATURATION_LOGIT = 4.0
CONFIDENT_PX = 2.0


@dataclass(frozen=True)
class FlowField:
    """How pixels of a frame found their way to the next one.

    ``map_x``, ``map_y`` (h, w) float32 say where each pixel of the next frame came from, and ``confidence`` (h, w)
    float32 in (0, 1] how far the flow there and back agrees.
    """

    map_x: NDArray[np.float32]
    map_y: NDArray[np.float32]
    confidence: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.map_x.nbytes + self.map_y.nbytes + self.confidence.nbytes

    @classmethod
    def between(cls, previous_grey: NDArray[np.uint8], grey: NDArray[np.uint8]) -> FlowField:
        """The flow from one frame to the next, both (h, w) uint8."""
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        back = flow.calc(grey, previous_grey, None)  # type: ignore[call-overload]
        there = flow.calc(previous_grey, grey, None)  # type: ignore[call-overload]
        h, w = grey.shape
        ys, xs = np.mgrid[:h, :w].astype(np.float32)
        map_x, map_y = xs + back[..., 0], ys + back[..., 1]
        returned = cv2.remap(there, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) + back
        error = np.linalg.norm(returned, axis=2)
        return cls(map_x, map_y, np.exp(-error / CONFIDENT_PX).astype(np.float32))

    def carry(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (h, w) float32 of the first frame carried to the next, halved where the flow disagrees."""
        limited = np.clip(logits, -SATURATION_LOGIT, SATURATION_LOGIT)
        carried = cv2.remap(limited, self.map_x, self.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(carried * (0.5 + 0.5 * self.confidence), np.float32)
