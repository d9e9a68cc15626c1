"""Prompts that a person might give for an object whose true mask is known: boxes, points, clicks and scribbles.

Boxes and points follow I-PT (III-B, IV-B). The click strategies a1, a2 and a3 are those of S. Vujasinović's thesis,
4.5.2, with up to three clicks per object and round (4.6.1). Scribbles are drawn as by the robot of DAVIS' interactive
track (Caelles et al., The 2018 DAVIS Challenge on Video Object Segmentation, arXiv:1803.00557; the numbers are those of
the robot published with it).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.skeleton import longest_paths, thinned
from pipeline.types import BoolMask

MIN_REGION_SHARE = 0.0002
"""a3: regions below this share of the image (82 px at 854x480) are not worth a click (4.6.1: small areas are left)."""
OPENING_SHARE = 0.1
"""Radius of the opening as a share of the square root of the region's area."""
MAX_OPENING_PX = 16.0


def exact_box(mask: BoolMask) -> tuple[float, float, float, float]:
    """The box x0, y0, x1, y1 around a mask that is not empty; its right and lower edges are one past the last pixel."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def noisy_box(mask: BoolMask, noise_px: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """The exact box with every edge moved by a uniform error in [-noise_px, noise_px], clipped to the image.

    Where the error would leave no pixel of width or height, that pair of edges stays exact.
    """
    height_px, width_px = mask.shape
    exact = exact_box(mask)
    moved = np.add(exact, rng.uniform(-noise_px, noise_px, 4))
    x0, y0, x1, y1 = (float(v) for v in np.clip(moved, 0, (width_px, height_px, width_px, height_px)))
    if x1 - x0 < 1:
        x0, x1 = exact[0], exact[2]
    if y1 - y0 < 1:
        y0, y1 = exact[1], exact[3]
    return x0, y0, x1, y1


def grid_points(mask: BoolMask, n_points: int) -> list[tuple[float, float]]:
    """``n_points`` pixel centres x, y inside the mask on a square grid, or all of its pixels where there are fewer.

    The grid is the widest one with enough points inside. Of more points than needed, an even selection is taken.
    """
    ys, xs = np.nonzero(mask)
    n_points = min(n_points, len(xs))
    if n_points <= 0:
        return []
    for step_px in range(max(1, int(np.sqrt(len(xs) / n_points)) + 1), 0, -1):
        offset_px = step_px // 2
        on_grid = ((ys - ys.min()) % step_px == offset_px) & ((xs - xs.min()) % step_px == offset_px)
        if on_grid.sum() >= n_points:
            break
    xs, ys = xs[on_grid], ys[on_grid]
    chosen = np.linspace(0, len(xs) - 1, n_points).round().astype(int)
    return [(float(xs[i]) + 0.5, float(ys[i]) + 0.5) for i in chosen]


def random_points(mask: BoolMask, n_points: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """``n_points`` centres x, y of different pixels inside the mask, at random; all of them where there are fewer."""
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return []
    chosen = rng.choice(len(xs), size=min(n_points, len(xs)), replace=False)
    return [(float(xs[i]) + 0.5, float(ys[i]) + 0.5) for i in chosen]


class ClickStrategy(str, Enum):
    """Where errors are clicked (thesis, 4.5.2).

    ``a1`` and ``a2`` click on the scribbles that DAVIS' robot would draw through the errors: ``a1`` once per object and
    round, ``a2`` once per scribble. ``a3`` clicks the middle of each error region.
    """

    A1 = "a1"
    A2 = "a2"
    A3 = "a3"


@dataclass(frozen=True)
class Click:
    """A click in the middle of a pixel: positive on the object, negative where the mask is wrong."""

    x_px: float
    y_px: float
    positive: bool


def first_click(truth: BoolMask, strategy: ClickStrategy) -> list[Click]:
    """The click of round 1: one on the object with any strategy (4.6.1); none where the object is absent."""
    if not truth.any():
        return []
    if strategy is ClickStrategy.A3:
        return [_click(innermost(truth), True)]
    lines = scribbles(truth)
    return [_click(central(lines[0] if lines else np.argwhere(truth)[:, ::-1]), True)]


def correcting_clicks(mask: BoolMask, truth: BoolMask, strategy: ClickStrategy, max_clicks: int) -> list[Click]:
    """The clicks of a later round on the errors of one object's mask, the largest error first.

    Positive clicks are on what was missed (truth without mask), negative ones on what is wrong (mask without truth).
    ``a1`` looks only at the larger of the two parts, and takes all its scribbles together.

    Args:
        mask: the current mask, (H, W) bool.
        truth: the true mask, (H, W) bool.
        strategy: where an error is clicked.
        max_clicks: upper limit for this object and round.
    """
    missed, wrong = truth & ~mask, mask & ~truth
    if strategy is ClickStrategy.A1:
        positive = np.count_nonzero(missed) >= np.count_nonzero(wrong)
        lines = scribbles(missed if positive else wrong)
        return [_click(central(np.concatenate(lines)), bool(positive))][:max_clicks] if lines else []
    if strategy is ClickStrategy.A2:
        signed = [(line, True) for line in scribbles(missed)] + [(line, False) for line in scribbles(wrong)]
        signed.sort(key=lambda pair: -len(pair[0]))
        return [_click(central(line), positive) for line, positive in signed[:max_clicks]]
    regions = [(r, True) for r in large_regions(missed)] + [(r, False) for r in large_regions(wrong)]
    regions.sort(key=lambda pair: -np.count_nonzero(pair[0]))
    return [_click(innermost(region), positive) for region, positive in regions[:max_clicks]]


def central(points_xy_px: NDArray[np.int64]) -> tuple[int, int]:
    """The point x, y of a set (N, 2) that lies nearest to the set's mean (Eq. 4.5)."""
    distances = ((points_xy_px - points_xy_px.mean(axis=0)) ** 2).sum(axis=1)
    x, y = points_xy_px[int(distances.argmin())]
    return int(x), int(y)


def innermost(region: BoolMask) -> tuple[int, int]:
    """The pixel x, y of a region that is not empty farthest from its border; the image's edge is a border."""
    inside = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(x) - 1, int(y) - 1


def large_regions(mask: BoolMask) -> list[BoolMask]:
    """The 8-connected regions (H, W) of a mask that are worth a click."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    min_area_px = MIN_REGION_SHARE * mask.size
    return [np.asarray(labels == i) for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= min_area_px]


def _click(point_xy_px: tuple[int, int], positive: bool) -> Click:
    return Click(point_xy_px[0] + 0.5, point_xy_px[1] + 0.5, positive)


@dataclass(frozen=True)
class Stroke:
    """A scribble as it is drawn: x, y in the middle of pixels; positive over the object, negative over wrong mask."""

    path_xy_px: tuple[tuple[float, float], ...]
    positive: bool


def first_strokes(truth: BoolMask) -> list[Stroke]:
    """The strokes of round 1 through an object (H, W): a dot where it is too small, none where it is absent."""
    if not truth.any():
        return []
    return [_stroke(line, True) for line in scribbles(truth) or [np.argwhere(truth)[:1, ::-1]]]


def correcting_strokes(mask: BoolMask, truth: BoolMask) -> list[Stroke]:
    """The strokes of a later round through the errors of one object's mask (H, W), the longest first.

    Positive ones are over what was missed (truth without mask), negative ones over what is wrong (mask without truth).
    Errors too small for a scribble get none.
    """
    lines = [(line, True) for line in scribbles(truth & ~mask)] + [(line, False) for line in scribbles(mask & ~truth)]
    return [_stroke(line, positive) for line, positive in sorted(lines, key=lambda pair: -len(pair[0]))]


def _stroke(line: NDArray[np.int64], positive: bool) -> Stroke:
    return Stroke(tuple((float(x) + 0.5, float(y) + 0.5) for x, y in line), positive)


def scribbles(region: BoolMask) -> list[NDArray[np.int64]]:
    """The scribbles through a region (H, W) of any number of parts, the longest first.

    The region is smoothed by an opening whose radius grows with its area, and thinned to its skeleton. The longest path
    along each connected part of the skeleton is a scribble.

    Returns:
        per scribble its pixels x, y in drawing order, (N, 2); nothing where the region is empty or too small.
    """
    if not region.any():
        return []
    ys, xs = np.nonzero(region)
    x0, y0 = int(xs.min()), int(ys.min())
    part = np.pad(region[y0 : int(ys.max()) + 1, x0 : int(xs.max()) + 1], 1)
    lines = [line + np.array([x0 - 1, y0 - 1]) for line in longest_paths(thinned(_smoothed(part)))]
    return sorted(lines, key=len, reverse=True)


def _smoothed(region: BoolMask) -> BoolMask:
    """The region opened with a disk; with a smaller disk where nothing would be left."""
    radius_px = min(OPENING_SHARE * float(np.sqrt(np.count_nonzero(region))), MAX_OPENING_PX)
    while radius_px > 1:
        offsets = np.arange(-int(radius_px), int(radius_px) + 1)
        disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius_px**2).astype(np.uint8)
        opened = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, disk)
        if opened.any():
            return np.asarray(opened.astype(np.bool_))
        radius_px *= 0.9
    return region
