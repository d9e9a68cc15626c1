"""Frames of a video file: counted in one pass, in order, and kept as image files as far as the disk's bound allows.

Sessions read outward from wherever a person clicked, and reading backwards through a decoder costs a decode from the
last key frame, or from the start, per frame. From image files any order costs the same. What does not fit is decoded
again when it is asked for, a chunk of neighbours at a time, so that the next ones in either direction are there.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pipeline.types import FrameRGB
from pipeline.video.decoded_frames import DecodedFrames, jpeg
from pipeline.video.frames import FrameError, UniformFrames, decode_image, file_identity
from pipeline.video.reader import FrameMarks, KnownVideoReader, VideoError, VideoReader

__all__ = ["FRAME_DISK_MIB", "VideoError", "VideoFileFrames", "VideoReader"]

MIB = 1024 * 1024
FRAME_DISK_MIB = 16 * 1024


class VideoFileFrames(UniformFrames):
    """A video file of any length as a `FrameSource`: frame k is the k-th frame the decoder yields. Thread-safe.

    The frames lie as JPEGs (quality 95, full chroma) in a temporary folder until `close`; use a ``with`` statement. A
    frame looks the same whether it was kept or decoded again. In memory, some 50 bytes a frame are kept.

    Args:
        path: the video file. It must stay as it is while frames may have to be decoded again.
        disk_mib: bound of the temporary folder.
        on_frame: called in the first pass after every frame with how many there are and how many the file announces (0:
            unknown); may raise to stop.
        check: called before every frame that is decoded again; may raise to stop, which `frame` then does.

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
        self._path, self._lock, self._marks = path, threading.Lock(), FrameMarks()
        self._folder = tempfile.TemporaryDirectory(prefix="ivos-frames-")
        self._files = DecodedFrames(Path(self._folder.name), int(disk_mib * MIB))
        self._again = KnownVideoReader(path, self._marks, check)
        self.announced_frames = 0
        started_s = time.monotonic()
        try:
            with VideoReader(path) as reader:
                self._identity = file_identity(path)
                self.announced_frames = reader.announced_frames
                for image in reader.frames():
                    self._keep(image)
                    self._marks.add(image)
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
        return len(self._marks)

    @property
    def kept_frames(self) -> int:
        """How many frames, from the first on, never have to be decoded again."""
        return self._files.n_pinned

    @property
    def disk_bytes(self) -> int:
        """What the frames on disk take now; never more than the bound."""
        return self._files.held_bytes

    @property
    def peak_disk_bytes(self) -> int:
        """The most that the frames on disk took at any time."""
        return self._files.peak_bytes

    def identity(self, frame_index: int) -> str | None:
        """The file as it was when it was opened, and the frame's place in it."""
        return None if self._identity is None else f"{self._identity}#{frame_index}"

    def read(self, frame_index: int) -> FrameRGB:
        """One frame, see `UniformFrames.read`."""
        if self._marks.is_damaged(frame_index):
            raise FrameError(frame_index, f"the decoder refuses it: {self._path} is damaged there")
        if frame_index < self.kept_frames:
            try:
                return decode_image(self._files.path(frame_index).read_bytes(), frame_index)
            except OSError as error:
                raise FrameError(frame_index, f"the decoded frame of {self._path} is gone: {error.strerror}") from error
        with self._lock:
            data = self._files.passing(frame_index) or self._decoded_again(frame_index)
        return decode_image(data, frame_index)

    def close(self) -> None:
        """Delete the frames."""
        with self._lock:
            self._again.close()
            self._folder.cleanup()

    def _keep(self, image: FrameRGB | None) -> None:
        if self._files.is_full:
            return
        try:
            self._files.pin(jpeg(image) if image is not None else b"")
        except OSError as error:
            raise VideoError(
                f"{self._path}: frame {len(self)} cannot be kept in {self._folder.name}: {error.strerror}; "
                "TMPDIR names another folder"
            ) from error

    def _decoded_again(self, frame_index: int) -> bytes:
        """One frame, and its neighbours into the work area; the lock is held.

        Raises:
            FrameError: the file is gone, or no longer what it was.
        """
        n_frames = self._files.chunk_frames
        start = max(self.kept_frames, frame_index // n_frames * n_frames)
        wanted: bytes | None = None
        try:
            images = self._again.frames(start, min(len(self), (frame_index // n_frames + 1) * n_frames))
            for index, image in enumerate(images, start):
                if image is None:
                    continue
                data = jpeg(image)
                wanted = data if index == frame_index else wanted
                self._files.pass_by(index, data)
        except VideoError as error:
            raise FrameError(frame_index, f"cannot be decoded again: {error}") from error
        if wanted is None:
            raise FrameError(frame_index, f"cannot be decoded again: {self._path} is no longer what it was")
        return wanted
