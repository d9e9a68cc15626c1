"""Small clips in the layout of DAVIS, written for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.export.davis import write_palette_png
from pipeline.video.sample_clip import render_sample_clip


def write_clip(
    data: Path,
    name: str,
    labels: NDArray[np.uint8],
    frames: NDArray[np.uint8] | None = None,
    *,
    resolution: str = "480p",
    palette: bool = True,
) -> None:
    """Write labels (T, H, W) and frames (T, H, W, 3), grey ones where none are given."""
    if frames is None:
        frames = np.full((*labels.shape, 3), 128, np.uint8)
    images, masks = data / "JPEGImages" / resolution / name, data / "Annotations" / resolution / name
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        Image.fromarray(frame).save(images / f"{index:05d}.jpg", quality=92)
        if palette:
            write_palette_png(label, masks / f"{index:05d}.png")
        else:
            Image.fromarray(label).save(masks / f"{index:05d}.png")


def write_rendered_clip(data: Path, name: str, n_frames: int, *, object_ids: tuple[int, ...] = (1, 2)) -> None:
    """Write the project's sample clip in a small size, with some of its objects only."""
    sample = render_sample_clip(n_frames=n_frames, size_hw_px=(120, 214))
    kept = np.where(np.isin(sample.labels, object_ids), sample.labels, 0).astype(np.uint8)
    write_clip(data, name, kept, sample.frames)


def write_box_prompt(data: Path, name: str, prompts: Path) -> Path:
    """Write the prompts file of a box around object 1 on the first frame; returns the folder of the frames."""
    truth = np.asarray(Image.open(data / "Annotations" / "480p" / name / "00000.png"))
    ys, xs = np.nonzero(truth == 1)
    box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    objects = [{"object_id": 1, "prompts": [{"frame_index": 0, "box_xyxy_px": box}]}]
    prompts.write_text(json.dumps({"version": 1, "objects": objects}))
    return data / "JPEGImages" / "480p" / name
