"""Decoding a video file from its first frame to its last, and again from any frame, without trusting seeks.

Seeking to frame k is exact only for some files. With B-frames, wrong indices or a varying frame rate a decoder may
return a neighbour, or a frame far away. So the first decoding notes a fingerprint of every frame, with which all frames
decoded later are compared. Where a seek went wrong, everything is decoded again from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from pipeline.types import FrameRGB
from pipeline.video.frames import IMAGE_SUFFIXES

FINGERPRINT_BYTES = 8
_DAMAGED = bytes(FINGERPRINT_BYTES)
_HASHED_ROWS = slice(None, None, 4)
LEAD_FRAMES, SEARCHED_FRAMES = 8, 48
"""A seek aims 8 frames before the wanted one, and looks for it among the next 48."""
NEAR_FRAMES = 96
"""Decoding this many unwanted frames is about as fast as a seek, which decodes from a key frame."""
MAX_FAILED_SEEKS = 3
"""After this many wrong seeks, the file is decoded from the start."""
MAX_DAMAGED_FRAMES = 64
"""A decoder reports a damaged frame and the end alike. After this many in a row it is the end."""


class VideoError(Exception):
    """A video cannot be read, or its frames cannot be kept. Says what was expected, what arrived and what to do."""


class VideoReader:
    """The frames of a video file from first to last; use it in a ``with`` statement.

    ``announced_frames`` is the number of frames that the file claims, 0 where it claims none. Truncated and damaged
    files, and some healthy ones, hold more or fewer, so count what `frames` yields. Frames are turned upright as the
    file's orientation says, as players show them.

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
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def frames(self) -> Iterator[FrameRGB | None]:
        """Every frame, once; None for a damaged one that the decoder refuses, so that later ones keep their places.

        Raises:
            VideoError: not even one frame can be decoded.
        """
        n_damaged, is_any_whole = 0, False
        while n_damaged < MAX_DAMAGED_FRAMES:
            image = self.next_frame()
            if image is None:
                n_damaged += 1
                continue
            for _ in range(n_damaged):
                yield None
            yield image
            n_damaged, is_any_whole = 0, True
        if not is_any_whole:
            raise VideoError(
                f"{self._path}: no frame can be decoded; expected a video such as an MP4 with H.264. "
                "Convert it first, for example with `ffmpeg -i FILE -pix_fmt yuv420p converted.mp4`"
            )

    def next_frame(self) -> FrameRGB | None:
        """The next frame, (H, W, 3) RGB uint8; None where it is damaged, and after the end."""
        arrived, bgr = self._capture.read()
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8) if arrived else None

    def skip_frame(self) -> bool:
        """Skip one frame; false where `next_frame` would return None."""
        return bool(self._capture.grab())

    def seek(self, frame_index: int) -> bool:
        """Go near a frame; the caller has to find out which frame comes next."""
        return bool(self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame_index))


class FrameFingerprints:
    """A few bytes of every frame's content, which tell it from others. A damaged frame is None."""

    def __init__(self) -> None:
        self._fingerprints = bytearray()

    def __len__(self) -> int:
        return len(self._fingerprints) // FINGERPRINT_BYTES

    def add(self, image: FrameRGB | None) -> None:
        """Note the next frame."""
        self._fingerprints += _fingerprint(image)

    def matches(self, frame_index: int, image: FrameRGB | None) -> bool:
        """Whether an image is the frame that was added."""
        return self._of(frame_index) == _fingerprint(image)

    def is_damaged(self, frame_index: int) -> bool:
        """Whether the frame could not be decoded."""
        return self._of(frame_index) == _DAMAGED

    def _of(self, frame_index: int) -> bytearray:
        return self._fingerprints[frame_index * FINGERPRINT_BYTES : (frame_index + 1) * FINGERPRINT_BYTES]


class RandomAccessReader:
    """Frames of a video that was decoded once already, from any frame on. Not thread-safe; `close` it."""

    def __init__(self, path: Path, fingerprints: FrameFingerprints, check: Callable[[], None]) -> None:
        """Nothing is opened yet.

        Args:
            path: the video file.
            fingerprints: of all its frames.
            check: called before every decoded frame; may raise to stop, and a later call works again.
        """
        self._path, self._fingerprints, self._check = path, fingerprints, check
        self._reader: VideoReader | None = None
        self._position = 0
        self._pending: FrameRGB | None = None
        self._failed_seeks = 0

    def frames(self, start: int, stop: int) -> Iterator[FrameRGB | None]:
        """Frames ``start`` to ``stop`` - 1, each compared with its fingerprint; ends early if the file has changed."""
        frame_index = start
        for approach in (self._continue, self._seek, self._start_over):
            if not approach(frame_index):
                continue
            while frame_index < stop:
                image = self._next()
                if not self._fingerprints.matches(frame_index, image):
                    self._failed_seeks += approach == self._seek
                    self.close()
                    break
                yield image
                frame_index += 1
            if frame_index == stop:
                return

    def close(self) -> None:
        """Close the file; `frames` opens it again."""
        self._pending, self._position = None, 0
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _continue(self, frame_index: int) -> bool:
        ahead = frame_index - self._position
        if self._reader is None or ahead < 0 or (ahead > NEAR_FRAMES and self._failed_seeks < MAX_FAILED_SEEKS):
            return False
        return self._skip_to(frame_index)

    def _start_over(self, frame_index: int) -> bool:
        self.close()
        return self._skip_to(frame_index)

    def _seek(self, frame_index: int) -> bool:
        if self._failed_seeks >= MAX_FAILED_SEEKS or frame_index <= NEAR_FRAMES:
            return False
        self._position, self._pending = frame_index, None
        self._opened().seek(frame_index - LEAD_FRAMES)
        for _ in range(SEARCHED_FRAMES):
            image = self._decoded()
            if image is not None and self._fingerprints.matches(frame_index, image):
                self._pending = image
                return True
        self._failed_seeks += 1
        self.close()
        return False

    def _skip_to(self, frame_index: int) -> bool:
        reader = self._opened()
        while self._position < frame_index:
            self._check()
            if self._pending is None and reader.skip_frame() == self._fingerprints.is_damaged(self._position):
                self.close()
                return False
            self._pending = None
            self._position += 1
        return True

    def _next(self) -> FrameRGB | None:
        image = self._pending if self._pending is not None else self._decoded()
        self._pending = None
        self._position += 1
        return image

    def _decoded(self) -> FrameRGB | None:
        self._check()
        return self._opened().next_frame()

    def _opened(self) -> VideoReader:
        """The open file.

        Raises:
            VideoError: it is gone.
        """
        if self._reader is None:
            self._reader = VideoReader(self._path)
        return self._reader


def _fingerprint(image: FrameRGB | None) -> bytes:
    if image is None:
        return _DAMAGED
    return blake2b(np.ascontiguousarray(image[_HASHED_ROWS]).tobytes(), digest_size=FINGERPRINT_BYTES).digest()
