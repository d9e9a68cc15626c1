"""Masks → Label Studio's brush regions, with ids made of label and frame.

Label Studio replaces a region in place when its id comes back, so a label and a frame must always give the same id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json
from pipeline.types import BoolMask

CHANNELS = 4
HEADER_BYTES = 4


def sdk_codec() -> ModuleType:
    """The SDK's codec. Its first import takes seconds (it loads NLTK), so commands that need no masks do without."""
    from label_studio_sdk.converter import brush

    return brush


def mask_to_brush_rle(mask: BoolMask) -> list[int]:
    """Encode a mask (H, W) bool the way Label Studio stores it, as integers in [0, 255].

    An all-zero mask is valid and small (95 bytes at 854x480). About 5 ms at that size.

    Raises:
        ValueError: the mask is not two-dimensional or has no pixel.
    """
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"a mask must have the shape (H, W) and at least one pixel, but got {mask.shape}")
    return list(sdk_codec().mask2rle(mask.astype(np.uint8) * 255))


def brush_rle_to_mask(rle: Sequence[int], height_px: int, width_px: int) -> BoolMask:
    """Decode a stored brush mask to (H, W) bool: set where alpha is not zero.

    Args:
        rle: integers in [0, 255].
        height_px: height of the image the mask was made on (``original_height``).
        width_px: width of that image (``original_width``).

    Raises:
        ValueError: the run lengths are cut off, damaged, or belong to an image of another size.
    """
    try:
        data = bytes(list(rle))
    except (TypeError, ValueError) as error:
        raise ValueError(f"a brush RLE must be a list of integers in [0, 255]: {error}") from error
    # The SDK allocates what the header says, so the header is checked first.
    n_values, expected = int.from_bytes(data[:HEADER_BYTES], "big"), height_px * width_px * CHANNELS
    if n_values != expected:
        raise ValueError(
            f"the brush RLE holds {n_values} values, but an image of {width_px}x{height_px} px has {expected}; "
            "it is damaged, or original_width and original_height are not those of the mask"
        )
    try:
        values = sdk_codec().decode_rle(list(data))
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"the brush RLE is cut off or damaged: {error}") from error
    return np.ascontiguousarray(values.reshape(height_px, width_px, CHANNELS)[:, :, 3] != 0)


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
