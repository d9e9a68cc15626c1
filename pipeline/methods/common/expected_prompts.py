"""Prompts for the segmenter from the expected mask of an object: mostly equally many, so that one call does for all.

IDPro's ID-queried decoder and the thesis' decoders take what was read from the memory directly (IDPro, Eq. 8; thesis,
Eq. 3.12). A promptable segmenter gets it as points, a box and a mask.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.memory.key_grid import KeyGrid
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask

BOX_MARGIN = 0.04
"""How much wider than the expected mask the box is on each side, as a share of the box: objects move and grow."""
SEARCHED_MARGIN = 0.25
"""How far outside the box negative points may lie, as a share of its longer side."""
NEAR = 0.5
"""Parts of an expected mask belong together if the gap between them is at most this share of the greatest one's longer
side. An object behind a post has several parts; a speck in another corner of the frame is something else."""


def prompts_from(
    expected: FloatMap,
    grid: KeyGrid,
    n_positive: int,
    n_negative: int,
    size_hw_px: tuple[int, int],
) -> ObjectPrompts:
    """Points and a box for the expected object; none if the expected mask is empty.

    Only the part with the most evidence and the parts near it count, see `main_part`. Positive points lie deep inside
    and apart from each other. Negative points lie close to the box, where the logits are lowest.

    Args:
        expected: (h, w) logits in the segmenter's resolution.
        grid: of the video.
        n_positive: exactly how many positive points.
        n_negative: how many negative ones; none if all of the frame near the box is expected to be the object.
        size_hw_px: of the frame.
    """
    expected = expected[: grid.covered_hw[0], : grid.covered_hw[1]]
    mask = main_part(expected)
    if not mask.any():
        return ObjectPrompts(tracked=True)
    box = bounding_box(mask)
    negative = _excluded(expected, box, n_negative)
    points = [*_deepest(mask, n_positive), *negative]
    signs = np.array([True] * n_positive + [False] * len(negative), np.bool_)
    columns, rows = np.array(points, np.intp).reshape(-1, 2).T
    points_xy_px = np.column_stack([grid.x_px[columns], grid.y_px[rows]]).astype(np.float32)
    return ObjectPrompts(points_xy_px, signs, _in_pixels(box, grid, size_hw_px), tracked=True)


def main_part(expected: FloatMap) -> BoolMask:
    """Of an expected mask, logits (h, w), the part (h, w) with the greatest sum of logits and the parts near it."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((expected > 0).astype(np.uint8), connectivity=8)
    if count <= 2:
        return np.asarray(labels > 0)
    evidence = np.bincount(labels.ravel(), np.maximum(expected, 0).ravel(), count)
    main = labels == int(evidence.argmax())
    _, _, width, height, _ = boxes[int(evidence.argmax())]
    distance = cv2.distanceTransform((~main).astype(np.uint8), cv2.DIST_L2, 3)
    near = np.unique(labels[distance <= NEAR * max(width, height)])
    return np.asarray(np.isin(labels, near[near > 0]))


def _deepest(mask: BoolMask, n_points: int) -> list[tuple[int, int]]:
    """Columns and rows of points inside a mask, the one farthest from its border first, apart from each other."""
    left = np.pad(mask, 1).astype(np.uint8)
    points: list[tuple[int, int]] = []
    while len(points) < n_points:
        depth = cv2.distanceTransform(left, cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if not left[row, column]:
            # Nothing is left of a small mask: repeat its first point.
            points.append(points[0])
            continue
        points.append((int(column) - 1, int(row) - 1))
        cv2.circle(left, (int(column), int(row)), max(1, round(float(depth[row, column]))), 0, -1)
    return points


def _excluded(expected: FloatMap, box: tuple[float, float, float, float], n_points: int) -> list[tuple[int, int]]:
    """Columns and rows of the cells around a box with the lowest logits, apart from each other; only where negative."""
    x0, y0, x1, y1 = box
    margin = max(4.0, SEARCHED_MARGIN * max(x1 - x0, y1 - y0))
    top, left = max(0, int(y0 - margin)), max(0, int(x0 - margin))
    part = expected[top : int(np.ceil(y1 + margin)), left : int(np.ceil(x1 + margin))]
    if not (part <= 0).any():
        return []
    distance = cv2.distanceTransform((part <= 0).astype(np.uint8), cv2.DIST_L2, 3)
    against = np.where(part <= 0, -part + distance / margin, -np.inf)
    points = []
    for _ in range(n_points):
        row, column = np.unravel_index(int(against.argmax()), against.shape)
        points.append((int(column) + left, int(row) + top))
        _lower(against, int(row), int(column), margin)
    return points


def _lower(against: NDArray[np.float32], row: int, column: int, radius: float) -> None:
    ys, xs = np.ogrid[: against.shape[0], : against.shape[1]]
    against[(ys - row) ** 2 + (xs - column) ** 2 <= radius**2] -= 100.0


def _in_pixels(
    box: tuple[float, float, float, float], grid: KeyGrid, size_hw_px: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box of low-resolution cells, a little widened, in pixels of the frame and cut to it."""
    limits = size_hw_px[1], size_hw_px[0]
    corners = []
    for axis, centres_px in enumerate((grid.x_px, grid.y_px)):
        low, high = centres_px[int(box[axis])], centres_px[int(box[axis + 2]) - 1]
        cell_px = float(centres_px[1] - centres_px[0])
        pad_px = cell_px / 2 + BOX_MARGIN * float(high - low)
        corners.append((max(0.0, float(low) - pad_px), min(float(limits[axis]), float(high) + pad_px)))
    (x0, x1), (y0, y1) = corners
    return x0, y0, max(x1, x0 + 1.0), max(y1, y0 + 1.0)
