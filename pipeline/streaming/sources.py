"""Sources of frames for `ivos segment --online`: a video file, a pipe, a growing folder, or a network stream.

Every source counts its frames from 0 and yields each once, in order. A frame that is missing or unreadable has no image
but a reason. Each source is read in its own thread, see `pipeline.streaming.input_queue`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np

from pipeline.batch.run import SegmentError
from pipeline.streaming.image_pipe import ImagePipeError, is_complete, split_images
from pipeline.types import FrameRGB
from pipeline.video.frames import IMAGE_SUFFIXES, FrameError, decode_image, natural_order
from pipeline.video.reader import VideoError, VideoReader

STDIN = "-"
_READ_BYTES = 1 << 20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_POLL_S = 0.1
_LIST_AGAIN_S = 2.0
"""A folder is listed this often even if its modification time stays the same; listing a long one takes a while."""
_UNCHANGED_S = 0.3
"""An image whose format does not show where it ends is read once it has been unchanged for this long."""
MAX_GAP = 1000
"""Numbers in file names that are further apart than this are not frame numbers; they may be times."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source; ``image`` is None where it is missing, and ``reason`` says why."""

    frame_index: int
    image: FrameRGB | None
    reason: str = ""


class Source(Protocol):
    """Frames in the order in which they come."""

    @property
    def live(self) -> bool:
        """Whether frames arrive at their own pace, however slowly they are read; known after the first frame."""
        ...

    def frames(self) -> Iterator[SourceFrame]:
        """Every frame, once.

        Raises:
            SegmentError: the source cannot be read, or not any further.
        """
        ...


class VideoFileSource:
    """A video file, decoded as it is read: nothing is unpacked."""

    live = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def frames(self) -> Iterator[SourceFrame]:
        """Every frame that can be decoded."""
        try:
            with VideoReader(self._path) as reader:
                for frame_index, image in enumerate(reader.frames()):
                    yield SourceFrame(frame_index, image)
        except VideoError as error:
            raise SegmentError(str(error)) from error


class PipeSource:
    """JPEG and PNG images one after another from standard input or a named pipe.

    Args:
        source: a file descriptor, or the pipe's path.
        name: of the source in messages.
    """

    live = False

    def __init__(self, source: int | Path, name: str = "standard input") -> None:
        self._source, self._name = source, name

    def frames(self) -> Iterator[SourceFrame]:
        """Every image; one that cannot be decoded becomes a frame without an image."""
        frame_index = -1
        try:
            # Opening a named pipe waits for a writer.
            descriptor = self._source if isinstance(self._source, int) else os.open(self._source, os.O_RDONLY)
            for frame_index, data in enumerate(split_images(lambda: os.read(descriptor, _READ_BYTES))):
                yield _decoded(data, frame_index)
        except ImagePipeError as error:
            raise SegmentError(f"{self._name}: {error}") from error
        except OSError as error:
            raise SegmentError(f"{self._name} cannot be read: {error.strerror}") from error
        if frame_index < 0:
            raise SegmentError(f"{self._name} ended without an image; expected JPEG or PNG images one after another")


class GrowingFolderSource:
    """A folder into which another program writes images: read in the natural order of their names, as they appear.

    The folder is polled, because change notifications do not cross network drives and container mounts. If names are
    numbers, a number that is left out is a missing frame; so is an image that stays incomplete. Before that, the source
    waits until a later image has been there for ``idle_s``, or the end is marked. The source ends when no new image has
    appeared for ``idle_s``, or when the file ``end_name`` appears.

    Args:
        folder: the folder.
        idle_s: see above, in seconds.
        end_name: name of the file that marks the end.
        stopping: set to stop reading.
    """

    live = False

    def __init__(self, folder: Path, *, idle_s: float, end_name: str, stopping: threading.Event) -> None:
        self._folder, self._idle_s, self._end_name, self._stopping = folder, idle_s, end_name, stopping
        self._pending: list[Path] = []
        self._first_seen_s: dict[Path, float] = {}
        self._last: Path | None = None
        self._end_seen, self._modified_ns, self._listed_s = False, -1, 0.0
        self._new_image_s = time.monotonic()

    def frames(self) -> Iterator[SourceFrame]:
        """Every image, and a frame without an image for every number that is left out."""
        frame_index, self._new_image_s = -1, time.monotonic()
        while (path := self._next()) is not None:
            step = _number_step(self._last, path)
            if step > 1 and not self._is_gap(path):
                continue
            for _ in range(step - 1):
                frame_index += 1
                yield SourceFrame(frame_index, None, f"no image before {path.name} has its number")
            frame_index += 1
            frame = self._read(path, frame_index)
            if frame is None:
                return
            self._set_done(path)
            yield frame
        if self._last is None and not self._stopping.is_set():
            raise SegmentError(
                f"{self._folder}: no image appeared; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
            )

    def _set_done(self, path: Path) -> None:
        """Finish an image; images that would come before it are now too late."""
        self._last = path
        if self._pending[:1] == [path]:
            del self._pending[0]
        else:
            self._pending = [other for other in self._pending if natural_order(other) > natural_order(path)]

    def _next(self) -> Path | None:
        """The next image in order; None at the end."""
        while not self._stopping.is_set():
            if self._pending:
                return self._pending[0]
            # Check for the end first, then list: so images written before the end are found.
            over = self._end_is_marked() or time.monotonic() - self._new_image_s >= self._idle_s
            self._list(force=over)
            if not self._pending:
                if over:
                    return None
                self._pause()
        return None

    def _list(self, *, force: bool = False) -> None:
        """List the folder. Images that would come before the last one are too late and are left out.

        Args:
            force: even if the folder's modification time is unchanged.

        Raises:
            SegmentError: the folder cannot be read.
        """
        last = None if self._last is None else natural_order(self._last)
        now_s = time.monotonic()
        try:
            modified_ns = self._folder.stat().st_mtime_ns
            # Some file systems store the modification time in whole seconds.
            if (
                not force
                and not self._end_seen
                and modified_ns == self._modified_ns
                and now_s - self._listed_s < _LIST_AGAIN_S
            ):
                return
            self._modified_ns, self._listed_s = modified_ns, now_s
            found = [path for path in self._folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        except OSError as error:
            raise SegmentError(f"{self._folder} cannot be read: {error.strerror}") from error
        self._pending = sorted(
            (path for path in found if last is None or natural_order(path) > last), key=natural_order
        )
        if any(path not in self._first_seen_s for path in self._pending):
            self._new_image_s = now_s
        self._first_seen_s = {path: self._first_seen_s.get(path, now_s) for path in self._pending}

    def _is_gap(self, path: Path) -> bool:
        """Whether the images missing before this one will not appear any more; waits briefly if they still may."""
        # Decide first, then list: so images written before the end are found.
        waited = self._waited_long(path)
        self._list()
        if waited and self._pending[:1] == [path]:
            return True
        self._pause()
        return False

    def _read(self, path: Path, frame_index: int) -> SourceFrame | None:
        """The image once it is complete, or the reason why it is not; None if reading was stopped."""
        before, unchanged_since_s = b"", time.monotonic()
        while not self._stopping.is_set():
            try:
                data = path.read_bytes()
            except OSError as error:
                return SourceFrame(frame_index, None, f"{path.name} cannot be read: {error.strerror}")
            complete = is_complete(data)
            if data != before:
                before, unchanged_since_s = data, time.monotonic()
            unchanged = time.monotonic() - unchanged_since_s >= _UNCHANGED_S
            if complete or (complete is None and unchanged):
                try:
                    return SourceFrame(frame_index, decode_image(data, frame_index))
                except FrameError as error:
                    if complete or self._is_abandoned(unchanged, unchanged_since_s):
                        return SourceFrame(frame_index, None, f"{path.name}: {error.reason}")
            elif complete is False and self._is_abandoned(unchanged, unchanged_since_s):
                return SourceFrame(frame_index, None, f"{path.name} is cut off after {len(data)} bytes")
            self._pause()
            self._list()
        return None

    def _is_abandoned(self, unchanged: bool, unchanged_since_s: float) -> bool:
        """Whether the image seems not to be written any more."""
        if not unchanged:
            return False
        later_waited = len(self._pending) > 1 and self._waited_long(self._pending[1])
        return self._end_is_marked() or later_waited or time.monotonic() - unchanged_since_s >= self._idle_s

    def _waited_long(self, path: Path) -> bool:
        """Whether a later image has been there so long that no image before it is expected any more."""
        return (
            self._end_is_marked() or time.monotonic() - self._first_seen_s.get(path, time.monotonic()) >= self._idle_s
        )

    def _end_is_marked(self) -> bool:
        self._end_seen = self._end_seen or (self._folder / self._end_name).exists()
        return self._end_seen

    def _pause(self) -> None:
        self._stopping.wait(_POLL_S)


class StreamSource:
    """A network stream read through OpenCV's FFmpeg: RTSP, HTTP and other protocols.

    A stream with a known length is a file on a server; it is read to its end. Any other is live: if the connection
    breaks, it is opened again, at most ``reconnects`` times without a frame in between. The frame count continues; how
    many frames were missed is unknown.

    Args:
        url: the address; a password in it is never shown.
        timeout_s: how long opening, and waiting for a frame, may take.
        reconnects: see above.
        stopping: set to stop reading.
        note: called with a message when the connection breaks.
    """

    live: bool = True

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        reconnects: int,
        stopping: threading.Event,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._url, self._shown, self._note = url, shown_url(url), note
        self._timeout_ms, self._reconnects, self._stopping = max(1, int(timeout_s * 1000)), reconnects, stopping
        self._n_frames = 0

    def frames(self) -> Iterator[SourceFrame]:
        """Every frame that arrives."""
        failures = 0
        while not self._stopping.is_set():
            before = self._n_frames
            yield from self._connection()
            if not self.live:
                return
            failures = 1 if self._n_frames > before else failures + 1
            if failures > self._reconnects:
                break
            wait_s = min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S)
            self._note(f"{self._shown} gives no frames; attempt {failures} of {self._reconnects} in {wait_s:g} s")
            self._stopping.wait(wait_s)
        if not self._n_frames and not self._stopping.is_set():
            raise SegmentError(
                f"{self._shown} cannot be opened ({1 + self._reconnects} attempts); expected a video stream that "
                "FFmpeg can read, such as rtsp://host/path or http://host/stream.mjpg"
            )

    def _connection(self) -> Iterator[SourceFrame]:
        """The frames of one connection; none if it cannot be opened."""
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, self._timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._timeout_ms]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        try:
            if not capture.isOpened():
                return
            self.live = capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0
            while not self._stopping.is_set():
                arrived, bgr = capture.read()
                if not arrived:
                    return
                yield SourceFrame(self._n_frames, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8))
                self._n_frames += 1
        finally:
            capture.release()


def _number_step(last: Path | None, path: Path) -> int:
    """The difference between the numbers in two names; 1 if they are not frame numbers."""
    if last is None or not (last.stem.isdecimal() and path.stem.isdecimal()):
        return 1
    step = int(path.stem) - int(last.stem)
    return step if 1 <= step <= MAX_GAP else 1


def _decoded(data: bytes, frame_index: int) -> SourceFrame:
    try:
        return SourceFrame(frame_index, decode_image(data, frame_index))
    except FrameError as error:
        return SourceFrame(frame_index, None, error.reason)


def is_url(source: str) -> bool:
    """Whether a source is the address of a stream rather than a path."""
    return "://" in source


def shown_url(url: str) -> str:
    """An address without the user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
