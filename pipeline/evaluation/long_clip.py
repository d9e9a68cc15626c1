"""A long clip with ground truth: short ones played forth and back, one after the other, until it is long enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

import numpy as np

from pipeline.evaluation.datasets import ClipFiles, Objects, Truth, read_truth
from pipeline.types import BoolMask
from pipeline.video.frames import ImageFileFrames


@dataclass(frozen=True)
class Shown:
    """What one frame of the long clip is: frame ``frame_index`` of the clip at ``clip_index`` in the given order."""

    clip_index: int
    frame_index: int


@dataclass(frozen=True)
class ClipObject:
    """An object of the long clip: object ``object_id`` of the clip at ``clip_index``."""

    clip_index: int
    object_id: int


@dataclass(frozen=True)
class LongClip:
    """See `of`. Holds the labels of the short clips, so its size does not depend on its length.

    Attributes:
        name: the clips' names, joined by "+".
        shown: what each frame is, by frame.
        objects: the objects that count by their id in the long clip, 1 to K.
    """

    name: str
    clips: tuple[ClipFiles, ...]
    truths: tuple[Truth, ...]
    shown: tuple[Shown, ...]
    objects: dict[int, ClipObject]

    @classmethod
    def of(
        cls,
        clips: Sequence[ClipFiles],
        n_frames: int,
        *,
        counted: str | None = None,
        meaning: Objects = Objects.AUTO,
    ) -> LongClip:
        """Play every clip forth and back, in turn, again and again.

        A frame at which the direction changes comes once. An object is where it was when its clip comes again.

        Args:
            clips: at least one, all of one size.
            n_frames: length of the long clip.
            counted: the clip whose objects count; the others are interludes in which these are absent. Without it the
                objects of all clips count, each clip's told apart from the others'.
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
        every = [ClipObject(index, object_id) for index in chosen for object_id in truths[index].object_ids]
        shown = tuple(islice(_forth_and_back([len(clip.image_paths) for clip in clips]), n_frames))
        return cls("+".join(names), tuple(clips), truths, shown, dict(enumerate(every, start=1)))

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def frames(self) -> ImageFileFrames:
        """The frames, read from the short clips' own files."""
        return RepeatedFrames([self.clips[each.clip_index].image_paths[each.frame_index] for each in self.shown])

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects that count, ascending."""
        return tuple(self.objects)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width of every frame."""
        return self.clips[0].size_hw_px

    def mask(self, frame_index: int, object_id: int) -> BoolMask:
        """One object on one frame, (H, W) bool; nothing where another clip is shown."""
        found, shown = self.objects[object_id], self.shown[frame_index]
        if found.clip_index != shown.clip_index:
            return np.zeros(self.size_hw_px, np.bool_)
        return self.truths[found.clip_index].mask(shown.frame_index, found.object_id)

    def is_absent(self, frame_index: int, object_id: int) -> bool:
        """Whether another clip than the object's own is shown."""
        return self.objects[object_id].clip_index != self.shown[frame_index].clip_index


class RepeatedFrames(ImageFileFrames):
    """Image files some of which come again and again; every coming counts as a frame of its own."""

    def identity(self, frame_index: int) -> None:  # noqa: ARG002
        """None: a cache that knew the repeated files would make a long clip cheaper than a long video is."""
        return None


def _forth_and_back(lengths: Sequence[int]) -> Iterator[Shown]:
    """Without end; with one clip, the frames at both of its ends come once per turn."""
    alone = len(lengths) == 1
    for clip_index, n_frames in cycle(enumerate(lengths)):
        back = range(n_frames - 2, 0 if alone and n_frames > 1 else -1, -1)
        for frame_index in chain(range(n_frames), back):
            yield Shown(clip_index, frame_index)
