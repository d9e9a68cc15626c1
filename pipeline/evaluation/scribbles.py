"""Scribbles through a region, as the robot of DAVIS' interactive track draws them.

The region is smoothed by an opening whose radius grows with it and thinned to its skeleton; the longest way along each
connected part of the skeleton is a scribble. Source: Caelles et al., The 2018 DAVIS Challenge on Video Object
Segmentation (arXiv:1803.00557); the numbers are those of the robot published with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.skeleton import longest_paths, thinned
from pipeline.types import BoolMask

OPENING_SHARE = 0.1
"""Radius of the opening as a share of the square root of the region's area."""
MAX_OPENING_PX = 16.0


@dataclass(frozen=True)
class Stroke:
    """A scribble as it is drawn: places x, y in the middle of pixels; positive over what was missed of the object."""

    path_xy_px: tuple[tuple[float, float], ...]
    positive: bool


def first_strokes(truth: BoolMask) -> list[Stroke]:
    """Strokes through an object (H, W) that nobody has marked; a dot where it is too small, none where it is absent."""
    if not truth.any():
        return []
    return [_stroke(line, True) for line in scribbles(truth) or [np.argwhere(truth)[:1, ::-1]]]


def correcting_strokes(mask: BoolMask, truth: BoolMask) -> list[Stroke]:
    """Strokes through the errors of one object's mask (H, W), as the robot draws them: all of them, longest first.

    Positive ones are over what was missed (truth without mask), negative ones over what is wrong (mask without truth).
    Errors too small for a scribble are left alone.
    """
    lines = [(line, True) for line in scribbles(truth & ~mask)] + [(line, False) for line in scribbles(mask & ~truth)]
    return [_stroke(line, positive) for line, positive in sorted(lines, key=lambda pair: -len(pair[0]))]


def _stroke(line: NDArray[np.int64], positive: bool) -> Stroke:
    return Stroke(tuple((float(x) + 0.5, float(y) + 0.5) for x, y in line), positive)


def scribbles(region: BoolMask) -> list[NDArray[np.int64]]:
    """The scribbles through a region (H, W) of any number of parts, longest first.

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
