"""Clips with ground truth: read from a folder in the layout of DAVIS, or put together from short ones to a long one.

``JPEGImages/<resolution>/<clip>/<frame>.jpg`` and ``Annotations/<resolution>/<clip>/<frame>.png``, a mask on every
frame; the level of the resolution may be missing. Layout: Perazzi et al. (CVPR 2016), Pont-Tuset et al.
(arXiv:1704.00675).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.types import BoolMask
from pipeline.video.frames import IMAGE_SUFFIXES, ImageFileFrames

IMAGES, MASKS = "JPEGImages", "Annotations"
PREFERRED_RESOLUTION = "480p"
VOID = 255
"""The value that DAVIS 2017 gives to pixels of no object and no background; in DAVIS 2016 it is the object."""
NAMES_SHOWN = 12


class DatasetError(Exception):
    """A folder of clips cannot be used. The message says what was expected, what arrived and what to do."""


class Objects(str, Enum):
    """What the values of the mask files mean.

    ``single``: any value but 0 is the one object, 1. ``indexed``: each value but 0 and 255 is an object's id. ``auto``:
    indexed in palette PNGs and where the values of the clip (255 apart) are 1 to K without a gap; single otherwise.
    """

    AUTO = "auto"
    SINGLE = "single"
    INDEXED = "indexed"


@dataclass(frozen=True)
class ClipFiles:
    """The files of one clip, a mask for every frame, all of one size."""

    name: str
    image_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]
    size_hw_px: tuple[int, int]

    @property
    def frames(self) -> ImageFileFrames:
        """The clip as a frame source."""
        return ImageFileFrames(self.image_paths)


@dataclass(frozen=True)
class Truth:
    """Ground truth of a clip: ``labels`` (T, H, W) uint8, 0 is background; ``object_ids`` ascending, at least one."""

    labels: NDArray[np.uint8]
    object_ids: tuple[int, ...]

    def mask(self, frame_index: int, object_id: int) -> BoolMask:
        """One object on one frame, (H, W) bool."""
        return np.asarray(self.labels[frame_index] == object_id)

    def areas_px(self) -> NDArray[np.int64]:
        """Pixels of every object on every frame, (T, O)."""
        return np.stack([np.count_nonzero(self.labels == i, axis=(1, 2)) for i in self.object_ids], axis=1)


def find_clips(data: Path, names: Sequence[str] = ()) -> list[ClipFiles]:
    """The named clips of a folder, or all of them in the order of their names.

    Every file's header is read, so that a broken clip is found before the first clip runs.

    Raises:
        DatasetError: the layout is another, a clip is missing, or its frames and masks do not fit together.
    """
    images, masks = _resolution_folders(data)
    known = sorted(p.name for p in masks.iterdir() if p.is_dir() and (images / p.name).is_dir())
    if not known:
        raise DatasetError(f"no clip has frames in {images} and masks in {masks}; expected one folder per clip in each")
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
        raise DatasetError(
            f"no sequence {', '.join(unknown)} in {data}; there are {', '.join(known[:NAMES_SHOWN])}{more}"
        )
    return [_clip_files(name, images / name, masks / name) for name in dict.fromkeys(names or known)]


def read_truth(clip: ClipFiles, objects: Objects = Objects.AUTO) -> Truth:
    """The masks of a clip.

    Raises:
        DatasetError: a mask is not readable, or no frame shows an object.
    """
    labels = np.zeros((len(clip.mask_paths), *clip.size_hw_px), np.uint8)
    indexed_files = True
    for frame_index, path in enumerate(clip.mask_paths):
        try:
            with Image.open(path) as image:
                indexed_files &= image.mode == "P"
                values = np.asarray(image if image.mode in ("P", "L", "1") else image.convert("RGB"))
        except OSError as error:
            raise DatasetError(f"{path} cannot be read: {error}") from error
        labels[frame_index] = values if values.ndim == 2 else values.max(axis=2)
    values_found = [int(v) for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if v != 0]
    if not values_found:
        raise DatasetError(
            f"clip {clip.name}: no mask shows an object, every pixel is 0; leave it out with --sequences"
        )
    return _as_objects(labels, values_found, objects, indexed_files)


def _as_objects(labels: NDArray[np.uint8], found: list[int], objects: Objects, palette: bool) -> Truth:
    ids = tuple(value for value in found if value != VOID)
    contiguous = ids == tuple(range(1, len(ids) + 1))
    indexed = objects is Objects.INDEXED or (objects is Objects.AUTO and (palette or contiguous))
    if not indexed or not ids:
        return Truth((labels > 0).astype(np.uint8), (1,))
    labels[labels == VOID] = 0
    return Truth(labels, ids)


def _resolution_folders(data: Path) -> tuple[Path, Path]:
    """The folders that hold one folder per clip, of the frames and of the masks."""
    images, masks = data / IMAGES, data / MASKS
    missing = [folder.name for folder in (images, masks) if not folder.is_dir()]
    if missing:
        raise DatasetError(
            f"{data} has no folder {' and no folder '.join(missing)}; expected the layout of DAVIS: "
            f"{IMAGES}/{PREFERRED_RESOLUTION}/<clip>/00000.jpg and {MASKS}/{PREFERRED_RESOLUTION}/<clip>/00000.png"
        )
    inner = sorted(p.name for p in images.iterdir() if p.is_dir() and not _image_files(p) and any(p.iterdir()))
    if not inner:
        return images, masks
    if PREFERRED_RESOLUTION not in inner and len(inner) > 1:
        raise DatasetError(f"{images} holds {', '.join(inner)}; expected one resolution, or {PREFERRED_RESOLUTION}")
    resolution = PREFERRED_RESOLUTION if PREFERRED_RESOLUTION in inner else inner[0]
    if not (masks / resolution).is_dir():
        raise DatasetError(f"there are frames in {images / resolution}, but no folder {masks / resolution} with masks")
    return images / resolution, masks / resolution


def _image_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def _clip_files(name: str, images: Path, masks: Path) -> ClipFiles:
    image_paths, mask_paths = _image_files(images), _image_files(masks)
    if not image_paths:
        raise DatasetError(f"clip {name}: {images} holds no image")
    if [p.stem for p in image_paths] != [p.stem for p in mask_paths]:
        alone = sorted({p.stem for p in image_paths} ^ {p.stem for p in mask_paths})
        raise DatasetError(
            f"clip {name}: expected a mask for every frame, but {len(image_paths)} frames and {len(mask_paths)} masks "
            f"arrived, and {', '.join(alone[:3])} is in one folder only; complete it, or leave it out with --sequences"
        )
    sizes = {path: _size_hw_px(path) for path in (*image_paths, *mask_paths)}
    size_hw_px = sizes[image_paths[0]]
    for path, (height_px, width_px) in sizes.items():
        if (height_px, width_px) != size_hw_px:
            raise DatasetError(
                f"clip {name}: {path} is {width_px}x{height_px} px, but the clip's first frame is "
                f"{size_hw_px[1]}x{size_hw_px[0]} px; frames and masks need one size"
            )
    return ClipFiles(name, tuple(image_paths), tuple(mask_paths), size_hw_px)


def _size_hw_px(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError) as error:
        raise DatasetError(f"{path} is not a readable image: {error}") from error


@dataclass(frozen=True)
class SourceFrame:
    """Where a frame of the long clip comes from: frame ``frame_index`` of the short clip number ``clip_index``."""

    clip_index: int
    frame_index: int


@dataclass(frozen=True)
class SourceObject:
    """Where an object of the long clip comes from: object ``object_id`` of the short clip number ``clip_index``."""

    clip_index: int
    object_id: int


@dataclass(frozen=True)
class LongClip:
    """A long clip made of short ones, see `from_clips`. It holds their labels only, however long it is.

    Attributes:
        name: the short clips' names, joined by "+".
        clips: the short clips.
        truths: their ground truth.
        sources: by frame where it comes from.
        objects: the objects that count, by their id in the long clip, 1 to K.
    """

    name: str
    clips: tuple[ClipFiles, ...]
    truths: tuple[Truth, ...]
    sources: tuple[SourceFrame, ...]
    objects: dict[int, SourceObject]

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[ClipFiles],
        n_frames: int,
        *,
        counted: str | None = None,
        meaning: Objects = Objects.AUTO,
    ) -> LongClip:
        """Play every clip forth and back, one clip after the other, again and again.

        The frame at which the direction changes comes once.

        Args:
            clips: at least one, all of one size.
            n_frames: length of the long clip.
            counted: the name of the clip whose objects count; they are absent while other clips are shown. None counts
                the objects of all clips, as different objects.
            meaning: what the values of the mask files mean.

        Raises:
            ValueError: no clip, clips of different sizes, fewer than one frame, or no clip is called ``counted``.
            DatasetError: a mask is not readable, or a clip shows no object.
        """
        names = [clip.name for clip in clips]
        if not clips or n_frames < 1:
            raise ValueError(f"expected a clip and a frame at least, but got {len(clips)} clips and {n_frames} frames")
        sizes = {clip.size_hw_px for clip in clips}
        if len(sizes) > 1:
            each = ", ".join(f"{clip.name} {clip.size_hw_px[1]}x{clip.size_hw_px[0]} px" for clip in clips)
            raise ValueError(f"the clips of a long one need one size, but got {each}")
        if counted is not None and counted not in names:
            raise ValueError(f"the clip whose objects count must be one of {', '.join(names)}, but got {counted}")
        truths = tuple(read_truth(clip, meaning) for clip in clips)
        chosen = range(len(clips)) if counted is None else [names.index(counted)]
        counted_objects = [SourceObject(index, object_id) for index in chosen for object_id in truths[index].object_ids]
        sources = tuple(islice(_forth_and_back([len(clip.image_paths) for clip in clips]), n_frames))
        return cls("+".join(names), tuple(clips), truths, sources, dict(enumerate(counted_objects, start=1)))

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def frames(self) -> ImageFileFrames:
        """The frames, read from the short clips' own files."""
        return RepeatedFrames([self.clips[each.clip_index].image_paths[each.frame_index] for each in self.sources])

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects that count, ascending."""
        return tuple(self.objects)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width of every frame."""
        return self.clips[0].size_hw_px

    def mask(self, frame_index: int, object_id: int) -> BoolMask:
        """One object on one frame, (H, W) bool; empty where another clip is shown."""
        of_object, of_frame = self.objects[object_id], self.sources[frame_index]
        if of_object.clip_index != of_frame.clip_index:
            return np.zeros(self.size_hw_px, np.bool_)
        return self.truths[of_object.clip_index].mask(of_frame.frame_index, of_object.object_id)

    def is_absent(self, frame_index: int, object_id: int) -> bool:
        """Whether another clip than the object's own is shown."""
        return self.objects[object_id].clip_index != self.sources[frame_index].clip_index


class RepeatedFrames(ImageFileFrames):
    """Image files of which some are repeated; each repetition counts as a different frame."""

    def identity(self, frame_index: int) -> None:  # noqa: ARG002
        """None: a cache that recognised repeated files would make a long clip cheaper than a long video."""
        return None


def _forth_and_back(lengths: Sequence[int]) -> Iterator[SourceFrame]:
    """The frames of clips of these lengths, without end. A single clip shows its first and last frame once per turn."""
    alone = len(lengths) == 1
    for clip_index, n_frames in cycle(enumerate(lengths)):
        back = range(n_frames - 2, 0 if alone and n_frames > 1 else -1, -1)
        for frame_index in chain(range(n_frames), back):
            yield SourceFrame(clip_index, frame_index)
