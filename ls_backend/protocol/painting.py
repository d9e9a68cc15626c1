"""Strokes of Label Studio's brush and eraser as pixels, as its editor paints them when an annotation is submitted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from ls_backend.protocol.payloads import PCT, Touch
from pipeline.types import BoolMask

FINEST = 8
"""So many places of a pixel, side by side, are looked at. Chromium looks at four rows."""
MAX_SAMPLES = 2**26
SHIFT = 4
"""OpenCV draws to 1/16 of a sample."""


def stroke_path_px(touch: Touch, size_hw_px: tuple[int, int]) -> NDArray[np.float64]:
    """The places x, y (N, 2) a stroke passed, in pixels of the frame; they may lie outside."""
    height_px, width_px = size_hw_px
    pairs = np.array(touch.points[: len(touch.points) // 2 * 2], np.float64).reshape(-1, 2)
    return pairs * (width_px / PCT, height_px / PCT)


def stroke_width_px(touch: Touch, size_hw_px: tuple[int, int]) -> float:
    """How wide a stroke is, in pixels of the frame."""
    return touch.width_pct / PCT * size_hw_px[1]


def draw_touches(mask: BoolMask, touches: Iterable[Touch]) -> BoolMask:
    """A mask (H, W) with strokes drawn on top in their order; the mask itself is left as it is.

    Label Studio (its ``exportRLE``) draws anti-aliased lines with round ends and keeps every pixel whose alpha is not
    zero: a brush stroke sets all pixels it touches, an eraser stroke clears those it covers wholly. A stroke that does
    not move (a click) paints nothing. Measured against Label Studio 1.23 in Chromium: the same but for a few pixels at
    the rim of slanting strokes.
    """
    drawn, size_hw_px = mask.copy(), (mask.shape[0], mask.shape[1])
    for touch in touches:
        _draw(drawn, stroke_path_px(touch, size_hw_px), stroke_width_px(touch, size_hw_px), touch.type == "add")
    return drawn


def _draw(mask: BoolMask, path_xy_px: NDArray[np.float64], width_px: float, add: bool) -> None:
    if (path_xy_px == path_xy_px[0]).all():
        return
    limit = np.array(mask.shape[::-1])
    low = np.clip(np.floor(path_xy_px.min(axis=0) - width_px / 2).astype(int) - 1, 0, limit)
    high = np.clip(np.ceil(path_xy_px.max(axis=0) + width_px / 2).astype(int) + 1, 0, limit)
    width, height = (int(side) for side in high - low)
    if not width or not height:
        return
    samples = _samples(path_xy_px - low, width_px, (height, width))
    part = mask[low[1] : high[1], low[0] : high[0]]
    if add:
        part |= samples.any(axis=(1, 3))
    else:
        part &= ~samples.all(axis=(1, 3))


def _samples(path_xy_px: NDArray[np.float64], width_px: float, size_hw_px: tuple[int, int]) -> BoolMask:
    """Which places of the pixels a stroke covers, (H, rows, W, columns); four rows of eight where memory allows."""
    height_px, image_width_px = size_hw_px
    per_px = FINEST
    while per_px > 1 and height_px * image_width_px * per_px**2 > MAX_SAMPLES:
        per_px //= 2
    # Where there are twice as many rows as Chromium looks at, every other one is moved to where it does.
    step = 2 if per_px == FINEST else 1
    places = path_xy_px * per_px - (0.5, 0.5 * step)
    fixed = np.round(places * 2**SHIFT).astype(np.int32)
    canvas = np.zeros((height_px * per_px, image_width_px * per_px), np.uint8)
    # OpenCV counts the samples on the edge as covered.
    cv2.polylines(canvas, [fixed], False, 1, max(1, round(width_px * per_px) - 1), cv2.LINE_8, SHIFT)
    rows: BoolMask = canvas[::step] != 0
    return rows.reshape(height_px, per_px // step, image_width_px, per_px)


def distance_to_path(places_xy: NDArray[np.float64], path_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance (N,) of places (N, 2) from the line through the points (M, 2) of a path; M may be 1."""
    nearest: NDArray[np.float64] = np.linalg.norm(places_xy - path_xy[0], axis=1)
    for start, end in itertools.pairwise(path_xy):
        along = end - start
        length_squared = float(along @ along)
        if length_squared > 0:
            share = np.clip((places_xy - start) @ along / length_squared, 0.0, 1.0)
            np.minimum(nearest, np.linalg.norm(places_xy - (start + share[:, None] * along), axis=1), out=nearest)
    return nearest
