"""Which frames a round segments again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """One direction from an interaction frame: ``frame_indices`` nearest first, up to but without ``opposite``.

    ``opposite`` is the nearest other interaction frame that way, or None where the clip ends first.
    """

    frame_indices: range
    opposite: int | None


def restricted(interaction_frame: int, others: Collection[int], n_frames: int) -> tuple[Side, Side]:
    """Backward and forward range of a round, ending before the nearest other interaction frames (I-PT, III-C2).

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
