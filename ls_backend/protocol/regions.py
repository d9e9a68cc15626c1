"""Masks → Label Studio's brush regions, with ids made of label and frame.

Label Studio replaces a region in place when its id comes back, so a label and a frame must always give the same id.
"""

from __future__ import annotations

import hashlib
import re

from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json

SCORE_DIGITS = 4
NEXT_NOTE_ID = "ivos-next"
"""The id of the line that says where to look next: the same always, so that there is one, and it is the newest."""
CERTAIN = 1.0
"""The score of what the annotator gave. Without one, it would come first in a region list ordered by score."""


def region_id(label: str, frame_index: int) -> str:
    """The id of a label's mask on a frame, such as ``obj1-00003``.

    Labels with other characters than letters, digits, ``_``, ``.`` and ``-`` get a short hash, so that two labels never
    share an id.
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)
    if readable != label:
        readable += "." + hashlib.sha256(label.encode()).hexdigest()[:6]
    return f"{readable}-{frame_index:05d}"


def mask_region(
    config: LabelConfig, label: str, frame_index: int, size_hw_px: tuple[int, int], brush_rle: bytes, score: float
) -> Json:
    """One brush region. ``brush_rle`` is Label Studio's run-length coding, ``score`` the confidence in [0, 1]."""
    height_px, width_px = size_hw_px
    return {
        "id": region_id(label, frame_index),
        "from_name": config.brush_control,
        "to_name": config.image_name,
        "type": "brushlabels",
        "origin": "prediction",
        "score": round(score, SCORE_DIGITS),
        "item_index": frame_index,
        "original_width": width_px,
        "original_height": height_px,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": list(brush_rle), "brushlabels": [label]},
    }
