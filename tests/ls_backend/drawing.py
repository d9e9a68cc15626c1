"""Brush regions as Label Studio saves them in drafts and annotations."""

from __future__ import annotations

from typing import Any

from ls_backend.protocol.regions import mask_to_brush_rle
from pipeline.types import BoolMask

Json = dict[str, Any]
Place = tuple[float, float]
_SIDE_BY_SIDE = 0.7


def touch(*path_pct: Place, width_pct: float = 2.0, kind: str = "add", touch_id: str = "") -> Json:
    """One stroke through places in percent."""
    flat = [value for place in path_pct for value in place]
    named = {"id": touch_id} if touch_id else {}
    return {**named, "type": kind, "relativePoints": flat, "relativeStrokeWidth": width_pct}


def erased(*path_pct: Place, width_pct: float = 2.0, touch_id: str = "") -> Json:
    """One stroke of the eraser."""
    return touch(*path_pct, width_pct=width_pct, kind="eraser", touch_id=touch_id)


def filled(left: float, top: float, right: float, bottom: float, width_pct: float = 4.0) -> Json:
    """A stroke to and fro that fills a rectangle, in percent of an image 5:3."""
    path: list[Place] = []
    step = width_pct * 5 / 3 * _SIDE_BY_SIDE
    y = top
    while y <= bottom:
        path += [(left, y), (right, y)] if len(path) % 4 == 0 else [(right, y), (left, y)]
        y += step
    return touch(*path, width_pct=width_pct)


def drawn(
    region_id: str, label: str, frame_index: int, size_hw_px: tuple[int, int], *touches: Json, **changes: Any
) -> Json:
    """A brush region the annotator began, as a draft has it."""
    return {
        "id": region_id,
        "from_name": "brush",
        "to_name": "video",
        "type": "brushlabels",
        "origin": "manual",
        "item_index": frame_index,
        "original_width": size_hw_px[1],
        "original_height": size_hw_px[0],
        "image_rotation": 0,
        "value": {"format": "rle", "touches": list(touches), "brushlabels": [label]},
        **changes,
    }


def in_pixels(region: Json, mask: BoolMask) -> Json:
    """The same region as an annotation has it: pixels, no strokes."""
    value = {**region["value"], "rle": mask_to_brush_rle(mask)}
    value.pop("touches", None)
    return {**region, "value": value}


def changed_by_hand(region: Json, *touches: Json) -> Json:
    """A mask of the backend with strokes on it, as a draft has it."""
    return {**region, "origin": "prediction-changed", "value": {**region["value"], "touches": list(touches)}}
