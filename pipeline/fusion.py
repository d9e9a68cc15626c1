"""How predictions are brought together: over time between two prompted frames, and over objects within one frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask


def linear_weight(frame_index: int, current_frame: int, previous_frame: int) -> float:
    """The share of the current interaction frame's prediction at a frame between the two (I-PT, Eq. 1).

    1 at ``current_frame``, 0 at ``previous_frame``, linear between.

    Raises:
        ValueError: the frame does not lie between the two, or they are the same.
    """
    low, high = sorted((current_frame, previous_frame))
    if low == high or not low <= frame_index <= high:
        raise ValueError(f"frame {frame_index} does not lie between the interaction frames {low} and {high}")
    return abs(frame_index - previous_frame) / (high - low)


def trusted_weight(weight: float, trust_current: float, trust_previous: float) -> float:
    """Shift the current prediction's share in [0, 1] towards the prediction that is trusted more.

    Equal trust leaves it as it is; so does no trust in either. Where one share is 0 or 1 trust changes nothing: next to
    an interaction frame its own prediction stands.
    """
    current, previous = weight * trust_current, (1.0 - weight) * trust_previous
    return weight if current + previous <= 0.0 else current / (current + previous)


def fuse(current: NDArray[np.float32], previous: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Weigh two predictions of one frame, (H, W) float32 probabilities in [0, 1], by I-PT's Eq. 1.

    Args:
        current: of the current interaction frame.
        previous: of the previous one.
        weight: the share of ``current``, from `linear_weight` and `trusted_weight`.
    """
    return np.asarray(weight * current + (1.0 - weight) * previous, np.float32)


def one_owner(
    probabilities: Mapping[int, NDArray[np.float32]], prompted: Mapping[int, BoolMask]
) -> dict[int, BoolMask]:
    """Give every pixel of one frame to at most one object.

    Args:
        probabilities: by object id (H, W) float32 in [0, 1], of the objects propagated to this frame.
        prompted: by object id the masks (H, W) of the objects a person prompted here; they win, and stay as they are.

    Returns:
        Masks (H, W) bool of the propagated objects, by object id.
    """
    object_ids = sorted(probabilities)
    if not object_ids:
        return {}
    stacked = np.stack([probabilities[object_id] for object_id in object_ids])
    owner = stacked.argmax(axis=0)
    taken = np.zeros(stacked.shape[1:], np.bool_)
    for mask in prompted.values():
        taken |= mask
    return {
        object_id: np.asarray((stacked[row] > 0.5) & (owner == row) & ~taken)
        for row, object_id in enumerate(object_ids)
    }
