"""How sure masks are, pixel by pixel, and where a click would help (thesis, 6.4.2 and 6.4.4)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.fusion import aggregated
from pipeline.segmenters.base import FloatMap
from pipeline.types import BoolMask

DILATION_SHARE = 0.05
"""How far a mask is dilated: a share of the side of the square that is as large as the mask."""
LEAST_DILATION_PX = 2


def entropy_map(probabilities: NDArray[np.float32]) -> FloatMap:
    """The normalised Shannon entropy of every pixel over all objects and the background (thesis, Eq. 6.2).

    Args:
        probabilities: (O, H, W) float32 in [0, 1], of every object by itself; soft aggregation (thesis, Eq. 3.13 and
            3.14) makes them one distribution.

    Returns:
        (H, W) float32 in [0, 1]: 0 where one class is certain, 1 where all are equally likely.

    Raises:
        ValueError: there is no object.
    """
    if not len(probabilities):
        raise ValueError("the entropy over objects and background needs at least one object")
    shares = aggregated(probabilities)
    logs = np.log(np.maximum(shares, np.finfo(np.float32).tiny))
    entropy = -(shares * logs).sum(axis=0) / math.log(len(shares))
    return np.asarray(np.clip(entropy, 0.0, 1.0), np.float32)


def dilation_px(mask: BoolMask) -> int:
    """How far `dilated` widens a mask (H, W)."""
    return max(LEAST_DILATION_PX, round(DILATION_SHARE * math.sqrt(float(mask.sum()))))


def dilated(mask: BoolMask) -> BoolMask:
    """The mask (H, W) widened in proportion to its size, so that what lies along its border counts too (6.4.2)."""
    reach_px = dilation_px(mask)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def masked_entropy(entropy: FloatMap, mask: BoolMask) -> float:
    """The uncertainty of one object: its mean entropy within the dilated mask (thesis, Eq. 6.3 divided by the region).

    An empty mask has no region: it is as uncertain as the least certain pixel of the frame, where the object may be.

    Args:
        entropy: (H, W) float32 in [0, 1], from `entropy_map`.
        mask: (H, W) bool, of the object.

    Returns:
        In [0, 1].
    """
    return float(entropy[dilated(mask)].mean()) if mask.any() else float(entropy.max(initial=0.0))


def pseudo_correction(entropy: FloatMap, mask: BoolMask) -> tuple[float, float] | None:
    """Where the method would click for itself: deep inside the mask and sure (thesis, Eq. 6.4 and 6.5).

    Args:
        entropy: (H, W) float32 in [0, 1].
        mask: (H, W) bool, of the object.

    Returns:
        The centre x, y of a pixel inside the mask, in pixels; None for an empty mask.
    """
    if not mask.any():
        return None
    depth = cv2.distanceTransform(np.pad(dilated(mask), 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    worth = np.where(mask, depth * (1.0 - entropy), -1.0)
    row, column = np.unravel_index(int(worth.argmax()), worth.shape)
    return float(column) + 0.5, float(row) + 0.5


def most_uncertain(entropy: FloatMap, mask: BoolMask) -> tuple[float, float]:
    """Where a person should look: the middle of the most uncertain region in and around the mask (thesis, 6.4.4).

    Args:
        entropy: (H, W) float32 in [0, 1].
        mask: (H, W) bool, of the object; an empty one leaves the whole frame to be looked at.

    Returns:
        The centre x, y of a pixel, in pixels.
    """
    region = dilated(mask) if mask.any() else np.ones(mask.shape, np.bool_)
    # Smoothed, so that a wide uncertain patch counts for more than the thin line along every border.
    reach_px = max(LEAST_DILATION_PX, round(2 * DILATION_SHARE * math.sqrt(float(region.sum()))))
    smooth = cv2.blur(entropy * region, (2 * reach_px + 1, 2 * reach_px + 1))
    row, column = np.unravel_index(int(np.where(region, smooth, -1.0).argmax()), smooth.shape)
    return float(column) + 0.5, float(row) + 0.5
