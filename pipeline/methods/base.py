"""The seam between sessions and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video import FrameSource


@dataclass(frozen=True)
class Anchor:
    """A prompted frame of one object: its mask (H, W) bool at the frame's size, and the clicks and box on it."""

    frame_index: int
    mask: BoolMask
    prompts: ObjectPrompts = field(default_factory=ObjectPrompts)


def _nobody(_frame_index: int) -> Sequence[BoolMask]:
    return ()


@dataclass(frozen=True)
class ObjectRound:
    """What a method is told when one object's round begins.

    ``round_index`` counts the object's rounds from 1. ``frame_indices`` are the frames to be segmented anew.
    ``others`` gives the masks (H, W) bool that the other objects have on a frame by now.
    """

    object_id: int
    round_index: int
    anchors: tuple[Anchor, ...]
    frame_indices: frozenset[int]
    others: Callable[[int], Sequence[BoolMask]] = _nobody


@dataclass(frozen=True)
class Estimate:
    """A method's opinion on one object in one frame: ``logits`` (H, W) float32, ``score`` in [0, 1].

    Where two passes meet, ``trust`` (>= 0) weighs one against the other beside the distance; equal trust leaves the
    distance alone, as I-PT has it.
    """

    frame_index: int
    logits: NDArray[np.float32]
    score: float
    trust: float = 1.0


class OpenVideo(Protocol):
    """A method at work on one video. One thread at a time."""

    @property
    def held_bytes(self) -> int:
        """What the method remembers of this video beside the shared embeddings, in bytes."""
        ...

    def begin_round(self, task: ObjectRound) -> Any:
        """Learn from the prompted frames and forget what the round will replace; the answer is handed back below.

        Raises:
            FrameError: a prompted frame cannot be read.
        """
        ...

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: Any
    ) -> Estimate:
        """The mask of one frame from a person's prompts.

        Args:
            frame_index: the prompted frame.
            prompts: clicks and box on it.
            prior: logits (H, W) of the mask the frame had before anyone prompted it, or None.
            memory: from `begin_round` with the object's other prompted frames, or None.

        Raises:
            FrameError: the frame cannot be read.
        """
        ...

    def propagate(self, anchor: Anchor, frame_indices: range, memory: Any) -> Iterator[Estimate]:
        """Follow the object from an anchor through neighbouring frames, in order; an unreadable frame is left out."""
        ...


class Method(Protocol):
    """A composition of segmenter and trackers. Shared by all sessions of a process."""

    def open(self, frames: FrameSource) -> OpenVideo:
        """Start work on a video."""
        ...
