"""Brush regions as drafts and annotations hold them: what they show, and whether they are strokes or areas."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ls_backend.protocol.brush import brush_rle_to_mask
from ls_backend.protocol.painting import draw_touches, stroke_width_px
from ls_backend.protocol.payloads import PCT, BrushRegion, Json
from ls_backend.protocol.regions import region_id
from pipeline.skeleton import longest_ways, thinned
from pipeline.types import BoolMask

CHANGED_BY_HAND = "prediction-changed"
"""The ``origin`` of a region that came from an answer and was changed in the editor since."""
FILLED_WIDTHS = 1.5
"""Strokes that fill an area leave places wider than this many strokes."""
FILLED_SHARE = 0.5
"""Share of the pixels that must lie in such wide places."""
THIN_PCT = 2.5
"""What is at most so wide, in percent of the image's width, is a stroke; Label Studio's brush makes about 2 %."""
RIM_PX = 2.0
"""So much wider the rim of a stroke makes it: pixels that are hardly touched count."""
THIN_LENGTHS = 4.0
"""What is at least so many times longer than wide is a stroke."""


def brush_digest(region: Json) -> bytes | None:
    """Tells apart the versions of a stored brush region; None for others and damaged ones."""
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


@dataclass(frozen=True)
class Stored:
    """A brush region of a draft or an annotation with one label. ``digest`` names its version."""

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
        """Whether a person had the last word on a mask of this backend."""
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
        """What the annotator sees of it, (H, W).

        Raises:
            ValueError: its run lengths are damaged.
        """
        return draw_touches(self.base, self.region.value.touches)

    @cached_property
    def is_thin(self) -> bool:
        """Whether it is scribbled rather than painted full. Nothing is thin, too."""
        widths_px = [stroke_width_px(t, self.size_hw_px) for t in self.region.value.touches if t.type == "add"]
        return is_thin(self.mask, max(widths_px, default=0.0) if not self.base.any() else None)


def is_thin(mask: BoolMask, stroke_width_px: float | None) -> bool:
    """Whether a region (H, W) is a stroke or several rather than an area.

    Where the width of the brush is known, it is an area if half of its pixels lie in places wider than one and a half
    strokes, as they do after strokes side by side. Where only pixels are known, each connected part is a stroke if it
    is as narrow as Label Studio's brush or at least four times longer than wide (where it is at least half as wide as
    at its widest place), and the larger share counts.
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
            ways = longest_ways(thinned(part))
            lengths_px = [np.count_nonzero(2.0 * depth_px[way[:, 1], way[:, 0]] >= width_px / 2) for way in ways]
            is_stroke = max(lengths_px, default=0) + width_px >= THIN_LENGTHS * width_px
        thin_px += int(np.count_nonzero(part)) * is_stroke
    return thin_px
