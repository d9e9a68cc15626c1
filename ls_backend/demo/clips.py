"""The demo's clip as image files in Label Studio's media folder: drawn, decoded from a video, or the user's frames."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ls_backend.demo.local_server import DemoError, Progress, silent
from pipeline.video.frames import IMAGE_SUFFIXES, natural_order
from pipeline.video.reader import VideoError, VideoReader
from pipeline.video.sample_clip import render_sample_clip

CLIPS_FOLDER = "clips"
"""All clips lie below this folder of the media root, so that one storage covers them."""

JPEG_QUALITY = 92
_BROWSER_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class DemoClip:
    """A clip ready to be served. ``key`` is its folder's name, and the same source gives the same key."""

    key: str
    file_names: tuple[str, ...]

    @property
    def frame_addresses(self) -> list[str]:
        """What a task's ``frames`` holds: one address per frame, relative to Label Studio."""
        return [f"/data/local-files/?d={CLIPS_FOLDER}/{self.key}/{name}" for name in self.file_names]


def sample_clip(media_root: Path, on_progress: Progress = silent, n_frames: int = 60) -> DemoClip:
    """The project's own sample clip, drawn on first use."""
    key = f"sample-{n_frames}"
    with _new_folder(media_root, key) as folder:
        if folder:
            on_progress("drawing the sample clip")
            _write_jpegs(folder, render_sample_clip(n_frames).frames, on_progress, n_frames)
    return _clip_in(media_root, key)


def clip_from_video(media_root: Path, video: Path, on_progress: Progress = silent) -> DemoClip:
    """A video file's frames, decoded on first use.

    Raises:
        DemoError: the file cannot be read or decoded, or the frames cannot be written.
    """
    video = video.expanduser()
    if not video.is_file():
        raise DemoError(f"--video {video}: there is no such file")
    key = _key(video.stem, [video])
    with _new_folder(media_root, key) as folder:
        if folder:
            try:
                with VideoReader(video) as reader:
                    whole = (image for image in reader.frames() if image is not None)
                    _write_jpegs(folder, whole, on_progress, reader.announced_frames)
            except VideoError as error:
                raise DemoError(f"--video {error}") from error
    return _clip_in(media_root, key)


def clip_from_frames(media_root: Path, source: Path, on_progress: Progress = silent) -> DemoClip:
    """The images of a folder in natural order of their names (``2`` before ``10``); linked where possible, else copied.

    Raises:
        DemoError: there are no images, one is unreadable or of another size, or they cannot be written.
    """
    source = source.expanduser()
    if not source.is_dir():
        raise DemoError(f"--frames {source}: there is no such folder")
    images = sorted((p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_order)
    if not images:
        raise DemoError(f"--frames {source}: no image in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    key = _key(source.resolve().name, images)
    with _new_folder(media_root, key) as folder:
        if folder:
            _require_one_size(images)
            for frame_index, image in enumerate(images):
                on_progress(f"frame {frame_index + 1} of {len(images)}")
                _link_or_copy(image, folder, frame_index)
    return _clip_in(media_root, key)


def _key(name: str, files: Iterable[Path]) -> str:
    """A folder name that changes only with the source: with the path, size or change time of any file."""
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "clip"
    return f"{readable}-{digest.hexdigest()[:8]}"


@contextmanager
def _new_folder(media_root: Path, key: str) -> Iterator[Path | None]:
    """A folder to fill, or None if it is there already. It gets its final name only if the block succeeds."""
    final = media_root / CLIPS_FOLDER / key
    if final.is_dir():
        yield None
        return
    part = final.with_name(f"{key}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        part.rename(final)
    except OSError as error:
        raise DemoError(f"the clip cannot be written to {final}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _clip_in(media_root: Path, key: str) -> DemoClip:
    names = sorted(path.name for path in (media_root / CLIPS_FOLDER / key).iterdir())
    return DemoClip(key, tuple(names))


def _write_jpegs(folder: Path, frames: Iterable[NDArray[np.uint8]], on_progress: Progress, n_frames: int) -> None:
    """Write frames as numbered JPEGs; ``n_frames`` may be 0 for unknown."""
    for frame_index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{frame_index:05d}.jpg", quality=JPEG_QUALITY)
        written = frame_index + 1
        # The frame count in a video's header is an estimate, and sometimes too low.
        on_progress(f"frame {written}" + (f" of {n_frames}" if n_frames >= written else ""))


def _require_one_size(images: list[Path]) -> None:
    first_size: tuple[int, int] | None = None
    for path in images:
        try:
            with Image.open(path) as image:
                size = image.size
        except (OSError, UnidentifiedImageError) as error:
            raise DemoError(f"--frames: {path} is not a readable image; remove or replace it") from error
        first_size = first_size or size
        if size != first_size:
            size_text, expected = "{}x{}".format(*size), "{}x{}".format(*first_size)
            raise DemoError(
                f"--frames: {path} is {size_text} px, but the first image is {expected} px; make them one size"
            )


def _link_or_copy(image: Path, folder: Path, frame_index: int) -> None:
    suffix = image.suffix.lower()
    if suffix not in _BROWSER_SUFFIXES:
        with Image.open(image) as opened:
            opened.convert("RGB").save(folder / f"{frame_index:05d}.png")
        return
    target = folder / f"{frame_index:05d}{suffix}"
    try:
        os.link(image.resolve(), target)
    except OSError:  # Another file system, or one without links.
        shutil.copyfile(image, target)
