"""A simulated person beside a single pass: gives the objects, and clicks when called, or at random times (thesis, 6.6).

The person clicks where the object is, once per object and frame, and only on it.
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


class GivenBy(str, Enum):
    """How an object is given on the first frame that shows it: by its true mask, or by a click on its centre."""

    MASK = "mask"
    CLICKS = "clicks"


class Corrections(str, Enum):
    """When the person corrects: when the method asks, never, or as often as it asked but at random times."""

    REQUESTED = "requested"
    RANDOM = "random"
    NONE = "none"


Schedule = Mapping[int, frozenset[int]]
"""By object id the frames on which the person clicks unasked."""


class Agent:
    """The person of one pass. An object is given once, on the first readable frame that shows it."""

    def __init__(
        self,
        truth: TrueMasks,
        given_by: GivenBy,
        corrections: Corrections = Corrections.REQUESTED,
        schedule: Schedule | None = None,
    ) -> None:
        """Nothing is given yet.

        Args:
            truth: what the person sees.
            given_by: how objects are given.
            corrections: when the person clicks.
            schedule: for `Corrections.RANDOM`, from `random_schedule`.

        Raises:
            ValueError: random corrections without a schedule, or the other way round.
        """
        if (schedule is not None) is not (corrections is Corrections.RANDOM):
            raise ValueError(f"random corrections, and no others, need a schedule, but got it for {corrections.value}")
        self._truth, self._given_by, self._corrections = truth, given_by, corrections
        self._schedule: Schedule = schedule or {}
        self._given: set[int] = set()

    def first_prompts(self, frame_index: int) -> list[Prompt]:
        """Prompts for the objects that are seen for the first time."""
        prompts: list[Prompt] = []
        for object_id in self._truth.object_ids:
            truth = None if object_id in self._given else self._truth.mask(frame_index, object_id)
            if truth is None or not truth.any():
                continue
            self._given.add(object_id)
            if self._given_by is GivenBy.MASK:
                prompts.append(MaskPrompt(object_id, frame_index, RunLengthMask.encode(truth)))
            else:
                prompts.append(centre_click(truth, object_id, frame_index))
        return prompts

    def called(self, frame_index: int, asked_for: Iterable[int]) -> tuple[int, ...]:
        """The objects for which the person turns to this frame, ascending.

        Args:
            frame_index: the newest frame.
            asked_for: objects for which the method asks.
        """
        if self._corrections is Corrections.REQUESTED:
            return tuple(sorted(set(asked_for)))
        return tuple(i for i in self._truth.object_ids if frame_index in self._schedule.get(i, ()))

    def answers(self, frame_index: int, object_ids: Iterable[int]) -> list[PointPrompt]:
        """A positive click for each of these objects, none for those that the frame does not show."""
        truths = ((i, self._truth.mask(frame_index, i)) for i in object_ids)
        return [centre_click(truth, i, frame_index) for i, truth in truths if truth.any()]


def centre_click(truth: BoolMask, object_id: int, frame_index: int) -> PointPrompt:
    """A positive click at the mean of the object's pixels (thesis, 6.6.2); in a hole or beside, on its innermost pixel.

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
    """Different frames at random on which the object is to be seen, not the first of these; all others if too few.

    Args:
        present: by object id the frames that show it, (T,) bool.
        counts: by object id how many frames to take.
        seed: the same one gives the same frames, whatever the other objects are.
    """
    schedule = {}
    for object_id, n_wanted in counts.items():
        chance = np.random.default_rng(zlib.crc32(f"{seed}/{object_id}".encode()))
        usable = np.flatnonzero(present[object_id])[1:]
        chosen = chance.choice(usable, size=min(n_wanted, len(usable)), replace=False) if len(usable) else ()
        schedule[object_id] = frozenset(int(frame) for frame in chosen)
    return schedule
