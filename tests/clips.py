"""Clips for tests: real ones with ground truth from ../shared, or one the project renders where that is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.video.frames import ImageFileFrames
from pipeline.video.sample_clip import render_sample_clip

REPOSITORY = Path(__file__).resolve().parents[1]
DAVIS = REPOSITORY.parent / "shared" / "data" / "davis"


@dataclass(frozen=True)
class Clip:
    """A clip with ground truth: image files, and labels (T, H, W) uint8 where 0 is background and k is object k."""

    name: str
    image_paths: tuple[Path, ...]
    labels: NDArray[np.uint8]

    @property
    def frames(self) -> ImageFileFrames:
        """The clip as a frame source."""
        return ImageFileFrames(self.image_paths)

    def mask(self, frame_index: int, object_id: int = 1) -> NDArray[np.bool_]:
        """Ground truth of one object on one frame, (H, W) bool."""
        return np.asarray(self.labels[frame_index] == object_id)


def is_beside_the_project(folder: Path, what: str) -> bool:
    """Whether a folder of ../shared is there. With ``CI`` set it must be.

    Raises:
        FileNotFoundError: ``CI`` is set and it is missing.
    """
    if folder.is_dir():
        return True
    if os.environ.get("CI"):
        raise FileNotFoundError(f"CI is set, so {what} are expected at {folder}, but they are missing")
    return False


def has_shared_clips() -> bool:
    """Whether the real clips are beside the project; see `is_beside_the_project`."""
    return is_beside_the_project(DAVIS, "the real clips")


@cache
def davis(name: str) -> Clip:
    """A clip of ../shared/data/davis (objects keep their index; in single-object clips any value is object 1)."""
    image_paths = tuple(sorted((DAVIS / "JPEGImages" / "480p" / name).glob("*.jpg")))
    label_paths = sorted((DAVIS / "Annotations" / "480p" / name).glob("*.png"))
    if not image_paths or len(image_paths) != len(label_paths):
        raise FileNotFoundError(f"{name}: {len(image_paths)} frames and {len(label_paths)} masks under {DAVIS}")
    labels = np.stack([np.asarray(Image.open(path)) for path in label_paths]).astype(np.uint8)
    if not name.startswith("comp-"):
        labels = (labels > 0).astype(np.uint8)
    return Clip(name, image_paths, labels)


def rendered(folder: Path, n_frames: int = 60, size_hw_px: tuple[int, int] = (480, 854)) -> Clip:
    """The project's own sample clip, written into ``folder``."""
    sample = render_sample_clip(n_frames, size_hw_px)
    paths = []
    for index, frame in enumerate(sample.frames):
        paths.append(folder / f"{index:05d}.jpg")
        Image.fromarray(frame).save(paths[-1], quality=92)
    return Clip("sample", tuple(paths), sample.labels)


def real_or_rendered(name: str, folder: Path) -> Clip:
    """A real clip, or in a clone without ../shared the rendered one, written into ``folder``."""
    return davis(name) if has_shared_clips() else rendered(folder)
