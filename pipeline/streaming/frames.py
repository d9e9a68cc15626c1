"""The frames of a video that arrives: few of them stay."""

from __future__ import annotations

from collections import deque

import numpy as np

from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError

RECENT_FRAMES = 2
"""The newest frame, and the one that its masks are carried from."""


class OnlineFrames:
    """A `FrameSource` of the newest frames and those that are kept for longer. Not for several threads at once."""

    def __init__(self) -> None:
        self._n_frames = 0
        self._size_hw_px: tuple[int, int] | None = None
        self._recent: deque[tuple[int, FrameRGB]] = deque(maxlen=RECENT_FRAMES)
        self._kept: dict[int, FrameRGB] = {}

    def __len__(self) -> int:
        return self._n_frames

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width of the first frame that could be read.

        Raises:
            FrameError: there was none yet.
        """
        if self._size_hw_px is None:
            raise FrameError(0, "no frame has arrived yet")
        return self._size_hw_px

    @property
    def newest(self) -> int | None:
        """The newest frame that could be read."""
        return self._recent[-1][0] if self._recent else None

    @property
    def kept(self) -> tuple[int, ...]:
        """The frames that are kept for longer, in order."""
        return tuple(sorted(self._kept))

    @property
    def kept_bytes(self) -> int:
        """Memory of the frames that are kept for longer."""
        return sum(image.nbytes for image in self._kept.values())

    @property
    def held_bytes(self) -> int:
        """Memory of all frames held."""
        recent = sum(image.nbytes for frame_index, image in self._recent if frame_index not in self._kept)
        return self.kept_bytes + recent

    def check(self, image: FrameRGB) -> None:
        """Check that an image can be the next frame.

        Raises:
            ValueError: it is no RGB image, or not of the first one's size.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a frame must be (H, W, 3) uint8, but got {image.shape} {image.dtype}")
        if self._size_hw_px not in (None, image.shape[:2]):
            height_px, width_px = self.size_hw_px
            arrived = f"{image.shape[1]}x{image.shape[0]}"
            raise ValueError(
                f"frame {self._n_frames} is {arrived} px, but the video is {width_px}x{height_px} px; resize it, or "
                "feed None for a frame to be left out"
            )

    def add(self, image: FrameRGB | None) -> None:
        """Take the next frame; None for one that is missing."""
        if image is not None:
            self._size_hw_px = self._size_hw_px or (int(image.shape[0]), int(image.shape[1]))
            self._recent.append((self._n_frames, image))
        self._n_frames += 1

    def keep(self, frame_index: int) -> None:
        """Keep a frame that is held for longer.

        Raises:
            FrameError: it is not held any more.
        """
        self._kept[frame_index] = self.frame(frame_index)

    def let_go(self, frame_index: int) -> None:
        """Keep a frame no longer."""
        self._kept.pop(frame_index, None)

    def frame(self, frame_index: int) -> FrameRGB:
        """One frame, see `pipeline.video.frames.FrameSource.frame`; those that are gone raise `FrameError` too."""
        if not 0 <= frame_index < self._n_frames:
            raise IndexError(f"frame {frame_index} of a video of {self._n_frames} frames so far")
        image = self._kept.get(frame_index, dict(self._recent).get(frame_index))
        if image is None:
            raise FrameError(frame_index, "is missing or gone; a video that arrives is seen once")
        return image
