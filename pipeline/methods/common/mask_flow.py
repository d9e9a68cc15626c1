"""Masks carried from frame to frame along dense optical flow, at a small size; one flow for all masks of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.masks import saturated_logits
from pipeline.segmenters.base import FloatMap
from pipeline.trackers.frames import reduced_grey
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource

SATURATION_LOGIT = 4.0
CONFIDENT_PX = 2.0
KEPT_FRAMES, KEPT_FIELDS = 6, 4
"""Small images and flows that are kept: those of a frame and its neighbours on both sides."""


@dataclass(frozen=True)
class FlowField:
    """Dense optical flow from one frame to the next.

    Attributes:
        map_x: (h, w) float32, the column in the first frame from which each pixel of the next one came.
        map_y: (h, w) float32, its row.
        confidence: (h, w) float32 in (0, 1]: 1 where the flow there and back agrees.
    """

    map_x: NDArray[np.float32]
    map_y: NDArray[np.float32]
    confidence: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.map_x.nbytes + self.map_y.nbytes + self.confidence.nbytes

    @classmethod
    def between(cls, previous_grey: NDArray[np.uint8], grey: NDArray[np.uint8]) -> FlowField:
        """The flow from one frame to the next, both (h, w) uint8."""
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        back = flow.calc(grey, previous_grey, None)  # type: ignore[call-overload]
        there = flow.calc(previous_grey, grey, None)  # type: ignore[call-overload]
        h, w = grey.shape
        ys, xs = np.mgrid[:h, :w].astype(np.float32)
        map_x, map_y = xs + back[..., 0], ys + back[..., 1]
        returned = cv2.remap(there, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) + back
        error = np.linalg.norm(returned, axis=2)
        return cls(map_x, map_y, np.exp(-error / CONFIDENT_PX).astype(np.float32))

    def carry(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (h, w) float32 of the first frame carried to the next, halved where the flow disagrees."""
        limited = np.clip(logits, -SATURATION_LOGIT, SATURATION_LOGIT)
        carried = cv2.remap(limited, self.map_x, self.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(carried * (0.5 + 0.5 * self.confidence), np.float32)


class FlowFields:
    """The optical flow between frames of one video, computed once for all masks that are carried along it.

    Not thread-safe.
    """

    def __init__(self, frames: FrameSource, long_side_px: int) -> None:
        self._frames, self._long_side_px = frames, long_side_px
        self._greys: LRUCache[int, NDArray[np.uint8]] = LRUCache(KEPT_FRAMES)
        self._fields: LRUCache[tuple[int, int], FlowField] = LRUCache(KEPT_FIELDS)
        # All images have one size, and so have all fields: other threads get the sum without walking through a cache.
        self._grey_bytes = self._field_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Memory of the images and flows that are kept, in bytes."""
        return len(self._greys) * self._grey_bytes + len(self._fields) * self._field_bytes

    def grey(self, frame_index: int) -> NDArray[np.uint8] | None:
        """A frame in grey, reduced to (h, w) uint8; None if it cannot be read."""
        image: NDArray[np.uint8] | None = self._greys.get(frame_index)
        if image is None:
            image, _ = reduced_grey(self._frames, frame_index, self._long_side_px)
            if image is not None:
                self._greys[frame_index], self._grey_bytes = image, image.nbytes
        return image

    def between(self, from_frame: int, to_frame: int) -> FlowField | None:
        """How pixels move from one frame to another; None if one of them cannot be read."""
        key = from_frame, to_frame
        field: FlowField | None = self._fields.get(key)
        if field is None:
            before, after = self.grey(from_frame), self.grey(to_frame)
            if before is not None and after is not None:
                field = FlowField.between(before, after)
                self._fields[key], self._field_bytes = field, field.nbytes
        return field


class MaskFlow:
    """Carries one object's mask from each frame to the next."""

    def __init__(self, fields: FlowFields) -> None:
        self._fields = fields
        self._frame_index: int | None = None
        self._logits: FloatMap | None = None
        self._size_hw_px: tuple[int, int] = (0, 0)

    def start(self, frame_index: int, mask: BoolMask) -> None:
        """Start at a frame whose mask (H, W) is known, or continue from the mask found there."""
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
