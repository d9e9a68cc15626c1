"""Frames by index, wherever they come from."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from cachetools import LRUCache

from pipeline.types import FrameRGB

RECENT_MIB = 64.0
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class FrameError(Exception):
    """One frame cannot be read (not found, not an image, wrong size). The other frames are not affected."""

    def __init__(self, frame_index: int, reason: str) -> None:
        super().__init__(f"frame {frame_index}: {reason}")
        self.frame_index = frame_index
        self.reason = reason


class FrameSource(Protocol):
    """A video as frames by 0-based index. Safe to read from several threads."""

    def __len__(self) -> int: ...

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width that all frames share.

        Raises:
            FrameError: no frame can be read.
        """
        ...

    def frame(self, frame_index: int) -> FrameRGB:
        """One frame.

        Raises:
            FrameError: this frame cannot be fetched or decoded, or its size is not ``size_hw_px``.
            IndexError: ``frame_index`` is outside the video.
        """
        ...


@runtime_checkable
class IdentifiedFrames(Protocol):
    """A `FrameSource` that can tell which frames are the same as frames seen before, also by another process."""

    def identity(self, frame_index: int) -> str | None:
        """A name of the frame's content, equal only for equal images; None where that is not known."""
        ...


def frame_identity(frames: FrameSource, frame_index: int) -> str | None:
    """The identity of a frame; None if the source knows none, or the frame cannot be read."""
    if not isinstance(frames, IdentifiedFrames):
        return None
    try:
        return frames.identity(frame_index)
    except FrameError:
        return None


def file_identity(path: Path) -> str | None:
    """A file as it is now, by place, size and time of change; None if it is not there."""
    try:
        found = path.stat()
        return f"{path.absolute()}|{found.st_size}|{found.st_mtime_ns}"
    except OSError:
        return None


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A sorting key that compares the numbers in file names as numbers."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, path.name)]


def decode_image(data: bytes, frame_index: int) -> FrameRGB:
    """Decode an encoded image into RGB.

    Raises:
        FrameError: the bytes are not an image OpenCV can read.
    """
    # OpenCV turns the image as its EXIF orientation says, and so do browsers: masks lie on what the annotator sees.
    bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise FrameError(frame_index, f"{len(data)} bytes that are not a readable image (JPEG, PNG, WebP, BMP or TIFF)")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


class UniformFrames(ABC):
    """A `FrameSource` over frames that may differ in size: all have to have the size of the first readable one."""

    _size_hw_px: tuple[int, int] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, frame_index: int) -> FrameRGB:
        """One frame of any size; the index is inside the video.

        Raises:
            FrameError: it cannot be fetched or decoded.
        """

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width of the first readable frame, which the others must share.

        Raises:
            FrameError: none can be read; it carries the first frame's reason.
        """
        if self._size_hw_px is None:
            self._size_hw_px = self._first_readable_size_hw_px()
        return self._size_hw_px

    def frame(self, frame_index: int) -> FrameRGB:
        """One frame, see `FrameSource.frame`."""
        if not 0 <= frame_index < len(self):
            raise IndexError(f"frame {frame_index} of a video of {len(self)} frames")
        image = self.read(frame_index)
        height_px, width_px = self.size_hw_px
        if image.shape[:2] != (height_px, width_px):
            arrived = f"{image.shape[1]}x{image.shape[0]}"
            raise FrameError(frame_index, f"is {arrived} px, but the video is {width_px}x{height_px} px; re-extract it")
        return image

    def _first_readable_size_hw_px(self) -> tuple[int, int]:
        first_error: FrameError | None = None
        for frame_index in range(len(self)):
            try:
                image = self.read(frame_index)
            except FrameError as error:
                first_error = first_error or error
                continue
            return int(image.shape[0]), int(image.shape[1])
        raise first_error or FrameError(0, "the video has no frames")


class ImageFileFrames(UniformFrames):
    """A list of image files as a video."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files by frame."""
        return tuple(self._paths)

    @classmethod
    def from_folder(cls, folder: Path) -> ImageFileFrames:
        """All images of a folder in the natural order of their names (``2`` before ``10``).

        Raises:
            FileNotFoundError: the folder holds no image.
        """
        paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_order)
        if not paths:
            raise FileNotFoundError(f"{folder} holds no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        return cls(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def identity(self, frame_index: int) -> str | None:
        """The file as it is now, see `IdentifiedFrames.identity`."""
        return file_identity(self._paths[frame_index])

    def read(self, frame_index: int) -> FrameRGB:
        """One image file, see `UniformFrames.read`."""
        path = self._paths[frame_index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FrameError(frame_index, f"{path} cannot be read: {error.strerror}") from error
        return decode_image(data, frame_index)


class RecentFrames:
    """A `FrameSource` around another that caches the frames read last, and notes which ones could not be read.

    Every step of a round reads two or three neighbours, so a few frames are enough.
    """

    def __init__(self, frames: FrameSource, limit_mib: float = RECENT_MIB) -> None:
        self._frames = frames
        self._cache: LRUCache[int, FrameRGB] = LRUCache(int(limit_mib * 2**20), getsizeof=lambda image: image.nbytes)
        self._lock = threading.Lock()
        self._errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width that all frames share."""
        return self._frames.size_hw_px

    def identity(self, frame_index: int) -> str | None:
        """The identity that the source knows, see `frame_identity`."""
        return frame_identity(self._frames, frame_index)

    @property
    def held_bytes(self) -> int:
        """Bytes kept now, at most the bound."""
        return int(self._cache.currsize)

    @property
    def errors(self) -> dict[int, str]:
        """Reasons by index of the frames that could not be read when last tried."""
        with self._lock:
            return dict(self._errors)

    def frame(self, frame_index: int) -> FrameRGB:
        """One frame, see `FrameSource.frame`."""
        with self._lock:
            cached = self._cache.get(frame_index)
        if cached is not None:
            return cached
        try:
            image = self._frames.frame(frame_index)
        except FrameError as error:
            with self._lock:
                self._errors[frame_index] = error.reason
            raise
        with self._lock:
            self._errors.pop(frame_index, None)
            if image.nbytes <= self._cache.maxsize:
                self._cache[frame_index] = image
        return image
