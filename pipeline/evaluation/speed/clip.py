"""The clip that speed is measured on, and where its objects are prompted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.evaluation.timing import fingerprint
from pipeline.types import FrameRGB
from pipeline.video.frames import ImageFileFrames, decode_image
from pipeline.video.sample_clip import render_sample_clip

SIZE_HW_PX = (480, 854)
JPEG_QUALITY = 92
BOX_SHARE = 0.7
"""How much of its cell in the grid a prompted box fills, by side."""


class EncodedFrames:
    """A `FrameSource` of JPEG images in memory: every read decodes one anew, and no disk is waited for."""

    def __init__(self, images: Sequence[bytes], size_hw_px: tuple[int, int]) -> None:
        self._images, self._size_hw_px = tuple(images), size_hw_px

    @classmethod
    def of(cls, frames: Sequence[FrameRGB]) -> EncodedFrames:
        """Encode frames of one size, at least one."""
        height_px, width_px = frames[0].shape[:2]
        return cls([_jpeg(frame) for frame in frames], (int(height_px), int(width_px)))

    def __len__(self) -> int:
        return len(self._images)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """See `pipeline.video.frames.FrameSource`."""
        return self._size_hw_px

    @property
    def encoded_bytes(self) -> int:
        """All images together, as they would lie on a disk."""
        return sum(map(len, self._images))

    def frame(self, frame_index: int) -> FrameRGB:
        """See `pipeline.video.frames.FrameSource`."""
        if not 0 <= frame_index < len(self):
            raise IndexError(f"frame {frame_index} of a video of {len(self)} frames")
        return decode_image(self._images[frame_index], frame_index)

    def first(self, n_frames: int) -> EncodedFrames:
        """The clip's beginning as a clip of its own."""
        return EncodedFrames(self._images[:n_frames], self._size_hw_px)


def speed_clip(
    n_frames: int, folder: Path | None = None, size_hw_px: tuple[int, int] = SIZE_HW_PX
) -> tuple[EncodedFrames, str]:
    """The clip, and what it shows in a few words.

    Args:
        n_frames: at least 2.
        folder: of images, resized to the size; None draws the project's own clip, which is the same everywhere.
        size_hw_px: of every frame.

    Raises:
        ValueError: the folder has fewer images, or two that look the same: embeddings are counted by frame.
        FileNotFoundError: it has none.
        FrameError: an image cannot be read.
    """
    if folder is None:
        return EncodedFrames.of(list(render_sample_clip(n_frames, size_hw_px).frames)), "rendered"
    found = ImageFileFrames.from_folder(folder)
    if len(found) < n_frames:
        raise ValueError(f"{folder} has {len(found)} images, but {n_frames} frames were asked for; give fewer --frames")
    images = [
        cv2.resize(found.frame(index), size_hw_px[::-1], interpolation=cv2.INTER_AREA) for index in range(n_frames)
    ]
    clip = EncodedFrames.of([np.asarray(image, np.uint8) for image in images])
    if len({fingerprint(clip.frame(index)) for index in range(n_frames)}) < n_frames:
        raise ValueError(f"{folder} has images that look the same, but every frame must differ; give another clip")
    return clip, folder.name


def grid_boxes(n_objects: int, size_hw_px: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """Boxes x0, y0, x1, y1 in px of so many objects, beside each other on a grid over the frame."""
    height_px, width_px = size_hw_px
    columns = int(np.ceil(np.sqrt(n_objects * width_px / height_px)))
    rows = -(-n_objects // columns)
    cell_w, cell_h = width_px / columns, height_px / rows
    margin = (1 - BOX_SHARE) / 2
    cells = itertools.islice(itertools.product(range(rows), range(columns)), n_objects)
    return [
        ((c + margin) * cell_w, (r + margin) * cell_h, (c + 1 - margin) * cell_w, (r + 1 - margin) * cell_h)
        for r, c in cells
    ]


def _jpeg(frame: FrameRGB) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()
