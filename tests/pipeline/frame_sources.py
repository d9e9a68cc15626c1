"""Small synthetic videos for tests of trackers and sessions."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.types import BoolMask, FrameRGB
from pipeline.video.frames import FrameError


class ArrayFrames:
    """Frames from memory; those in ``broken`` cannot be read. Counts how often each frame was asked for."""

    def __init__(self, frames: list[FrameRGB], broken: frozenset[int] = frozenset()) -> None:
        self.frames, self.broken = frames, set(broken)
        self.reads = [0] * len(frames)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        return self.frames[0].shape[0], self.frames[0].shape[1]

    def frame(self, frame_index: int) -> FrameRGB:
        self.reads[frame_index] += 1
        if frame_index in self.broken:
            raise FrameError(frame_index, "is broken on purpose")
        return self.frames[frame_index]


def moving_square(
    n_frames: int = 8, size_hw_px: tuple[int, int] = (120, 160), step_px: int = 3, side_px: int = 40
) -> tuple[list[FrameRGB], list[BoolMask]]:
    """A red textured square that moves right by ``step_px`` a frame over a green textured ground, and its masks."""
    rng = np.random.default_rng(3)
    height_px, width_px = size_hw_px
    noise = cv2.GaussianBlur(rng.normal(0, 60, (height_px, width_px)).astype(np.float32), (0, 0), 2.0) * 3
    ground = np.dstack([60 + noise, 130 + noise, 60 + noise])
    patch = cv2.GaussianBlur(rng.normal(0, 60, (side_px, side_px)).astype(np.float32), (0, 0), 1.5) * 3
    square = np.dstack([190 + patch, 50 + patch, 50 + patch])
    frames, masks = [], []
    for index in range(n_frames):
        image, mask = ground.copy(), np.zeros(size_hw_px, np.bool_)
        y0, x0 = (height_px - side_px) // 2, 20 + index * step_px
        image[y0 : y0 + side_px, x0 : x0 + side_px] = square
        mask[y0 : y0 + side_px, x0 : x0 + side_px] = True
        frames.append(np.clip(image, 0, 255).astype(np.uint8))
        masks.append(mask)
    return frames, masks
