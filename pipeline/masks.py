"""What a mask says about itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask

KNOWN_LOGIT = 4.0


def bounding_box(mask: BoolMask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a mask that is not empty."""
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def moved_to(mask: BoolMask, x_px: float, y_px: float) -> BoolMask:
    """A mask (H, W) that is not empty, moved so that its pixels' mean is on the pixel at a place inside the image.

    What leaves the image is lost.
    """
    height_px, width_px = mask.shape
    row, column = min(int(y_px), height_px - 1), min(int(x_px), width_px - 1)
    ys, xs = np.nonzero(mask)
    ys, xs = ys + round(row - float(ys.mean())), xs + round(column - float(xs.mean()))
    inside = (ys >= 0) & (ys < height_px) & (xs >= 0) & (xs < width_px)
    moved = np.zeros_like(mask)
    moved[ys[inside], xs[inside]] = True
    return moved


def known_logits(mask: BoolMask) -> NDArray[np.float32]:
    """A mask (H, W) as saturated logits."""
    return np.where(mask, KNOWN_LOGIT, -KNOWN_LOGIT).astype(np.float32)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of any shape as probabilities, float32 in [0, 1]."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0))), np.float32)
