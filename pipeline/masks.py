"""Masks as boxes, logits and probabilities, and probabilities kept small."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask

SATURATED_LOGIT = 4.0
"""Of `saturated_logits`: a probability of 0.98."""
NO_OBJECT_LOGIT = -16.0
"""Logit where surely no object is: empty masks, and the padding. SAM gives about this to background."""
_LEVELS = 16
"""Of a `SoftMask`: few enough to compress well, enough for fusing."""


def bounding_box(mask: BoolMask) -> tuple[float, float, float, float]:
    """The box x0, y0, x1, y1 in pixels around a mask (H, W) that is not empty; x1 and y1 lie just outside."""
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def moved_to(mask: BoolMask, x_px: float, y_px: float) -> BoolMask:
    """A mask (H, W) moved so that its centre of mass is on the pixel at ``x_px``, ``y_px``.

    The mask is not empty, and the place is inside the image. What leaves the image is lost.
    """
    height_px, width_px = mask.shape
    row, column = min(int(y_px), height_px - 1), min(int(x_px), width_px - 1)
    ys, xs = np.nonzero(mask)
    ys, xs = ys + round(row - float(ys.mean())), xs + round(column - float(xs.mean()))
    inside = (ys >= 0) & (ys < height_px) & (xs >= 0) & (xs < width_px)
    moved = np.zeros_like(mask)
    moved[ys[inside], xs[inside]] = True
    return moved


def reduced_mask(mask: BoolMask, size_hw_px: tuple[int, int]) -> BoolMask:
    """Reduce a mask (H, W) to a size; an object that covers half of no pixel there keeps the best covered ones."""
    height, width = size_hw_px
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray((share >= min(0.5, float(share.max()))) & (share > 0))


def iou(mask: BoolMask, other: BoolMask) -> float:
    """The intersection over union of two masks (H, W), in [0, 1]; 1 where both are empty."""
    union = int((mask | other).sum())
    return float((mask & other).sum() / union) if union else 1.0


def saturated_logits(mask: BoolMask) -> NDArray[np.float32]:
    """A mask (H, W) as logits, (H, W) float32: `SATURATED_LOGIT` inside, its negative outside."""
    return np.where(mask, SATURATED_LOGIT, -SATURATED_LOGIT).astype(np.float32)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of any shape as probabilities, float32 in [0, 1]."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0))), np.float32)


@dataclass(frozen=True)
class SoftMask:
    """A map of probabilities as compressed bytes: half the size, sixteen levels. A few KiB a frame instead of MiB."""

    height_px: int
    width_px: int
    data: bytes

    @classmethod
    def pack(cls, logits: NDArray[np.float32]) -> SoftMask:
        """Keep the probabilities of logits (H, W) float32."""
        height_px, width_px = logits.shape
        small = np.asarray(
            cv2.resize(logits, _half_size(height_px, width_px), interpolation=cv2.INTER_AREA), np.float32
        )
        levels = np.rint(probabilities(small) * _LEVELS).astype(np.uint8)
        return cls(height_px, width_px, zlib.compress(levels.tobytes(), 1))

    def small(self) -> NDArray[np.float32]:
        """The probabilities as they are kept, (H/2, W/2) float32 in [0, 1]."""
        width, height = _half_size(self.height_px, self.width_px)
        levels = np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(height, width)
        return np.asarray(levels / _LEVELS, np.float32)

    def probabilities(self) -> NDArray[np.float32]:
        """The probabilities at full size, (H, W) float32 in [0, 1]."""
        full = cv2.resize(self.small(), (self.width_px, self.height_px))
        return np.asarray(full, np.float32)


def _half_size(height_px: int, width_px: int) -> tuple[int, int]:
    return max(1, width_px // 2), max(1, height_px // 2)
