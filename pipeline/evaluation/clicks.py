"""Clicks on the object, then on the errors: the strategies a1, a2 and a3 of S. Vujasinović's thesis, 4.5.2.

a1 and a2 click on the scribbles that DAVIS' robot would draw through the errors: a1 once per object and round, a2 once
per scribble. a3 clicks the middle of each error region. Up to three clicks per object and round (4.6.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.scribbles import scribbles
from pipeline.types import BoolMask

MIN_REGION_SHARE = 0.0002
"""a3: regions below this share of the image (82 px at 854x480) are not worth a click (4.6.1: small areas are left)."""


class ClickStrategy(str, Enum):
    """See the module."""

    A1 = "a1"
    A2 = "a2"
    A3 = "a3"


@dataclass(frozen=True)
class Click:
    """A click in the middle of a pixel; positive where the object was missed, negative where it was seen wrongly."""

    x_px: float
    y_px: float
    positive: bool


def first_click(truth: BoolMask, strategy: ClickStrategy) -> list[Click]:
    """Round 1: one click on the object, whatever the strategy allows later (4.6.1); none where it is not there."""
    if not truth.any():
        return []
    if strategy is ClickStrategy.A3:
        return [_click(innermost(truth), True)]
    lines = scribbles(truth)
    return [_click(central(lines[0] if lines else np.argwhere(truth)[:, ::-1]), True)]


def correcting_clicks(mask: BoolMask, truth: BoolMask, strategy: ClickStrategy, max_clicks: int) -> list[Click]:
    """Later rounds: clicks on the errors of one object's mask, the largest first.

    Positive clicks are on what was missed (truth without mask), negative ones on what is wrong (mask without truth). a1
    takes the scribbles of the missed part together, or those of the wrong part where that is the larger one.

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
