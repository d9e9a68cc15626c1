"""Frames of a video file: decoded once, in order, and kept as image files within a bound of disk space.

Sessions read frames outward from wherever a person clicked. Reading backwards through a decoder costs a decode from the
last key frame, or from the start, for every frame; image files cost the same in any order. Frames that do not fit are
decoded again when they are needed, a chunk of neighbours at a time, so the next ones in either direction are ready.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from cachetools import LRUCache

from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, UniformFrames, decode_image, file_identity
from pipeline.video.reader import FrameFingerprints, RandomAccessReader, VideoError, VideoReader

MIB = 1024 * 1024
FRAME_DISK_MIB = 16 * 1024
JPEG_QUALITY = 95
_FULL_CHROMA = 0x111111
"""OpenCV's number for 4:4:4: colours keep the video's resolution."""
CHUNK_FRAMES = 128
CHUNKS_HELD = 4
"""A round goes outward in both directions, so two chunks are in use at once; the others are the ones just left."""


def encode_jpeg(image: FrameRGB) -> bytes:
    """A frame (H, W, 3) RGB uint8 as a JPEG; the same frame always gives the same bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FULL_CHROMA]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return np.asarray(data).tobytes()


class _TemporaryFiles(LRUCache[int, int]):
    """Sizes of files in bytes, by frame; evicting a frame deletes its file."""

    def __init__(self, limit_bytes: int, path_of: Callable[[int], Path]) -> None:
        super().__init__(limit_bytes, getsizeof=lambda n_bytes: n_bytes)
        self._path_of = path_of

    def popitem(self) -> tuple[int, int]:
        """Evict the least recently used frame."""
        frame_index, n_bytes = super().popitem()
        self._path_of(frame_index).unlink(missing_ok=True)
        return frame_index, n_bytes


class FrameFiles:
    """Encoded frames in a folder, within a bound of bytes that holds at every moment.

    Frames 0 to ``n_kept`` - 1 are kept for good. The others share the space that is left; the least recently used ones
    make room. Not thread-safe, except for `path` of kept frames.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._kept_bytes: list[int] = []
        self._largest_bytes = 1
        self._temporary = _TemporaryFiles(limit_bytes, self.path)
        self.is_full = False
        self.held_bytes, self.peak_bytes = 0, 0

    @property
    def n_kept(self) -> int:
        """How many frames are kept for good."""
        return len(self._kept_bytes)

    @property
    def chunk_frames(self) -> int:
        """How many neighbouring frames to decode at once, so that `CHUNKS_HELD` chunks fit beside the kept frames."""
        free_bytes = self._limit_bytes - sum(self._kept_bytes)
        return int(np.clip(free_bytes // (CHUNKS_HELD * self._largest_bytes), 1, CHUNK_FRAMES))

    def keep(self, data: bytes) -> None:
        """Keep the next frame for good. The first one that does not fit ends this, and makes space for temporary ones.

        Raises:
            OSError: it cannot be written.
        """
        self._largest_bytes = max(self._largest_bytes, len(data))
        if self.held_bytes + len(data) > self._limit_bytes:
            self.is_full = True
            temporary_bytes = min(self._limit_bytes // 2, CHUNKS_HELD * CHUNK_FRAMES * self._largest_bytes)
            while self._kept_bytes and self.held_bytes > self._limit_bytes - temporary_bytes:
                self.path(self.n_kept - 1).unlink()
                self.held_bytes -= self._kept_bytes.pop()
            self._temporary = _TemporaryFiles(self._limit_bytes - self.held_bytes, self.path)
            return
        self.path(self.n_kept).write_bytes(data)
        self._kept_bytes.append(len(data))
        self._count(len(data))

    def add_temporary(self, frame_index: int, data: bytes) -> None:
        """Keep a frame while there is room; not if it is larger than all the room, or cannot be written."""
        if frame_index < self.n_kept or frame_index in self._temporary:
            return
        self._largest_bytes = max(self._largest_bytes, len(data))
        before_bytes = self._temporary.currsize
        try:
            self._temporary[frame_index] = len(data)
            self.path(frame_index).write_bytes(data)
        except ValueError:
            return
        except OSError:
            self.path(frame_index).unlink(missing_ok=True)
            del self._temporary[frame_index]
        self._count(int(self._temporary.currsize - before_bytes))

    def temporary(self, frame_index: int) -> bytes | None:
        """A frame that is kept temporarily; None if it is not there (any more)."""
        if self._temporary.get(frame_index) is None:
            return None
        try:
            return self.path(frame_index).read_bytes()
        except OSError:
            self.held_bytes -= self._temporary.pop(frame_index)
            return None

    def path(self, frame_index: int) -> Path:
        """The file of a frame, if it is kept."""
        return self._folder / f"{frame_index}.jpg"

    def _count(self, n_bytes: int) -> None:
        self.held_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)


class VideoFileFrames(UniformFrames):
    """A video file of any length as a `FrameSource`: frame k is the k-th frame the decoder yields. Thread-safe.

    The frames lie as JPEGs (quality 95, full chroma) in a temporary folder until `close`; use a ``with`` statement. A
    frame looks the same whether it was kept or decoded again. In memory, some 50 bytes per frame are held.

    Args:
        path: the video file. It must stay as it is while frames may have to be decoded again.
        disk_mib: bound of the temporary folder.
        on_frame: called during the first decoding after every frame, with the number of frames so far and the number
            that the file announces (0: unknown); may raise to stop.
        check: called before every frame that is decoded again; may raise to stop, and `frame` raises it further.

    Raises:
        VideoError: not a readable video, or the disk is full before ``disk_mib`` is.
    """

    def __init__(
        self,
        path: Path,
        *,
        disk_mib: float = FRAME_DISK_MIB,
        on_frame: Callable[[int, int], None] = lambda *_: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._path, self._lock, self._fingerprints = path, threading.Lock(), FrameFingerprints()
        self._folder = tempfile.TemporaryDirectory(prefix="ivos-frames-")
        self._files = FrameFiles(Path(self._folder.name), int(disk_mib * MIB))
        self._random_access = RandomAccessReader(path, self._fingerprints, check)
        self.announced_frames = 0
        started_s = time.monotonic()
        try:
            with VideoReader(path) as reader:
                self._identity = file_identity(path)
                self.announced_frames = reader.announced_frames
                for image in reader.frames():
                    self._keep(image)
                    self._fingerprints.add(image)
                    on_frame(len(self), self.announced_frames)
        except BaseException:
            self.close()
            raise
        self.decode_s = time.monotonic() - started_s

    def __enter__(self) -> VideoFileFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._fingerprints)

    @property
    def kept_frames(self) -> int:
        """How many frames, from the first on, never have to be decoded again."""
        return self._files.n_kept

    @property
    def disk_bytes(self) -> int:
        """The disk space of all frames now, in bytes; never more than the bound."""
        return self._files.held_bytes

    @property
    def peak_disk_bytes(self) -> int:
        """The most disk space that the frames took at any time, in bytes."""
        return self._files.peak_bytes

    def identity(self, frame_index: int) -> str | None:
        """The file as it was when it was opened, and the frame's position in it."""
        return None if self._identity is None else f"{self._identity}#{frame_index}"

    def read(self, frame_index: int) -> FrameRGB:
        """One frame, see `UniformFrames.read`."""
        if self._fingerprints.is_damaged(frame_index):
            raise FrameError(frame_index, f"the decoder refuses it: {self._path} is damaged there")
        if frame_index < self.kept_frames:
            try:
                return decode_image(self._files.path(frame_index).read_bytes(), frame_index)
            except OSError as error:
                raise FrameError(frame_index, f"the decoded frame of {self._path} is gone: {error.strerror}") from error
        with self._lock:
            data = self._files.temporary(frame_index) or self._decoded_again(frame_index)
        return decode_image(data, frame_index)

    def close(self) -> None:
        """Delete the frames."""
        with self._lock:
            self._random_access.close()
            self._folder.cleanup()

    def _keep(self, image: FrameRGB | None) -> None:
        if self._files.is_full:
            return
        try:
            self._files.keep(encode_jpeg(image) if image is not None else b"")
        except OSError as error:
            raise VideoError(
                f"{self._path}: frame {len(self)} cannot be kept in {self._folder.name}: {error.strerror}; "
                "TMPDIR names another folder"
            ) from error

    def _decoded_again(self, frame_index: int) -> bytes:
        """Decode one frame again, and keep its neighbours temporarily. The caller holds the lock.

        Raises:
            FrameError: the file is gone, or no longer what it was.
        """
        n_frames = self._files.chunk_frames
        start = max(self.kept_frames, frame_index // n_frames * n_frames)
        wanted: bytes | None = None
        try:
            images = self._random_access.frames(start, min(len(self), (frame_index // n_frames + 1) * n_frames))
            for index, image in enumerate(images, start):
                if image is None:
                    continue
                data = encode_jpeg(image)
                wanted = data if index == frame_index else wanted
                self._files.add_temporary(index, data)
        except VideoError as error:
            raise FrameError(frame_index, f"cannot be decoded again: {error}") from error
        if wanted is None:
            raise FrameError(frame_index, f"cannot be decoded again: {self._path} is no longer what it was")
        return wanted
