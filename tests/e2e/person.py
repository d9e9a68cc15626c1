"""How a careful person prompts, acted out with the ground truth: a box around the object, clicks into errors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BoolMask = NDArray[np.bool_]


@dataclass(frozen=True)
class Click:
    """A click as fractions of the image, and the region it is about, (H, W) bool."""

    x: float
    y: float
    positive: bool
    region: BoolMask


def jaccard(mask: BoolMask, truth: BoolMask) -> float:
    """Intersection over union in [0, 1]; 1 where both are empty."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def box_around(truth: BoolMask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the object as fractions of the image, one percent of slack on every side."""
    rows, columns = np.nonzero(truth)
    height_px, width_px = truth.shape
    low = np.array([columns.min() / width_px, rows.min() / height_px]) - 0.01
    high = np.array([(columns.max() + 1) / width_px, (rows.max() + 1) / height_px]) + 0.01
    x0, y0, x1, y1 = np.clip(np.concatenate([low, high]), 0.002, 0.998)
    return float(x0), float(y0), float(x1), float(y1)


def correction(mask: BoolMask, truth: BoolMask, *, positive: bool | None = None) -> Click:
    """The click into the middle of the largest error: a missed part, or a part that is wrongly covered.

    Args:
        mask: what the annotator sees, (H, W) bool.
        truth: what it should be.
        positive: True to look at missed parts only, False at wrongly covered parts only, None for both.

    Raises:
        ValueError: there is no such error.
    """
    kinds = [(truth & ~mask, True), (mask & ~truth, False)]
    found = [_largest(error, sign) for error, sign in kinds if positive in (None, sign) and error.any()]
    if not found:
        raise ValueError("there is nothing to correct")
    return max(found, key=lambda click: int(click.region.sum()))


def _largest(error: BoolMask, positive: bool) -> Click:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(error.astype(np.uint8))
    region = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    # The border counts as an edge, so that the click does not land on the outermost pixel.
    depth = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    height_px, width_px = error.shape
    return Click(float(column + 0.5) / width_px, float(row + 0.5) / height_px, positive, region)
