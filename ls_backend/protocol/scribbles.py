"""The strokes of a brush region as scribbles: with their signs where strokes are stored, traced where pixels are."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ls_backend.protocol.brush_regions import Stored
from ls_backend.protocol.painting import distance_to_path, draw_touches, stroke_path_px, stroke_width_px
from ls_backend.protocol.payloads import PCT, ScribbleNote, Touch
from ls_backend.protocol.prompts import SCRIBBLE_NOTE, LabelPrompt, read_note
from pipeline.skeleton import longest_ways, thinned

SAME_STROKES_IOU = 0.7
"""From here on the pixels of a region are what the strokes known of it painted."""
COORDINATE_DIGITS = 4


def stands_in(prompt: LabelPrompt) -> str:
    """The brush region a scribble was read from; nothing for other prompts."""
    return prompt.region.stands_in if isinstance(prompt.region, ScribbleNote) else ""


def scribbles_in(stored: Stored, known: list[LabelPrompt]) -> list[LabelPrompt]:
    """The scribbles of one thin region in the order of drawing.

    A stroke that another one of the other kind painted over counts where it was left.

    Args:
        stored: the region.
        known: scribbles read from it earlier. Where pixels alone are stored by now, they tell which strokes were
            positive and which negative; without them all are positive.
    """
    touches = stored.region.value.touches
    if known and (stored.base.any() or not touches) and _are_the_same(stored, known):
        found = list(known)
    else:
        found = _traced(stored)
    for number, touch in enumerate(touches):
        later = [other for other in touches[number + 1 :] if other.type != touch.type]
        for part, run in enumerate(_left_over(touch, later, stored.size_hw_px)):
            name = f"{touch.id or number}.{part}"
            found.append(_scribble(stored, name, run, touch.width_pct, positive=touch.type == "add"))
    return found


def _are_the_same(stored: Stored, known: list[LabelPrompt]) -> bool:
    """Whether the pixels of a region are what the known scribbles painted."""
    notes = [prompt.region for prompt in known if isinstance(prompt.region, ScribbleNote)]
    touches = [
        Touch(relativePoints=note.path, relativeStrokeWidth=note.width_pct, type="add" if note.positive else "eraser")
        for note in notes
    ]
    painted = draw_touches(np.zeros(stored.size_hw_px, np.bool_), touches)
    union_px = int(np.count_nonzero(painted | stored.base))
    return not union_px or np.count_nonzero(painted & stored.base) / union_px >= SAME_STROKES_IOU


def _traced(stored: Stored) -> list[LabelPrompt]:
    """Scribbles along the middle of a thin region; nothing tells how it was erased, so all are positive."""
    base, image_width_px = np.pad(stored.base, 1), stored.size_hw_px[1]
    depth_px = cv2.distanceTransform(base.astype(np.uint8), cv2.DIST_L2, 5)
    n_parts, labels = cv2.connectedComponents(base.astype(np.uint8))
    found: list[LabelPrompt] = []
    for number in range(1, n_parts):
        part = labels == number
        deepest = np.argwhere(part & (depth_px == depth_px[part].max()))[:1, ::-1].astype(np.int64)
        for line in longest_ways(thinned(part)) or [deepest]:
            depths_px = depth_px[line[:, 1], line[:, 0]].astype(np.float64)
            width_px = max(1.0, 2.0 * float(np.median(depths_px)) - 1.0)
            path_px = line[:: max(1, int(width_px / 2))].astype(np.float64) - 0.5
            width_pct = width_px / image_width_px * PCT
            found.append(_scribble(stored, f"traced{len(found)}", path_px, width_pct, positive=True))
    return found


def _left_over(touch: Touch, later: list[Touch], size_hw_px: tuple[int, int]) -> list[NDArray[np.float64]]:
    """The runs x, y in px of a stroke's path that no later stroke of the other kind painted over."""
    path_px = stroke_path_px(touch, size_hw_px)
    path_px = path_px[np.append(True, (np.diff(path_px, axis=0) != 0).any(axis=1))]
    if not later:
        return [path_px]
    steps_px = np.linalg.norm(np.diff(path_px, axis=0), axis=1)
    at_px = np.append(0.0, np.cumsum(steps_px))
    wanted_px = np.linspace(0.0, at_px[-1], int(at_px[-1]) + 1)
    dense_px = np.stack([np.interp(wanted_px, at_px, path_px[:, axis]) for axis in (0, 1)], axis=1)
    left = np.ones(len(dense_px), np.bool_)
    for other in later:
        radius_px = stroke_width_px(other, size_hw_px) / 2
        left &= distance_to_path(dense_px, stroke_path_px(other, size_hw_px)) > radius_px
    if left.all():
        return [path_px]
    runs = np.split(np.arange(len(dense_px)), np.flatnonzero(np.diff(left)) + 1)
    return [dense_px[run] for run in runs if left[run[0]]]


def _scribble(
    stored: Stored, name: str, path_px: NDArray[np.float64], width_pct: float, *, positive: bool
) -> LabelPrompt:
    height_px, width_px = stored.size_hw_px
    path_pct = np.round(path_px / (width_px, height_px) * PCT, COORDINATE_DIGITS)
    value = {
        "label": stored.label,
        "stands_in": stored.region.id,
        "path": path_pct.ravel().tolist(),
        "width_pct": width_pct,
        "positive": positive,
    }
    note_id = f"{stored.region.id}/{name}"
    return read_note({"id": note_id, "type": SCRIBBLE_NOTE, "item_index": stored.frame_index, "value": value})
