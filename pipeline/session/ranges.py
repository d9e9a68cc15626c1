"""Which frames a round segments again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

Reach: TypeAlias = Callable[[Collection[int], Collection[int], int], set[int]]
"""Frames that a round puts in question.

Arguments: frames whose prompts changed or went away, frames that have prompts now, length of the clip. The answer has
none of the prompted frames.
"""


@dataclass(frozen=True)
class Side:
    """One direction from an interaction frame: ``frame_indices`` nearest first, up to but without ``opposite``.

    ``opposite`` is the nearest other interaction frame that way, or None where the clip ends first.
    """

    frame_indices: range
    opposite: int | None


def restricted(interaction_frame: int, others: Collection[int], n_frames: int) -> tuple[Side, Side]:
    """Backward and forward range of a round, ending before the nearest other interaction frames.

    Source: I-PT, III-C2; thesis, Eq. 4.2 and 4.3.

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


def truncated(interaction_frame: int, others: Collection[int], n_frames: int) -> tuple[Side, Side]:
    """As `restricted`, but each side ends in the middle between the two interaction frames (IDPro, III-C).

    The frame in the very middle belongs to the earlier one, so that the ranges of all interaction frames never overlap.
    """
    backward, forward = restricted(interaction_frame, others, n_frames)
    if backward.opposite is not None:
        middle = (interaction_frame + backward.opposite) // 2
        backward = Side(range(interaction_frame - 1, middle, -1), backward.opposite)
    if forward.opposite is not None:
        middle = (interaction_frame + forward.opposite) // 2
        forward = Side(range(interaction_frame + 1, middle + 1), forward.opposite)
    return backward, forward


def around_changes(changed: Collection[int], prompted: Collection[int], n_frames: int) -> set[int]:
    """The restricted ranges of the frames that changed; see `Reach`."""
    sides = (side for frame in changed for side in restricted(frame, set(prompted) - {frame}, n_frames))
    reached = {frame_index for side in sides for frame_index in side.frame_indices}
    return (reached | set(changed)) - set(prompted)


def everything(changed: Collection[int], prompted: Collection[int], n_frames: int) -> set[int]:  # noqa: ARG001
    """All frames without an interaction: re-propagation (IDPro, III-C); see `Reach`."""
    return set(range(n_frames)) - set(prompted)
