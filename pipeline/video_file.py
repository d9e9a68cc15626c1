"""Frames of a video file: decoded once, in order, and kept as image files for as long as they are needed.

Asking a decoder for frame k is exact only for some codecs (with B-frames it is off by a few), and reading backwards
through one costs a decode from the last key frame, or from the start, per frame. Sessions read outward from wherever a
person clicked, so all frames are decoded in one pass into a temporary folder, from where any order costs the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from pipeline.types import FrameRGB
from pipeline.video import IMAGE_SUFFIXES, FrameError, UniformFrames, decode_image

MIB = 1024 * 1024
FRAME_DISK_MIB = 16 * 1024
JPEG_QUALITY = 95
_FULL_CHROMA = 0x111111
"""OpenCV's number for 4:4:4: colours keep the video's resolution."""


class VideoError(Exception):
    """A file that is no readable video, or one too long to unpack. Says what was expected, what arrived, what to do."""


class VideoReader:
    """The frames of a video file from first to last; use it in a ``with`` statement.

    ``announced_frames`` is what the file says about its length, 0 where it says nothing; truncated and damaged files,
    and some healthy ones, hold more or fewer, so whoever needs the number counts what `frames` yields. Frames are
    turned upright as the file's orientation says, like players show them.

    Raises:
        VideoError: there is no such file, or it is not a video OpenCV's decoder knows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise VideoError(f"{path}: there is no such file")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise VideoError(f"{path} is one image; expected a video file, or the folder that holds all frames")
        # Absolute, so that a colon in the name is not taken for a protocol.
        self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        self.announced_frames = 0
        if self._capture.isOpened():
            self.announced_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def frames(self) -> Iterator[FrameRGB]:
        """Every frame, once.

        Raises:
            VideoError: not even one frame can be decoded.
        """
        arrived, bgr = self._capture.read()
        if not arrived:
            raise VideoError(
                f"{self._path}: no frame can be decoded; expected a video such as an MP4 with H.264. "
                "Convert it first, for example with `ffmpeg -i FILE -pix_fmt yuv420p converted.mp4`"
            )
        while arrived:
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            arrived, bgr = self._capture.read()


class VideoFileFrames(UniformFrames):
    """A video file as a `FrameSource`: frame k is the k-th frame the decoder yields.

    The frames lie as JPEGs (quality 95, full chroma) in a temporary folder until `close`; use a ``with`` statement.

    Args:
        path: the video file.
        disk_mib: bound of the temporary folder.
        on_frame: called after every decoded frame with how many there are and how many the file announces (0:
            unknown); may raise to stop.

    Raises:
        VideoError: not a readable video, or its frames need more than ``disk_mib`` or than the disk has.
    """

    def __init__(
        self, path: Path, *, disk_mib: int = FRAME_DISK_MIB, on_frame: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._path, self._limit_bytes = path, disk_mib * MIB
        self._folder = tempfile.TemporaryDirectory(prefix="ivos-frames-")
        self._n_frames, self.disk_bytes, self.announced_frames = 0, 0, 0
        started_s = time.monotonic()
        try:
            with VideoReader(path) as reader:
                self.announced_frames = reader.announced_frames
                for image in reader.frames():
                    self._keep(image)
                    on_frame(self._n_frames, self.announced_frames)
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
        return self._n_frames

    def read(self, frame_index: int) -> FrameRGB:
        """One frame, see `UniformFrames.read`."""
        try:
            data = self._file(frame_index).read_bytes()
        except OSError as error:
            raise FrameError(frame_index, f"the decoded frame of {self._path} is gone: {error.strerror}") from error
        return decode_image(data, frame_index)

    def close(self) -> None:
        """Delete the frames."""
        self._folder.cleanup()

    def _file(self, frame_index: int) -> Path:
        return Path(self._folder.name) / f"{frame_index}.jpg"

    def _keep(self, image: FrameRGB) -> None:
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FULL_CHROMA]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        if self.disk_bytes + data.nbytes > self._limit_bytes:
            raise VideoError(
                f"{self._path}: the first {self._n_frames} frames fill the {self._limit_bytes // MIB} MiB that "
                "decoded frames may take on disk; raise that bound or cut the video into shorter ones"
            )
        try:
            self._file(self._n_frames).write_bytes(data.tobytes())
        except OSError as error:
            raise VideoError(
                f"{self._path}: frame {self._n_frames} cannot be kept in {self._folder.name}: {error.strerror}; "
                "TMPDIR names another folder"
            ) from error
        self.disk_bytes += data.nbytes
        self._n_frames += 1
