"""What goes back to Label Studio: masks as brush regions, and the line that says where to look next.

Label Studio replaces a region in place when its id comes back, so a label and a frame must always give the same id. A
brush region is an RGBA image in run lengths, coded by the SDK's own codec. Label Studio paints a pixel where its alpha
is not zero.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ls_backend.protocol.label_config import NEXT_CONTROL, LabelConfig
from ls_backend.protocol.payloads import PCT, Json
from pipeline.types import BoolMask, RunLengthMask

if TYPE_CHECKING:
    from pipeline.session.next_frame import Suggestion

CHANNELS = 4
HEADER_BYTES = 4
SCORE_DIGITS = 4
PCT_DIGITS = 2
NEXT_NOTE_ID = "ivos-next"
"""The id of the line that says where to look next. It is always the same, so that a new line replaces the old one."""
CERTAIN = 1.0
"""The score of the annotator's own regions. Without a score they would come first in a list ordered by score."""


def region_id(label: str, frame_index: int) -> str:
    """The id of a label's mask on a frame, such as ``obj1-00003``.

    Labels with other characters than letters, digits, ``_``, ``.`` and ``-`` get a short hash, so that two labels never
    share an id.
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)
    if readable != label:
        readable += "." + hashlib.sha256(label.encode()).hexdigest()[:6]
    return f"{readable}-{frame_index:05d}"


@dataclass(frozen=True)
class LabelMask:
    """A mask as it goes to Label Studio: ``region_id`` names label and frame."""

    region_id: str
    label: str
    frame_index: int
    mask: RunLengthMask
    score: float

    @cached_property
    def brush_rle(self) -> bytes:
        """Label Studio's coding of the mask; made at first use, which takes milliseconds, and kept."""
        return bytes(mask_to_brush_rle(self.mask.decode()))

    def rescored(self, score: float) -> LabelMask:
        """The same mask with another confidence; a coding that was made is kept."""
        if score == self.score:
            return self
        mask = replace(self, score=score)
        if "brush_rle" in self.__dict__:
            mask.__dict__["brush_rle"] = self.brush_rle
        return mask

    @property
    def coded_bytes(self) -> int:
        """How much the coding takes, if it was made."""
        return len(self.__dict__.get("brush_rle", b""))


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


def place_to_look(suggestion: Suggestion, label: str, size_hw_px: tuple[int, int]) -> Json:
    """A suggested correction with labels, percent of the image, and frames as the editor's pager counts them.

    ``frame_index`` counts from 0, ``ls_frame`` from 1. ``gain`` is what suggestions are ranked by, ``score`` the
    confidence in [0, 1] of the mask there.
    """
    height_px, width_px = size_hw_px
    return {
        "frame_index": suggestion.frame_index,
        "ls_frame": suggestion.frame_index + 1,
        "label": label,
        "region_id": region_id(label, suggestion.frame_index),
        "x_pct": round(suggestion.x_px / width_px * PCT, PCT_DIGITS),
        "y_pct": round(suggestion.y_px / height_px * PCT, PCT_DIGITS),
        "positive": suggestion.positive,
        "gain": round(suggestion.gain, SCORE_DIGITS),
        "score": round(suggestion.score, SCORE_DIGITS),
    }


def look_next_region(config: LabelConfig, places: Sequence[Json]) -> Json:
    """The best of some `place_to_look` as a line of text above the labels; for configs with a `NEXT_CONTROL`."""
    return {
        "id": NEXT_NOTE_ID,
        "from_name": NEXT_CONTROL,
        "to_name": config.image_name,
        "type": "textarea",
        "origin": "prediction",
        "value": {"text": [_sentence(places)]},
    }


def _sentence(places: Sequence[Json]) -> str:
    if not places:
        return "No frame stands out."
    best, *others = places
    where = f"Frame {best['ls_frame']}, {best['label']}, at {best['x_pct']:.0f} % across, {best['y_pct']:.0f} % down"
    then = f" Then {', '.join(str(place['ls_frame']) for place in others)}." if others else ""
    return f"{where} (score {best['score']:.2f}).{then}"


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
