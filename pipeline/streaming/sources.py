"""Where the frames of `ivos segment --online` come from: a video file, a pipe, a folder that grows, or a stream.

Every source counts its frames from 0 and yields each once, in order; a frame that is missing or cannot be read comes
without an image and with the reason. Sources are read in a thread of their own (`pipeline.streaming.queue`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np

from pipeline.batch.options import SegmentError
from pipeline.streaming.image_pipe import ImagePipeError, split_images
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, decode_image
from pipeline.video.video_file import VideoError, VideoReader

STDIN = "-"
_READ_BYTES = 1 << 20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0


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
