"""Brush regions as drafts and annotations hold them: their pixels, and whether they are strokes or areas."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ls_backend.protocol.payloads import PCT, BrushRegion, Json, Touch
from ls_backend.protocol.regions import brush_rle_to_mask, region_id
from pipeline.skeleton import longest_paths, thinned
from pipeline.types import BoolMask

CHANGED_BY_HAND = "prediction-changed"
"""The ``origin`` of a region that came from an answer and was changed in the editor since."""
FILLED_WIDTHS = 1.5
"""A place wider than this many strokes was filled with strokes side by side."""
FILLED_SHARE = 0.5
"""A region is an area if at least this share of its pixels lies in such places."""
THIN_PCT = 2.5
"""A part at most this wide, in percent of the image's width, is a stroke; Label Studio's brush makes about 2 %."""
RIM_PX = 2.0
"""A drawn stroke is wider than its nominal width by this much, because barely touched pixels count."""
THIN_LENGTHS = 4.0
"""A part at least this many times longer than wide is a stroke."""
SAMPLES_PER_SIDE = 8
"""A pixel is sampled at 8x8 places at most. Chromium samples four rows."""
MAX_SAMPLES = 2**26
"""Fewer samples per pixel are taken where there would be more than this many in all."""
SHIFT = 4
"""OpenCV draws to 1/16 of a sample."""


def stroke_path_px(touch: Touch, size_hw_px: tuple[int, int]) -> NDArray[np.float64]:
    """The points x, y (N, 2) of a stroke, in pixels of the frame; they may lie outside."""
    height_px, width_px = size_hw_px
    pairs = np.array(touch.points[: len(touch.points) // 2 * 2], np.float64).reshape(-1, 2)
    return pairs * (width_px / PCT, height_px / PCT)


def stroke_width_px(touch: Touch, size_hw_px: tuple[int, int]) -> float:
    """The width of a stroke, in pixels of the frame."""
    return touch.width_pct / PCT * size_hw_px[1]


def draw_touches(mask: BoolMask, touches: Iterable[Touch]) -> BoolMask:
    """A copy of a mask (H, W) with strokes drawn on top, in their order.

    Label Studio (its ``exportRLE``) draws anti-aliased lines with round ends and keeps every pixel whose alpha is not
    zero: a brush stroke sets all pixels that it touches, an eraser stroke clears those that it covers wholly. A stroke
    that does not move (a click) paints nothing. Compared with Label Studio 1.23 in Chromium, only a few pixels at the
    rim of slanting strokes differ.
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
    """The samples of each pixel that a stroke covers, (H, rows, W, columns); 4 rows of 8 columns if memory allows."""
    height_px, image_width_px = size_hw_px
    per_px = SAMPLES_PER_SIDE
    while per_px > 1 and height_px * image_width_px * per_px**2 > MAX_SAMPLES:
        per_px //= 2
    # With twice as many rows as Chromium samples, every other row is moved to where Chromium samples it.
    step = 2 if per_px == SAMPLES_PER_SIDE else 1
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


def brush_digest(region: Json) -> bytes | None:
    """A hash of what a brush region shows: it differs between saved versions. None for others and damaged ones."""
    value = region.get("value")
    if region.get("type") != "brushlabels" or not isinstance(value, dict):
        return None
    rle, touches = value.get("rle") or [], value.get("touches") or []
    if not isinstance(rle, list) or not (rle or touches):
        return None
    try:
        digest = hashlib.blake2b(bytes(rle), digest_size=16)
        if touches:
            digest.update(json.dumps(touches, sort_keys=True).encode())
        return digest.digest()
    except (TypeError, ValueError):
        return None


def brush_digests(regions: Iterable[Json]) -> dict[str, bytes]:
    """The `brush_digest` of all brush regions that have one, by region id."""
    return {str(region.get("id")): digest for region in regions if (digest := brush_digest(region))}


@dataclass(frozen=True)
class StoredRegion:
    """A brush region of a draft or an annotation, with one label. ``digest`` is its `brush_digest`."""

    region: BrushRegion
    label: str
    digest: bytes

    @property
    def frame_index(self) -> int:
        """The frame it is on."""
        return self.region.item_index

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.region.original_height, self.region.original_width

    @property
    def is_mask_of_backend(self) -> bool:
        """Whether this backend made the region; its id says so."""
        return self.region.id == region_id(self.label, self.frame_index)

    @property
    def is_changed_by_hand(self) -> bool:
        """Whether a person changed a mask of this backend after the last answer that replaced it."""
        return self.region.origin == CHANGED_BY_HAND

    @cached_property
    def base(self) -> BoolMask:
        """The pixels (H, W) below the strokes.

        Raises:
            ValueError: its run lengths are damaged.
        """
        rle = self.region.value.rle
        return brush_rle_to_mask(rle, *self.size_hw_px) if rle else np.zeros(self.size_hw_px, np.bool_)

    @cached_property
    def mask(self) -> BoolMask:
        """The pixels (H, W) that the annotator sees: those below the strokes, with the strokes drawn.

        Raises:
            ValueError: its run lengths are damaged.
        """
        return draw_touches(self.base, self.region.value.touches)

    @cached_property
    def is_thin(self) -> bool:
        """Whether it is scribbled rather than painted. An empty region is thin, too."""
        widths_px = [stroke_width_px(t, self.size_hw_px) for t in self.region.value.touches if t.type == "add"]
        return is_thin(self.mask, max(widths_px, default=0.0) if not self.base.any() else None)


def is_thin(mask: BoolMask, stroke_width_px: float | None) -> bool:
    """Whether a region (H, W) consists of strokes rather than areas.

    If the width of the brush is known, the region is an area if half of its pixels lie in places wider than 1.5
    strokes: the annotator drew strokes side by side. If only pixels are known, each connected part is a stroke if it is
    as narrow as Label Studio's brush, or at least four times longer than wide. Its length is measured where it is at
    least half as wide as at its widest place. The region is thin if more than half of its pixels are in such parts.
    """
    area_px = int(np.count_nonzero(mask))
    if not area_px:
        return True
    ys, xs = np.nonzero(mask)
    part = np.pad(mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], 1)
    if stroke_width_px is not None:
        depth_px = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5)
        radius_px = FILLED_WIDTHS * (stroke_width_px + RIM_PX) / 2
        core = (depth_px > radius_px).astype(np.uint8)
        from_core_px = cv2.distanceTransform(1 - core, cv2.DIST_L2, 5) if core.any() else np.full(part.shape, np.inf)
        return int(np.count_nonzero(part & (from_core_px <= radius_px))) < FILLED_SHARE * area_px
    return _thin_px(part, mask.shape[1]) > 0.5 * area_px


def _thin_px(region: BoolMask, image_width_px: int) -> int:
    """How many pixels of a region lie in parts that are strokes."""
    n_parts, labels = cv2.connectedComponents(region.astype(np.uint8))
    thin_px = 0
    for number in range(1, n_parts):
        part = labels == number
        depth_px = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5)
        width_px = 2.0 * float(depth_px.max())
        is_stroke = width_px <= THIN_PCT / PCT * image_width_px + RIM_PX
        if not is_stroke:
            # Legs and tails make a body no stroke: only places at least half as wide count.
            paths = longest_paths(thinned(part))
            lengths_px = [np.count_nonzero(2.0 * depth_px[path[:, 1], path[:, 0]] >= width_px / 2) for path in paths]
            is_stroke = max(lengths_px, default=0) + width_px >= THIN_LENGTHS * width_px
        thin_px += int(np.count_nonzero(part)) * is_stroke
    return thin_px
