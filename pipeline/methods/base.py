"""The seam between sessions and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource


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
    distance alone, as I-PT has it. ``uncertainty`` in [0, 1] is the masked entropy, of methods that look at it on their
    way, and ``uncertainty_change`` in [-1, 1] its rise against the frame before; ``wants_help`` says that the method
    would ask a person here (thesis, 6.4.4).
    """

    frame_index: int
    logits: NDArray[np.float32]
    score: float
    trust: float = 1.0
    uncertainty: float | None = None
    uncertainty_change: float | None = None
    wants_help: bool = False


class OpenVideo(Protocol):
    """A method at work on one video. One thread at a time."""

    @property
    def clicks_only(self) -> bool:
        """Whether boxes and scribbles reach the method as the click in their middle."""
        ...

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

    def forget(self, object_id: int) -> None:
        """Drop what is remembered of an object: its latest rounds were taken back."""
        ...


@dataclass(frozen=True)
class Interaction:
    """One object on one frame, as a person prompted it.

    ``prior`` is what the frame had before anyone prompted it, logits (H, W), or None.
    """

    object_id: int
    frame_index: int
    prompts: ObjectPrompts
    prior: FloatMap | None = None


@runtime_checkable
class ConcurrentVideo(Protocol):
    """A method that takes all objects through one video together (IDPro, III). One thread at a time.

    A session asks in this order: `interact` for the frames prompted anew, `begin_round`, then `expect` once, `start`
    for every way that leads from a prompted frame, and `step` frame by frame.
    """

    @property
    def held_bytes(self) -> int:
        """What the method remembers of this video beside the shared embeddings, in bytes."""
        ...

    def interact(
        self, interactions: Sequence[Interaction], known: Sequence[ObjectRound]
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """The masks of prompted frames; each frame sees the others (IDPro, Eq. 1).

        A first answer comes for every interaction before any comes a second time; a later one replaces it.
        An interaction whose frame cannot be read is left out.

        Args:
            interactions: what is to be segmented, all objects and frames of the round.
            known: per object the prompted frames whose masks are up to date already, given masks among them.
        """
        ...

    def begin_round(self, tasks: Sequence[ObjectRound]) -> Any:
        """Bring the across-round memory up to date (IDPro, Eq. 7); the answer is handed back below.

        An anchor whose frame cannot be read is left out of the memory.
        """
        ...

    def expect(self, frame_indices: Sequence[int]) -> None:
        """Announce the frames of the steps to come, in their order: they may be embedded ahead, in the background.

        An empty sequence ends that: the round is over or was stopped.
        """
        ...

    def start(self, object_id: int, anchor: Anchor, memory: Any) -> Any:
        """Begin a way from a frame whose mask is known; the answer is handed to `step`, which may change it."""
        ...

    def step(self, frame_index: int, ways: Sequence[Any], memory: Any) -> list[Estimate]:
        """Segment one frame for several objects at once: one estimate per way, in order.

        Args:
            frame_index: the next frame of every one of the ways; each came to its neighbour before.
            ways: from `start`, one per object.
            memory: from `begin_round`.

        Raises:
            FrameError: the frame cannot be read; the ways go on from where they were.
        """
        ...

    def forget(self, object_id: int) -> None:
        """Drop what is remembered of an object: its latest rounds were taken back."""
        ...


@runtime_checkable
class OnlineVideo(ConcurrentVideo, Protocol):
    """A method at work on a video that arrives: it goes on from corrections, and lets go of what is past."""

    def go_on(self, way: Any, anchor: Anchor, memory: Any | None) -> None:
        """Let a way go on from the frame it came by last, whose mask a person corrected (thesis, 6.4.5).

        What the way remembers of that frame is replaced.

        Args:
            way: from `start`.
            anchor: that frame, with its new mask.
            memory: from `begin_round`, which was told of the new mask. None for a mask that a person only pointed at:
                the way remembers it until the next such one, but nobody vouches for its pixels.
        """
        ...

    def find_again(self, frame_index: int, way: Any, mask: BoolMask) -> Estimate:
        """Segment the frame that a way came by last once more, now that a person said where the object is.

        The way goes on from what is found, and remembers it in place of what it found first.

        Args:
            frame_index: that frame.
            way: from `start`, past a `step` at least.
            mask: (H, W) bool, where the object probably is, and its shape.

        Raises:
            FrameError: the frame cannot be read.
        """
        ...

    def release(self, frame_index: int) -> None:
        """Forget what is cached of a frame: nobody will ask for it again."""
        ...


class Method(Protocol):
    """A composition of segmenter and trackers. Shared by all sessions of a process."""

    def open(self, frames: FrameSource) -> OpenVideo | ConcurrentVideo:
        """Start work on a video. The kind of the answer decides how rounds run, see `pipeline.session.propagation`."""
        ...
