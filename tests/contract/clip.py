"""The small clip behind the recorded payloads: six frames of 96x64 px with two objects, drawn by the project."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pipeline.video.sample_clip import SampleClip, render_sample_clip

N_FRAMES = 6
SIZE_HW_PX = (64, 96)
TASK_FOLDERS = ("clip-a", "clip-b", "clip-c", "clip-d")
"""Folders below the media root; each is one task of the recorded project and holds the same frames."""


def small_clip() -> SampleClip:
    """The clip with its truth; the same pixels every time."""
    return render_sample_clip(n_frames=N_FRAMES, size_hw_px=SIZE_HW_PX)


def write_media(media_root: Path) -> None:
    """Write the frames of all tasks as PNG below ``media_root``."""
    clip = small_clip()
    for folder in TASK_FOLDERS:
        (media_root / folder).mkdir(parents=True, exist_ok=True)
        for frame_index, frame in enumerate(clip.frames):
            Image.fromarray(frame).save(media_root / folder / f"{frame_index:05d}.png")


def frame_urls(folder: str) -> list[str]:
    """The addresses of a task's frames as they stand in the task."""
    return [f"/data/local-files/?d={folder}/{frame_index:05d}.png" for frame_index in range(N_FRAMES)]
