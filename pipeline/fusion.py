"""How predictions are combined: over time between two prompted frames, and over the objects of one frame."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask


def linear_weight(frame_index: int, current_frame: int, previous_frame: int) -> float:
    """The weight of the current interaction frame's prediction at a frame between two of them (I-PT, Eq. 1).

    1 at ``current_frame``, 0 at ``previous_frame``, linear between.

    Raises:
        ValueError: the frame does not lie between the two, or they are the same.
    """
    low, high = sorted((current_frame, previous_frame))
    if low == high or not low <= frame_index <= high:
        raise ValueError(f"frame {frame_index} does not lie between the interaction frames {low} and {high}")
    return abs(frame_index - previous_frame) / (high - low)


def trusted_weight(weight: float, trust_current: float, trust_previous: float) -> float:
    """Shift the weight of the current prediction, in [0, 1], towards the prediction that is trusted more.

    With equal trust, and with no trust in either, the weight stays. A weight of 0 or 1 stays in any case: at an
    interaction frame its own prediction counts alone.

    Args:
        weight: from `linear_weight`.
        trust_current: >= 0, in the current prediction.
        trust_previous: >= 0, in the previous one.
    """
    current, previous = weight * trust_current, (1.0 - weight) * trust_previous
    return weight if current + previous <= 0.0 else current / (current + previous)


def fuse(current: NDArray[np.float32], previous: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """The weighted mean of two predictions of one frame (I-PT, Eq. 1), (H, W) float32 probabilities in [0, 1].

    Args:
        current: of the current interaction frame.
        previous: of the previous one.
        weight: of ``current`` in [0, 1], from `linear_weight` and `trusted_weight`.
    """
    return np.asarray(weight * current + (1.0 - weight) * previous, np.float32)


def resolve_overlaps(
    probabilities: Mapping[int, NDArray[np.float32]], prompted: Collection[int] = ()
) -> dict[int, BoolMask]:
    """Give every pixel of one frame to one object or to the background, by soft aggregation (thesis, Eq. 3.15).

    Objects that a person prompted on this frame come first; the others share what is left. No object gains a pixel: a
    pixel that no object claims stays background, even where the sum of small probabilities would outweigh it. So an
    object that is added later only ever takes pixels from others.

    Args:
        probabilities: by object id (H, W) float32 in [0, 1]; an object claims the pixels above a half.
        prompted: those of the object ids that a person prompted here.

    Returns:
        Masks (H, W) bool by object id; no two share a pixel.
    """
    if not probabilities:
        return {}
    claims = {object_id: np.asarray(claim > 0.5) for object_id, claim in probabilities.items()}
    n_claims = np.sum(list(claims.values()), axis=0, dtype=np.uint8)
    masks = {object_id: claim & (n_claims == 1) for object_id, claim in claims.items()}
    contested = np.nonzero(n_claims > 1)
    first = set(prompted) & set(probabilities)
    taken = np.zeros(len(contested[0]), np.bool_)
    for object_ids in (sorted(first), sorted(set(probabilities) - first)):
        if not object_ids or not len(taken):
            continue
        # Odds grow with the probability, and where an object claims more than a half the background has less than a
        # half. So the greatest of Eq. 3.15 is the greatest claim, and no odds need to be computed.
        stacked = np.stack([probabilities[object_id][contested] for object_id in object_ids])
        owner, claimed = stacked.argmax(axis=0), (stacked.max(axis=0) > 0.5) & ~taken
        for row, object_id in enumerate(object_ids):
            masks[object_id][contested] = claimed & (owner == row)
        taken |= claimed
    return masks
