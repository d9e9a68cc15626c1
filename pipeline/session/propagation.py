"""What both kinds of propagation share: the frames they go through, where they resume, and how confident masks are.

`pipeline.session.per_object` propagates one object at a time, `pipeline.session.concurrent` all objects together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.methods.base import Anchor, Estimate
from pipeline.session.object_state import AffectedFrames, FrameMask, ObjectState
from pipeline.types import FrameResult

CARRIED_SHARE = 0.02
"""How much of each frame's uncertainty lowers the confidence of the frames after it; chosen on clips whose true masks
are known (docs/results.md)."""


class Propagation(Protocol):
    """Segments the stale frames of a mask store. One thread at a time."""

    @property
    def affected_frames(self) -> AffectedFrames:
        """Which frames a change of prompts makes stale."""
        ...

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """Segment all stale frames, prompted ones first; stop when ``cancelled``, called between frames, is true."""
        ...


@dataclass(frozen=True)
class Side:
    """One direction from an interaction frame.

    Attributes:
        frame_indices: the frames of a pass, nearest first.
        opposite: the nearest other interaction frame in this direction, not among ``frame_indices``; None where the
            clip ends first.
    """

    frame_indices: range
    opposite: int | None


def restricted_ranges(interaction_frame: int, others: Collection[int], n_frames: int) -> tuple[Side, Side]:
    """Backward and forward range of a round, ending before the nearest other interaction frames.

    Source: I-PT, III-C2; thesis, Eq. 4.2 and 4.3.

    Args:
        interaction_frame: where the passes start.
        others: the other interaction frames.
        n_frames: length of the clip.

    Raises:
        ValueError: the interaction frame is outside the clip.
    """
    if not 0 <= interaction_frame < n_frames:
        raise ValueError(f"interaction frame {interaction_frame} is outside the clip's frames 0 to {n_frames - 1}")
    before = max((frame for frame in others if frame < interaction_frame), default=None)
    after = min((frame for frame in others if frame > interaction_frame), default=None)
    backward = range(interaction_frame - 1, -1 if before is None else before, -1)
    forward = range(interaction_frame + 1, n_frames if after is None else after)
    return Side(backward, before), Side(forward, after)


def truncated_ranges(interaction_frame: int, others: Collection[int], n_frames: int) -> tuple[Side, Side]:
    """As `restricted_ranges`, but each side ends in the middle between two interaction frames (IDPro, III-C).

    The frame in the very middle belongs to the earlier of the two, so that no frame is in two ranges.
    """
    backward, forward = restricted_ranges(interaction_frame, others, n_frames)
    if backward.opposite is not None:
        middle = (interaction_frame + backward.opposite) // 2
        backward = Side(range(interaction_frame - 1, middle, -1), backward.opposite)
    if forward.opposite is not None:
        middle = (interaction_frame + forward.opposite) // 2
        forward = Side(range(interaction_frame + 1, middle + 1), forward.opposite)
    return backward, forward


def frames_around_changes(changed: Collection[int], prompted: Collection[int], n_frames: int) -> set[int]:
    """The restricted ranges of the frames whose prompts changed; an `AffectedFrames`."""
    sides = (side for frame in changed for side in restricted_ranges(frame, set(prompted) - {frame}, n_frames))
    in_ranges = {frame_index for side in sides for frame_index in side.frame_indices}
    return (in_ranges | set(changed)) - set(prompted)


def all_unprompted_frames(changed: Collection[int], prompted: Collection[int], n_frames: int) -> set[int]:  # noqa: ARG001
    """All frames without prompts, whatever changed: re-propagation (IDPro, III-C); an `AffectedFrames`."""
    return set(range(n_frames)) - set(prompted)


def resume_point(state: ObjectState, anchor: Anchor, frame_indices: range) -> tuple[Anchor, range]:
    """Where to continue a pass that an earlier round did not finish.

    Args:
        state: the object.
        anchor: where the pass started.
        frame_indices: all frames of the pass, nearest first.

    Returns:
        The last finished frame that shows the object, as the new anchor, and the frames after it; the arguments where
        there is none.
    """
    n_finished = next((n for n, index in enumerate(frame_indices) if index in state.stale), len(frame_indices))
    for n in reversed(range(n_finished)):
        mask = state.masks.get(frame_indices[n])
        if mask is not None and mask.raw.area_px:
            return Anchor(frame_indices[n], mask.raw.decode()), frame_indices[n + 1 :]
    return anchor, frame_indices


@dataclass
class AccumulatedUncertainty:
    """The sum of the uncertainties along one pass, which lowers the confidence of the frames to come.

    A mask is no more certain than those it was propagated from. Its own entropy (thesis, Eq. 6.3) does not show that: a
    tracker that follows the wrong thing is as certain as one that follows the right one.
    """

    total: float = 0.0

    @classmethod
    def of_frames(cls, state: ObjectState, frame_indices: Iterable[int]) -> AccumulatedUncertainty:
        """The sum for a pass that went through these frames in an earlier round."""
        masks = (state.masks.get(frame_index) for frame_index in frame_indices)
        return cls(sum(mask.uncertainty or 0.0 for mask in masks if mask is not None))

    def next_mask(self, estimate: Estimate) -> FrameMask:
        """The mask of the next frame of the pass, with its confidence as the score; adds its uncertainty to the sum."""
        mask = FrameMask.from_logits(estimate.logits, estimate.score)
        self.total += mask.uncertainty or 0.0
        return mask.with_score(mask.score * math.exp(-CARRIED_SHARE * self.total))
