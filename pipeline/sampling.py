"""Query points inside a mask, for point trackers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask


def grid(mask: BoolMask, n_points: int) -> NDArray[np.float32]:
    """At most ``n_points`` points of a regular grid inside the mask, (N, 2) float32 x, y; one point for a tiny mask."""
    area_px = int(mask.sum())
    if area_px == 0 or n_points <= 0:
        return np.zeros((0, 2), np.float32)
    step = max(1, int(np.sqrt(area_px / n_points)))
    ys, xs = np.nonzero(mask)
    chosen = (ys % step == step // 2) & (xs % step == step // 2)
    points = np.column_stack([xs[chosen], ys[chosen]])
    if not len(points):
        points = np.column_stack([xs, ys])[len(xs) // 2 : len(xs) // 2 + 1]
    keep = np.unique(np.linspace(0, len(points) - 1, min(n_points, len(points))).round().astype(int))
    return np.asarray(points[keep], np.float32)


def shi_tomasi(grey: NDArray[np.uint8], mask: BoolMask, n_points: int) -> NDArray[np.float32]:
    """The strongest corners inside the mask, at most ``n_points``, (N, 2) float32 x, y.

    Args:
        grey: (H, W) uint8.
        mask: (H, W) bool.
        n_points: upper limit.
    """
    if not mask.any() or n_points <= 0:
        return np.zeros((0, 2), np.float32)
    distance_px = max(2.0, 0.5 * float(np.sqrt(mask.sum() / n_points)))
    corners = cv2.goodFeaturesToTrack(grey, n_points, 0.01, distance_px, mask=mask.astype(np.uint8))
    return np.zeros((0, 2), np.float32) if corners is None else np.asarray(corners.reshape(-1, 2), np.float32)


def mixed(grey: NDArray[np.uint8], mask: BoolMask, n_points: int) -> NDArray[np.float32]:
    """Corners for half of the points, a grid for the rest (after SAM-PT's mixed sampling)."""
    corners = shi_tomasi(grey, mask, n_points // 2)
    return np.concatenate([corners, grid(mask, n_points - len(corners))])
