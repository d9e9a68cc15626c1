"""Masks as Label Studio's brush run lengths and back, through the SDK's own codec.

A stored brush mask is an RGBA image in run lengths. Label Studio paints a pixel where its alpha is not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

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
