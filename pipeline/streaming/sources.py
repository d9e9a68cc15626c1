"""Where the frames of `ivos segment --online` come from: a video file, a pipe, a folder that grows, or a stream.

Every source counts its frames from 0 and yields each once, in order; a frame that is missing or cannot be read comes
without an image and with the reason. Sources are read in a thread of their own (`pipeline.streaming.input_queue`).
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
from pipeline.streaming.image_pipe import ImagePipeError, is_whole, split_images
from pipeline.types import FrameRGB
from pipeline.video.frames import IMAGE_SUFFIXES, FrameError, decode_image, natural_order
from pipeline.video.reader import VideoError, VideoReader

STDIN = "-"
_READ_BYTES = 1 << 20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_POLL_S = 0.1
_LOOK_AGAIN_S = 2.0
"""A folder is listed this often even if its time of change stays: listing a long one takes its time."""
_SETTLE_S = 0.3
"""An image whose format does not show where it ends is taken when it has not changed for so long."""
MAX_GAP = 1000
"""Names that are numbers further apart than this are not counted on: they are times, say, and not frames."""


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
        """Whether frames come whether anybody keeps up or not; known once the first frame has come."""
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
        """Every frame the decoder yields."""
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
        name: what messages call it.
    """

    live = False

    def __init__(self, source: int | Path, name: str = "standard input") -> None:
        self._source, self._name = source, name

    def frames(self) -> Iterator[SourceFrame]:
        """Every image; one that cannot be decoded is a frame without an image."""
        frame_index = -1
        try:
            # A pipe opens once somebody writes.
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
    """Images in the natural order of their names, as they appear.

    The folder is looked at again and again: notifications do not cross network drives and container mounts. Where
    names are numbers, a number that is left out is a missing frame, and so is an image that stays incomplete; both are
    waited for until a later image has been there for ``idle_s``, or the end is marked. The folder ends when nothing
    new has come for ``idle_s``, or with the file ``end_name`` in it.

    Args:
        folder: where the images appear.
        idle_s: see above, in seconds.
        end_name: name of the file that marks the end.
        stopping: set when nobody wants more frames.
    """

    live = False

    def __init__(self, folder: Path, *, idle_s: float, end_name: str, stopping: threading.Event) -> None:
        self._folder, self._idle_s, self._end_name, self._stopping = folder, idle_s, end_name, stopping
        self._pending: list[Path] = []
        self._seen_s: dict[Path, float] = {}
        self._last: Path | None = None
        self._marked, self._changed_ns, self._looked_s = False, -1, 0.0
        self._news_s = time.monotonic()

    def frames(self) -> Iterator[SourceFrame]:
        """Every image, and every number that is left out."""
        frame_index, self._news_s = -1, time.monotonic()
        while (path := self._next()) is not None:
            step = _step(self._last, path)
            if step > 1 and not self._is_gap(path):
                continue
            for _ in range(step - 1):
                frame_index += 1
                yield SourceFrame(frame_index, None, f"no image before {path.name} has its number")
            frame_index += 1
            frame = self._read(path, frame_index)
            if frame is None:
                return
            self._let_go_of(path)
            yield frame
        if self._last is None and not self._stopping.is_set():
            raise SegmentError(
                f"{self._folder}: no image appeared; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
            )

    def _let_go_of(self, path: Path) -> None:
        """An image is done, and what would stand before it comes too late."""
        self._last = path
        if self._pending[:1] == [path]:
            del self._pending[0]
        else:
            self._pending = [other for other in self._pending if natural_order(other) > natural_order(path)]

    def _next(self) -> Path | None:
        """The image that is first in line; None at the end."""
        while not self._stopping.is_set():
            if self._pending:
                return self._pending[0]
            # The mark is looked for first: what was written before it is seen after it.
            marked = self._end_is_marked()
            over = marked or time.monotonic() - self._news_s >= self._idle_s
            self._look(surely=over)
            if not self._pending:
                if over:
                    return None
                self._pause()
        return None

    def _look(self, *, surely: bool = False) -> None:
        """See what is new. An image that would stand before the last one comes too late and is left out.

        Args:
            surely: also where the folder's time says that nothing is.

        Raises:
            SegmentError: the folder is gone.
        """
        last = None if self._last is None else natural_order(self._last)
        now_s = time.monotonic()
        try:
            changed_ns = self._folder.stat().st_mtime_ns
            # Some file systems tell the time of a change to the second only.
            if (
                not surely
                and not self._marked
                and changed_ns == self._changed_ns
                and now_s - self._looked_s < _LOOK_AGAIN_S
            ):
                return
            self._changed_ns, self._looked_s = changed_ns, now_s
            found = [path for path in self._folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        except OSError as error:
            raise SegmentError(f"{self._folder} cannot be read: {error.strerror}") from error
        self._pending = sorted(
            (path for path in found if last is None or natural_order(path) > last), key=natural_order
        )
        if any(path not in self._seen_s for path in self._pending):
            self._news_s = now_s
        self._seen_s = {path: self._seen_s.get(path, now_s) for path in self._pending}

    def _is_gap(self, path: Path) -> bool:
        """Whether what is missing before an image will not come any more; waits a little where it still may."""
        # Looked at after that is decided: what was written before the end was marked is seen.
        waited = self._waited_long(path)
        self._look()
        if waited and self._pending[:1] == [path]:
            return True
        self._pause()
        return False

    def _read(self, path: Path, frame_index: int) -> SourceFrame | None:
        """The image once it is whole, or why it is not; None when nobody wants it any more."""
        before, unchanged_since_s = b"", time.monotonic()
        while not self._stopping.is_set():
            try:
                data = path.read_bytes()
            except OSError as error:
                return SourceFrame(frame_index, None, f"{path.name} cannot be read: {error.strerror}")
            whole = is_whole(data)
            if data != before:
                before, unchanged_since_s = data, time.monotonic()
            settled = time.monotonic() - unchanged_since_s >= _SETTLE_S
            if whole or (whole is None and settled):
                try:
                    return SourceFrame(frame_index, decode_image(data, frame_index))
                except FrameError as error:
                    if whole or self._given_up(settled, unchanged_since_s):
                        return SourceFrame(frame_index, None, f"{path.name}: {error.reason}")
            elif whole is False and self._given_up(settled, unchanged_since_s):
                return SourceFrame(frame_index, None, f"{path.name} is cut off after {len(data)} bytes")
            self._pause()
            self._look()
        return None

    def _given_up(self, settled: bool, unchanged_since_s: float) -> bool:
        """Whether nobody seems to write this image any more."""
        if not settled:
            return False
        later_waited = len(self._pending) > 1 and self._waited_long(self._pending[1])
        return self._end_is_marked() or later_waited or time.monotonic() - unchanged_since_s >= self._idle_s

    def _waited_long(self, path: Path) -> bool:
        """Whether an image that stands later has been there for so long that nothing before it will come any more."""
        return self._end_is_marked() or time.monotonic() - self._seen_s.get(path, time.monotonic()) >= self._idle_s

    def _end_is_marked(self) -> bool:
        self._marked = self._marked or (self._folder / self._end_name).exists()
        return self._marked

    def _pause(self) -> None:
        self._stopping.wait(_POLL_S)


class StreamSource:
    """A network stream through OpenCV's FFmpeg: RTSP, HTTP and what else it knows.

    A stream that announces its length is a file on a server and read to its end. Any other is live: when it breaks off
    it is opened again, ``reconnects`` times at most without a frame in between, and its frames are counted on; how
    many were missed meanwhile nobody knows.

    Args:
        url: its address; a password in it is never shown.
        timeout_s: how long opening, and waiting for a frame, may take.
        reconnects: see above.
        stopping: set when nobody wants more frames.
        note: told in words when the stream breaks off.
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
        """Every frame that comes."""
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
        """The frames until the stream breaks off, none where it cannot be opened."""
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


def _step(last: Path | None, path: Path) -> int:
    """By how much a name's number is above the last one's; 1 where that says nothing."""
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
