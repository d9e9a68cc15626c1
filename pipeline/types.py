"""The vocabulary of the pipeline: prompts in, masks out. Plain frozen data, units in the names.

Two kinds of number name an object, and they never mix: ``object_id`` is stable for the life of a session, ``row`` is a
position in an array and never leaves the function that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

BoolMask: TypeAlias = NDArray[np.bool_]
"""(H, W) bool."""
FrameRGB: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, [0, 255]."""


@dataclass(frozen=True)
class PointPrompt:
    """One click. ``x_px``, ``y_px`` are pixels of the original frame, origin at its top left corner."""

    object_id: int
    frame_index: int
    x_px: float
    y_px: float
    positive: bool = True


@dataclass(frozen=True)
class BoxPrompt:
    """One box around the object. Corners are ``x0, y0, x1, y1`` in pixels of the original frame, x0 < x1, y0 < y1."""

    object_id: int
    frame_index: int
    box_xyxy_px: tuple[float, float, float, float]


@dataclass(frozen=True)
class RunLengthMask:
    """A mask as COCO run lengths: compressed bytes, column-major, as pycocotools writes them."""

    height_px: int
    width_px: int
    counts: bytes

    @classmethod
    def encode(cls, mask: BoolMask) -> RunLengthMask:
        """Encode a (H, W) bool mask.

        Raises:
            ValueError: the mask is not two-dimensional.
        """
        if mask.ndim != 2:
            raise ValueError(f"a mask must have the shape (H, W), but got {mask.shape}")
        encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return cls(int(mask.shape[0]), int(mask.shape[1]), bytes(encoded["counts"]))

    def decode(self) -> BoolMask:
        """The mask as (H, W) bool."""
        decoded = coco_mask.decode(self.coco())
        return np.ascontiguousarray(decoded, dtype=np.bool_)

    def coco(self) -> dict[str, object]:
        """The dictionary pycocotools expects: ``size`` [H, W] and ``counts`` bytes."""
        return {"size": [self.height_px, self.width_px], "counts": self.counts}

    @property
    def area_px(self) -> int:
        """The number of set pixels."""
        return int(coco_mask.area(self.coco()))


@dataclass(frozen=True)
class MaskPrompt:
    """The mask of one frame as a person made it (first-frame masks of benchmarks, masks painted by hand).

    It replaces all prompts before it on the same frame; prompts after it correct it.
    """

    object_id: int
    frame_index: int
    mask: RunLengthMask


@dataclass(frozen=True)
class ScribblePrompt:
    """One stroke of a brush: over the object, or, not ``positive``, over what is not the object.

    ``path_xy_px`` are the points of the stroke in drawing order, in pixels of the original frame; at least one.
    """

    object_id: int
    frame_index: int
    path_xy_px: tuple[tuple[float, float], ...]
    width_px: float
    positive: bool = True


Prompt: TypeAlias = PointPrompt | BoxPrompt | MaskPrompt | ScribblePrompt


@dataclass(frozen=True)
class FrameResult:
    """The mask of one object on one frame, as a round produced it.

    ``mask`` is empty where the object is not visible. ``score`` is the confidence in [0, 1]. ``prompted`` says that a
    person prompted this object on this frame, so that propagation does not change it. ``uncertainty`` in [0, 1] is the
    mean entropy within the dilated mask (see `pipeline.uncertainty`), None where no probabilities are known.
    ``agreement`` in [0, 1] says how far the passes from the prompted frames on both sides agree, None where there was
    one.
    """

    object_id: int
    frame_index: int
    mask: RunLengthMask
    score: float
    prompted: bool
    uncertainty: float | None = None
    agreement: float | None = None
