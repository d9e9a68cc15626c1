"""The protocols that segmentation methods implement for a session, and the types that both exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask, RunLengthMask
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class Anchor:
    """A prompted frame of one object: its mask (H, W) bool at the frame's size, and the clicks and box on it."""

    frame_index: int
    mask: BoolMask
    prompts: ObjectPrompts = field(default_factory=ObjectPrompts)


def _no_masks(_frame_index: int) -> Mapping[int, RunLengthMask]:
    return {}


@dataclass(frozen=True)
class ObjectRound:
    """One object in one round.

    Attributes:
        object_id: the object.
        round_index: counts the object's rounds from 1.
        anchors: the object's prompted frames.
        frame_indices: the frames to segment again in this round.
        other_masks: returns the current masks of all other objects on a frame, by object id; an object without one
            there is left out.
    """

    object_id: int
    round_index: int
    anchors: tuple[Anchor, ...]
    frame_indices: frozenset[int]
    other_masks: Callable[[int], Mapping[int, RunLengthMask]] = _no_masks


@dataclass(frozen=True)
class Estimate:
    """The prediction of a method for one object on one frame.

    Attributes:
        frame_index: the frame.
        logits: (H, W) float32, positive inside the object.
        score: the method's confidence, in [0, 1]; of an empty mask, that the object is not there.
        uncertainty: masked entropy in [0, 1]; None for methods that do not measure it.
        uncertainty_change: increase since the previous frame, in [-1, 1]; None where there is nothing to compare.
        wants_help: whether the method would ask a person to correct this frame (thesis, 6.4.4).
    """

    frame_index: int
    logits: NDArray[np.float32]
    score: float
    uncertainty: float | None = None
    uncertainty_change: float | None = None
    wants_help: bool = False


@dataclass(frozen=True)
class PropagationPass:
    """One propagation pass of one object, from a frame whose mask is known.

    Attributes:
        anchor: that frame. Its mask may be empty: a person said that the object is not there.
        frame_indices: consecutive frames, forward or backward in time, the first one a neighbour of the anchor.
        memory: from `PerObjectVideo.begin_round`.
    """

    anchor: Anchor
    frame_indices: range
    memory: Any


class PerObjectVideo(Protocol):
    """A method at work on one video, one object at a time. Call it from one thread at a time."""

    @property
    def fusion_score_power(self) -> float:
        """How much the scores of two predictions of a frame count where they are fused.

        Each one's share by distance is multiplied by its score to this power, 0 or more. 0 leaves the distance alone
        (I-PT, Eq. 1).
        """
        ...

    @property
    def clicks_only(self) -> bool:
        """Whether the method takes clicks alone. If so, the session replaces a box or scribble by a click inside it."""
        ...

    @property
    def held_bytes(self) -> int:
        """Memory in bytes that the method holds for this video, without the shared embeddings."""
        ...

    def begin_round(self, task: ObjectRound) -> Any:
        """Learn from the prompted frames, and forget what this round will replace.

        Returns:
            The method's own state of the round; the session passes it on to the calls below as ``memory``.

        Raises:
            FrameError: a prompted frame cannot be read.
        """
        ...

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: Any
    ) -> Estimate:
        """Segment one frame from a person's prompts.

        Args:
            frame_index: the prompted frame.
            prompts: clicks and box on it.
            prior: logits (H, W) of the mask that the frame had before anyone prompted it, or None.
            memory: from `begin_round` with the object's other prompted frames, or None.

        Raises:
            FrameError: the frame cannot be read.
        """
        ...

    def propagate(self, anchor: Anchor, frame_indices: range, memory: Any) -> Iterator[Estimate]:
        """Segment the frames after an anchor, in the order given. A frame that cannot be read yields nothing.

        From an anchor with an empty mask, every frame without strong evidence of the object yields an empty mask with
        score 1.

        Args:
            anchor: see `PropagationPass`, as all arguments.
            frame_indices: the frames to segment.
            memory: of the object.
        """
        ...

    def forget(self, object_id: int) -> None:
        """Drop everything about an object, because its latest rounds were undone."""
        ...


@runtime_checkable
class BatchedVideo(PerObjectVideo, Protocol):
    """A method that segments several objects on the same frame together, each within its own pass."""

    def propagate_together(self, passes: Sequence[PropagationPass]) -> Iterator[tuple[int, Estimate]]:
        """Segment the frames of several passes, as `propagate` does those of one.

        The passes take turns. Next is the pass with the fewest frames done, the first of several. Passes that are next
        at the same frame and go in the same direction take that step together.

        Args:
            passes: of one or several objects.

        Returns:
            Position in ``passes``, and estimate, of every frame.
        """
        ...


@dataclass(frozen=True)
class Interaction:
    """One object on one frame, as a person prompted it.

    Attributes:
        object_id: the object.
        frame_index: the frame.
        prompts: clicks and box, in pixels of the frame.
        prior: logits (H, W) of the mask that the frame had before anyone prompted it, or None.
    """

    object_id: int
    frame_index: int
    prompts: ObjectPrompts
    prior: FloatMap | None = None


@runtime_checkable
class ConcurrentVideo(Protocol):
    """A method at work on one video, all objects together (IDPro, III). Call it from one thread at a time.

    In a round the session first calls `interact` for the newly prompted frames and then `begin_round`. It calls
    `prefetch` once, `start_pass` for every propagation pass, and `step` frame by frame.
    """

    @property
    def held_bytes(self) -> int:
        """Memory in bytes that the method holds for this video, without the shared embeddings."""
        ...

    def interact(
        self, interactions: Sequence[Interaction], known: Sequence[ObjectRound]
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """Segment prompted frames; each one sees the others (IDPro, Eq. 1).

        Every interaction is answered once before any is answered again. A later answer replaces the earlier one. An
        interaction whose frame cannot be read gets none.

        Args:
            interactions: all objects and frames to segment in this round.
            known: per object the prompted frames that already have their mask, those painted by hand included.
        """
        ...

    def begin_round(self, tasks: Sequence[ObjectRound]) -> Any:
        """Bring the across-round memory up to date (IDPro, Eq. 7). An anchor that cannot be read is left out.

        Returns:
            The method's own state of the round; the session passes it on to the calls below as ``memory``.
        """
        ...

    def prefetch(self, frame_indices: Sequence[int]) -> None:
        """Announce the frames of the coming steps in their order, so that they can be embedded in the background.

        An empty sequence stops this: the round has ended or was cancelled.
        """
        ...

    def start_pass(self, object_id: int, anchor: Anchor, memory: Any) -> Any:
        """Start a propagation pass of one object from a frame whose mask is known.

        Returns:
            The state of the pass, which `step` takes and updates.
        """
        ...

    def step(self, frame_index: int, passes: Sequence[Any], memory: Any) -> list[Estimate]:
        """Segment one frame for several objects at once: one estimate per pass, in their order.

        Args:
            frame_index: the next frame of every one of the passes; the last step of each was on a neighbour.
            passes: from `start_pass`, one per object.
            memory: from `begin_round`.

        Raises:
            FrameError: the frame cannot be read; the passes stay as they were.
        """
        ...

    def forget(self, object_id: int) -> None:
        """Drop everything about an object, because its latest rounds were undone."""
        ...


@runtime_checkable
class OnlineVideo(ConcurrentVideo, Protocol):
    """A method at work on a video that still arrives: passes take in corrections, and past frames are released."""

    def continue_from(self, pass_: Any, anchor: Anchor, memory: Any | None) -> None:
        """Continue a pass from its newest frame, whose mask was corrected (thesis, 6.4.5).

        What the pass remembers of that frame is replaced.

        Args:
            pass_: from `start_pass`.
            anchor: the newest frame of the pass, with its corrected mask.
            memory: from `begin_round`, called with the corrected mask. None where a click only showed where the object
                is: then the mask is not stored in the memory, but the pass keeps it until the next such click.
        """
        ...

    def relocate(self, frame_index: int, pass_: Any, mask: BoolMask) -> Estimate:
        """Segment the newest frame of a pass again, after a person showed where the object is.

        The pass continues from the new mask and remembers it in place of the old one.

        Args:
            frame_index: the newest frame of the pass.
            pass_: from `start_pass`, after at least one `step`.
            mask: (H, W) bool, the object's likely place and shape.

        Raises:
            FrameError: the frame cannot be read.
        """
        ...

    def release_frame(self, frame_index: int) -> None:
        """Drop the cached data of a frame that will not be used again."""
        ...


class Method(Protocol):
    """A composition of segmenter and trackers. All sessions of a process share it."""

    def open(self, frames: FrameSource) -> PerObjectVideo | ConcurrentVideo:
        """Start work on a video. `pipeline.session.propagation` runs rounds according to the protocol of the result."""
        ...
