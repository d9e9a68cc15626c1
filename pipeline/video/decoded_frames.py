"""Decoded frames of a video as JPEGs in a folder, inside a byte bound."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from pipeline.types import FrameRGB

JPEG_QUALITY = 95
_FULL_CHROMA = 0x111111
"""OpenCV's number for 4:4:4: colours keep the video's resolution."""
CHUNK_FRAMES = 128
CHUNKS_HELD = 4
"""A round goes outward both ways, so two chunks are in use at once; the others are the ones just left."""


def jpeg(image: FrameRGB) -> bytes:
    """A frame (H, W, 3) RGB uint8 as it is kept: the same frame always gives the same bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FULL_CHROMA]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return np.asarray(data).tobytes()


class DecodedFrames:
    """Frames 0 to ``n_pinned`` - 1 stay for good. Others share a work area: what was used longest ago makes room.

    Not thread-safe but for `path` of pinned frames. The bound holds at every moment.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._pinned_bytes: list[int] = []
        self._passing: OrderedDict[int, int] = OrderedDict()
        self._largest_bytes = 1
        self.is_full = False
        self.held_bytes, self.peak_bytes = 0, 0

    @property
    def n_pinned(self) -> int:
        """How many frames stay for good."""
        return len(self._pinned_bytes)

    @property
    def chunk_frames(self) -> int:
        """How many neighbouring frames to bring at once, so that `CHUNKS_HELD` chunks fit into the work area."""
        room_bytes = self._limit_bytes - sum(self._pinned_bytes)
        return int(np.clip(room_bytes // (CHUNKS_HELD * self._largest_bytes), 1, CHUNK_FRAMES))

    def pin(self, data: bytes) -> None:
        """Keep the next frame for good. The first one that does not fit ends that, and frees the work area.

        Raises:
            OSError: it cannot be written.
        """
        self._largest_bytes = max(self._largest_bytes, len(data))
        if self.held_bytes + len(data) > self._limit_bytes:
            self.is_full = True
            work_bytes = min(self._limit_bytes // 2, CHUNKS_HELD * CHUNK_FRAMES * self._largest_bytes)
            while self._pinned_bytes and self.held_bytes > self._limit_bytes - work_bytes:
                self.path(self.n_pinned - 1).unlink()
                self.held_bytes -= self._pinned_bytes.pop()
            return
        self.path(self.n_pinned).write_bytes(data)
        self._pinned_bytes.append(len(data))
        self._grow(len(data))

    def pass_by(self, frame_index: int, data: bytes) -> None:
        """Keep a frame for a while; one larger than the work area, or that cannot be written, is not kept."""
        if frame_index < self.n_pinned or frame_index in self._passing:
            return
        self._largest_bytes = max(self._largest_bytes, len(data))
        while self._passing and self.held_bytes + len(data) > self._limit_bytes:
            self._drop(next(iter(self._passing)))
        if self.held_bytes + len(data) > self._limit_bytes:
            return
        try:
            self.path(frame_index).write_bytes(data)
        except OSError:
            self.path(frame_index).unlink(missing_ok=True)
            return
        self._passing[frame_index] = len(data)
        self._grow(len(data))

    def passing(self, frame_index: int) -> bytes | None:
        """A frame of the work area, None if it is not there (any more)."""
        if frame_index not in self._passing:
            return None
        self._passing.move_to_end(frame_index)
        try:
            return self.path(frame_index).read_bytes()
        except OSError:
            self._drop(frame_index)
            return None

    def path(self, frame_index: int) -> Path:
        """Where a frame lies if it is held."""
        return self._folder / f"{frame_index}.jpg"

    def _grow(self, n_bytes: int) -> None:
        self.held_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def _drop(self, frame_index: int) -> None:
        self.path(frame_index).unlink(missing_ok=True)
        self.held_bytes -= self._passing.pop(frame_index)
