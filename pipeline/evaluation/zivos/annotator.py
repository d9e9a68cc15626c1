"""The simulated annotator of a single pass: gives the objects, and corrects them on request or at random times.

A correction is one click per object and frame, always on the object (thesis, 6.6).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.simulated_prompts import innermost
from pipeline.types import BoolMask, MaskPrompt, PointPrompt, Prompt, RunLengthMask


class TrueMasks(Protocol):
    """Ground truth by frame and object."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects, ascending."""
        ...

    def mask(self, frame_index: int, object_id: int) -> BoolMask:
        """One object on one frame, (H, W) bool."""
        ...


class InitialPrompt(str, Enum):
    """The prompt for an object on the first frame that shows it: its true mask, or a click on its centre."""

    MASK = "mask"
    CLICKS = "clicks"


class Corrections(str, Enum):
    """When the annotator corrects: where the method requests it, at random times, or never."""

    REQUESTED = "requested"
    RANDOM = "random"
    NONE = "none"


Schedule = Mapping[int, frozenset[int]]
"""By object id the frames on which the annotator corrects without a request."""


class SinglePassAnnotator:
    """The annotator of one pass. It gives every object once, on the first readable frame that shows it."""

    def __init__(
        self,
        truth: TrueMasks,
        initial_prompt: InitialPrompt,
        corrections: Corrections = Corrections.REQUESTED,
        schedule: Schedule | None = None,
    ) -> None:
        """No object is given yet.

        Args:
            truth: the true masks.
            initial_prompt: how objects are given.
            corrections: when the annotator corrects.
            schedule: for `Corrections.RANDOM`, from `random_schedule`.

        Raises:
            ValueError: random corrections without a schedule, or the other way round.
        """
        if (schedule is not None) is not (corrections is Corrections.RANDOM):
            raise ValueError(f"random corrections, and no others, need a schedule, but got it for {corrections.value}")
        self._truth, self._given_by, self._corrections = truth, initial_prompt, corrections
        self._schedule: Schedule = schedule or {}
        self._given: set[int] = set()

    def initial_prompts(self, frame_index: int) -> list[Prompt]:
        """Prompts for the objects that are seen for the first time."""
        prompts: list[Prompt] = []
        for object_id in self._truth.object_ids:
            truth = None if object_id in self._given else self._truth.mask(frame_index, object_id)
            if truth is None or not truth.any():
                continue
            self._given.add(object_id)
            if self._given_by is InitialPrompt.MASK:
                prompts.append(MaskPrompt(object_id, frame_index, RunLengthMask.encode(truth)))
            else:
                prompts.append(centre_click(truth, object_id, frame_index))
        return prompts

    def objects_to_correct(self, frame_index: int, requested: Iterable[int]) -> tuple[int, ...]:
        """The objects that the annotator looks at on this frame, ascending.

        Args:
            frame_index: the newest frame.
            requested: objects for which the method requests a correction.
        """
        if self._corrections is Corrections.REQUESTED:
            return tuple(sorted(set(requested)))
        return tuple(i for i in self._truth.object_ids if frame_index in self._schedule.get(i, ()))

    def clicks(self, frame_index: int, object_ids: Iterable[int]) -> list[PointPrompt]:
        """A positive click for each of these objects, none for those that the frame does not show."""
        truths = ((i, self._truth.mask(frame_index, i)) for i in object_ids)
        return [centre_click(truth, i, frame_index) for i, truth in truths if truth.any()]


def centre_click(truth: BoolMask, object_id: int, frame_index: int) -> PointPrompt:
    """A positive click at the mean of the object's pixels (thesis, 6.6.2).

    Where the mean does not lie on the object, the click is on the object's innermost pixel.

    Args:
        truth: (H, W) bool, not empty.
        object_id: of the prompt.
        frame_index: of the prompt.
    """
    ys, xs = np.nonzero(truth)
    x, y = round(float(xs.mean())), round(float(ys.mean()))
    if not truth[y, x]:
        x, y = innermost(truth)
    return PointPrompt(object_id, frame_index, x + 0.5, y + 0.5)


def random_schedule(
    present: Mapping[int, NDArray[np.bool_]], counts: Mapping[int, int], *, seed: str
) -> dict[int, frozenset[int]]:
    """For each object so many different frames at random that show it, but not the first such frame.

    Where there are too few of them, all are taken.

    Args:
        present: by object id the frames that show it, (T,) bool.
        counts: by object id how many frames to take.
        seed: the same one gives the same frames, whatever the other objects are.
    """
    schedule = {}
    for object_id, n_wanted in counts.items():
        rng = np.random.default_rng(zlib.crc32(f"{seed}/{object_id}".encode()))
        usable = np.flatnonzero(present[object_id])[1:]
        chosen = rng.choice(usable, size=min(n_wanted, len(usable)), replace=False) if len(usable) else ()
        schedule[object_id] = frozenset(int(frame) for frame in chosen)
    return schedule
