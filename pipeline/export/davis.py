"""Palette PNGs in the layout of DAVIS: ``Annotations/<clip>/<frame>.png``, the pixel value is the object id.

A palette PNG holds one object per pixel. Where masks overlap, the object with the higher id gets the pixel; how many
pixels lower ids lose this way is counted. The COCO export keeps them.

Layout and palette: Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation (arXiv:1704.00675).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.export.clip import ExportedClip
from pipeline.types import BoolMask

MAX_OBJECT_ID = 255


@dataclass(frozen=True)
class DavisSummary:
    """What was written. ``overlap_px`` are pixels that two masks claim, counted once per mask that lost one."""

    n_frames: int
    overlap_px: int


def write_davis(
    clips: Sequence[ExportedClip], folder: Path, on_frame: Callable[[], None] = lambda: None
) -> DavisSummary:
    """Write every frame of every clip, also those without a mask, into ``folder/Annotations/<clip>/<stem>.png``.

    Args:
        clips: their names and frame names become file names as they are.
        folder: created where missing; files of the same name are replaced.
        on_frame: called after each frame, for a progress bar.

    Raises:
        ValueError: an object id is above 255, which one byte per pixel cannot hold.
    """
    overlap_px = 0
    for clip in clips:
        highest = max(clip.masks, default=0)
        if highest > MAX_OBJECT_ID:
            raise ValueError(
                f"clip {clip.name} has the object id {highest}; a palette PNG holds ids up to {MAX_OBJECT_ID}: use COCO"
            )
        clip_folder = folder / "Annotations" / clip.name
        clip_folder.mkdir(parents=True, exist_ok=True)
        for frame_index, frame_name in enumerate(clip.frame_names):
            labels, lost_px = paint(clip, frame_index)
            overlap_px += lost_px
            write_palette_png(labels, clip_folder / f"{Path(frame_name).stem}.png")
            on_frame()
    return DavisSummary(sum(len(clip.frame_names) for clip in clips), overlap_px)


def paint(clip: ExportedClip, frame_index: int) -> tuple[NDArray[np.uint8], int]:
    """One frame's labels, (H, W) uint8 with 0 as background, and how many mask pixels a higher object id took."""
    return paint_masks(clip.decoded(frame_index), clip.frame_sizes_hw_px[frame_index])


def paint_masks(masks: Iterable[tuple[int, BoolMask]], size_hw_px: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:
    """Labels of one frame from its masks by ascending object id, see `paint`."""
    labels = np.zeros(size_hw_px, dtype=np.uint8)
    lost_px = 0
    for object_id, mask in masks:
        lost_px += int(np.count_nonzero(labels[mask]))
        labels[mask] = object_id
    return labels, lost_px


def write_palette_png(labels: NDArray[np.uint8], path: Path) -> None:
    """Write (H, W) uint8 labels as an 8-bit palette PNG, the values unchanged."""
    image = Image.fromarray(labels)
    image.putpalette(davis_palette())
    image.save(path)


@cache
def davis_palette() -> bytes:
    """256 RGB colours. The bits of the index, lowest first, go to red, green and blue in turn, highest bit first."""
    indices = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            bit = indices >> (3 * step + channel) & 1
            colours[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    return colours.tobytes()
