"""The frame source of a session: remembers a few decoded frames, and which ones could not be read."""

from __future__ import annotations

import threading
from collections import OrderedDict

from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, FrameSource, frame_identity

RECENT_MIB = 64


class RecentFrames:
    """A `FrameSource` around another. Each step of a round reads two or three neighbours, so few frames are kept."""

    def __init__(self, frames: FrameSource, limit_mib: float = RECENT_MIB) -> None:
        self._frames = frames
        self._limit_bytes = int(limit_mib * 2**20)
        self._kept: OrderedDict[int, FrameRGB] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width that all frames share."""
        return self._frames.size_hw_px

    def identity(self, frame_index: int) -> str | None:
        """What the source says, see `pipeline.video.frames.frame_identity`."""
        return frame_identity(self._frames, frame_index)

    @property
    def held_bytes(self) -> int:
        """Bytes kept now, at most the bound."""
        return self._held_bytes

    @property
    def errors(self) -> dict[int, str]:
        """Reasons by index of the frames that could not be read when last tried."""
        with self._lock:
            return dict(self._errors)

    def frame(self, frame_index: int) -> FrameRGB:
        """One frame, see `FrameSource.frame`."""
        with self._lock:
            if frame_index in self._kept:
                self._kept.move_to_end(frame_index)
                return self._kept[frame_index]
        try:
            image = self._frames.frame(frame_index)
        except FrameError as error:
            with self._lock:
                self._errors[frame_index] = error.reason
            raise
        with self._lock:
            self._errors.pop(frame_index, None)
            if frame_index not in self._kept and image.nbytes <= self._limit_bytes:
                self._kept[frame_index] = image
                self._held_bytes += image.nbytes
                while self._held_bytes > self._limit_bytes:
                    self._held_bytes -= self._kept.popitem(last=False)[1].nbytes
        return image
