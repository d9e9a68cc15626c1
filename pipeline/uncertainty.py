"""How certain masks are, pixel by pixel and per object, and where a click would help (thesis, 6.4.2 and 6.4.4)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.base import FloatMap
from pipeline.types import BoolMask

DILATION_SHARE = 0.05
"""How far a mask is dilated, as a share of the square root of its area."""
LEAST_DILATION_PX = 2


@dataclass(frozen=True)
class UncertaintyThresholds:
    """What a method does about its uncertainty (thesis, 6.4.4 and 6.4.5); infinite where never.

    Attributes:
        tau_u: ask a person where it rises by at least this from one frame to the next.
        tau_p: correct the mask automatically where it rises by at least this; at most ``tau_u``.
        tau_m: do not store frames in the memory that are at least this uncertain.
    """

    tau_u: float
    tau_p: float
    tau_m: float


THESIS_THRESHOLDS = UncertaintyThresholds(0.5, 0.2, 0.8)
"""Found for XMem's probabilities on the training set of LVOS (thesis, 6.8.3)."""

_EPSILON = 1e-7
"""Keeps odds finite."""
_Crop = tuple[slice, slice]


def soft_aggregation(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn independent probabilities of objects into one distribution over background and objects.

    Source: thesis, Eq. 3.13 and 3.14 (soft aggregation, from STM).

    Args:
        probabilities: (O, H, W) float32 in [0, 1], of every object by itself.

    Returns:
        (1 + O, H, W) float32 in [0, 1], the background first; every pixel sums to 1.
    """
    background = np.prod(1.0 - probabilities, axis=0, keepdims=True)
    stacked = np.clip(np.concatenate([background, probabilities]), _EPSILON, 1.0 - _EPSILON).astype(np.float64)
    odds = stacked / (1.0 - stacked)
    return np.asarray(odds / odds.sum(axis=0), np.float32)


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
    shares = soft_aggregation(probabilities)
    logs = np.log(np.maximum(shares, np.finfo(np.float32).tiny))
    entropy = -(shares * logs).sum(axis=0) / math.log(len(shares))
    return np.asarray(np.clip(entropy, 0.0, 1.0), np.float32)


def dilation_px(mask: BoolMask) -> int:
    """How far `dilated` widens a mask (H, W), in pixels."""
    return max(LEAST_DILATION_PX, round(DILATION_SHARE * math.sqrt(float(mask.sum()))))


def dilated(mask: BoolMask) -> BoolMask:
    """The mask (H, W) widened in proportion to its size, so that pixels along its border count too (thesis, 6.4.2)."""
    reach_px = dilation_px(mask)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def masked_entropy(entropy: FloatMap, mask: BoolMask) -> float:
    """The uncertainty of one object: the mean entropy in its dilated mask (thesis, Eq. 6.3 divided by the area).

    An empty mask has no area; its uncertainty is that of the least certain pixel, where the object may be.

    Args:
        entropy: (H, W) float32 in [0, 1], from `entropy_map`.
        mask: (H, W) bool, of the object.

    Returns:
        In [0, 1].
    """
    return float(entropy[dilated(mask)].mean()) if mask.any() else float(entropy.max(initial=0.0))


def pseudo_correction(entropy: FloatMap, mask: BoolMask) -> tuple[float, float] | None:
    """Where the method would click by itself: deep inside the mask and certain (thesis, Eq. 6.4 and 6.5).

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
        mask: (H, W) bool, of the object; for an empty one the whole frame is considered.

    Returns:
        The centre x, y of a pixel, in pixels.
    """
    region = dilated(mask) if mask.any() else np.ones(mask.shape, np.bool_)
    # Smoothed, so that a wide uncertain patch counts for more than the thin line along every border.
    reach_px = max(LEAST_DILATION_PX, round(2 * DILATION_SHARE * math.sqrt(float(region.sum()))))
    smooth = cv2.blur(entropy * region, (2 * reach_px + 1, 2 * reach_px + 1))
    row, column = np.unravel_index(int(np.where(region, smooth, -1.0).argmax()), smooth.shape)
    return float(column) + 0.5, float(row) + 0.5


def object_uncertainties(
    probabilities: Mapping[int, NDArray[np.float32]], object_ids: Collection[int]
) -> dict[int, float]:
    """The masked entropy of some objects of a frame, with all others in the distribution (thesis, Eq. 6.2, 6.3).

    Only the surroundings of each object are used, so the cost grows with the areas of the objects, not of the frame.

    Args:
        probabilities: by object id (h, w) float32 in [0, 1], of every object by itself; all of one size.
        object_ids: the objects whose uncertainty is wanted.

    Returns:
        In [0, 1] by object id.
    """
    found = {}
    for object_id in object_ids:
        crop = _surroundings(probabilities[object_id])
        entropy = entropy_map(np.stack([each[crop] for each in probabilities.values()]))
        found[object_id] = masked_entropy(entropy, np.asarray(probabilities[object_id][crop] > 0.5))
    return found


def objects_near(probabilities: Mapping[int, NDArray[np.float32]], changed: Collection[int]) -> set[int]:
    """The objects whose surroundings overlap those of changed ones, so that their uncertainty may change too."""
    crops = {object_id: _surroundings(each) for object_id, each in probabilities.items()}
    return {i for i, crop in crops.items() if any(_overlap(crop, crops[other]) for other in changed if other in crops)}


def _surroundings(probability: NDArray[np.float32]) -> _Crop:
    """The part of the frame around the dilated mask; for an empty mask, the most probable pixel."""
    mask = probability > 0.5
    if not mask.any():
        row, column = np.unravel_index(int(probability.argmax()), probability.shape)
        return slice(int(row), int(row) + 1), slice(int(column), int(column) + 1)
    x0, y0, x1, y1 = (int(v) for v in bounding_box(np.asarray(mask)))
    reach_px = dilation_px(np.asarray(mask))
    return slice(max(0, y0 - reach_px), y1 + reach_px), slice(max(0, x0 - reach_px), x1 + reach_px)


def _overlap(one: _Crop, other: _Crop) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
