"""Masks carried from frame to frame along dense optical flow, at a small size; one flow for all masks of a frame."""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import saturated_logits
from pipeline.segmenters.base import FloatMap
from pipeline.trackers._frames import reduced_grey
from pipeline.trackers.dense_flow import FlowField
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource

KEPT_FRAMES, KEPT_FIELDS = 6, 4
"""Small images and flows remembered: those of a frame and its neighbours on both sides."""


class FlowFields:
    """The flows between frames of one video, each computed once while several masks are carried along it.

    Not for several threads at once.
    """

    def __init__(self, frames: FrameSource, long_side_px: int) -> None:
        self._frames, self._long_side_px = frames, long_side_px
        self._greys: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._fields: OrderedDict[tuple[int, int], FlowField] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Memory of what is remembered, in bytes."""
        greys, fields = list(self._greys.values()), list(self._fields.values())
        return sum(grey.nbytes for grey in greys) + sum(field.nbytes for field in fields)

    def grey(self, frame_index: int) -> NDArray[np.uint8] | None:
        """A frame in grey, reduced to (h, w) uint8; None if it cannot be read."""
        if frame_index not in self._greys:
            image, _ = reduced_grey(self._frames, frame_index, self._long_side_px)
            if image is None:
                return None
            self._greys[frame_index] = image
            while len(self._greys) > KEPT_FRAMES:
                self._greys.popitem(last=False)
        self._greys.move_to_end(frame_index)
        return self._greys[frame_index]

    def between(self, from_frame: int, to_frame: int) -> FlowField | None:
        """How pixels move from one frame to another; None if one of them cannot be read."""
        key = from_frame, to_frame
        if key not in self._fields:
            before, after = self.grey(from_frame), self.grey(to_frame)
            if before is None or after is None:
                return None
            self._fields[key] = FlowField.between(before, after)
            while len(self._fields) > KEPT_FIELDS:
                self._fields.popitem(last=False)
        self._fields.move_to_end(key)
        return self._fields[key]


class MaskFlow:
    """Carries one object's mask from each frame to the next."""

    def __init__(self, fields: FlowFields) -> None:
        self._fields = fields
        self._frame_index: int | None = None
        self._logits: FloatMap | None = None
        self._size_hw_px: tuple[int, int] = (0, 0)

    def start(self, frame_index: int, mask: BoolMask) -> None:
        """Begin at a frame whose mask (H, W) is known, or go on from the mask found there."""
        grey = self._fields.grey(frame_index)
        self._frame_index, self._logits, self._size_hw_px = frame_index, None, (mask.shape[0], mask.shape[1])
        if grey is not None and mask.any():
            size = grey.shape[1], grey.shape[0]
            self._logits = np.asarray(
                cv2.resize(saturated_logits(mask), size, interpolation=cv2.INTER_AREA), np.float32
            )

    def to(self, frame_index: int) -> FloatMap | None:
        """The mask carried to a frame as logits (H, W); None when there is none to carry."""
        if self._logits is None or self._frame_index is None:
            return None
        field = self._fields.between(self._frame_index, frame_index)
        if field is None:
            return None
        carried = field.carry(self._logits)
        return np.asarray(cv2.resize(carried, self._size_hw_px[::-1]), np.float32)
