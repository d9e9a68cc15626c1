"""How good masks are: J and F of one mask as DAVIS defines them, and the areas under their curves over rounds and time.

J and F: Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation (CVPR 2016); the
boundary map and its tolerance are those of the evaluation toolkits published with DAVIS. AUC and the value at 60 s
follow the interactive track of DAVIS (Caelles et al., The 2018 DAVIS Challenge on Video Object Segmentation) and I-PT,
IV-B. R-AUC follows S. Vujasinović's thesis, 4.5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask

SECONDS_PER_OBJECT_AND_ROUND = 30.0
"""Time budget of DAVIS' interactive track: a clip may take this many seconds for each object and round."""
BOUNDARY_TOLERANCE = 0.008
"""Largest distance of matching boundary pixels, as a share of the image's diagonal, rounded up to whole pixels."""


def region_similarity(mask: BoolMask, truth: BoolMask) -> float:
    """J: intersection over union of two (H, W) bool masks, in [0, 1]; 1 where both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(mask, truth)
    union_px = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union_px if union_px else 1.0


def boundary_accuracy(mask: BoolMask, truth: BoolMask) -> float:
    """F: harmonic mean of precision and recall of boundary pixels within the tolerance, in [0, 1].

    A boundary pixel counts as found when the other boundary has a pixel within the tolerance (Euclidean distance).
    Two masks without any boundary agree (1); one alone without a boundary scores 0.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(mask, truth)
    found, wanted = boundary_map(mask), boundary_map(truth)
    n_found, n_wanted = int(np.count_nonzero(found)), int(np.count_nonzero(wanted))
    if n_found == 0 or n_wanted == 0:
        return float(n_found == n_wanted)
    radius_px = tolerance_px(mask.shape)
    window = _window(found | wanted, radius_px)
    found, wanted = found[window], wanted[window]
    disk = _disk(radius_px)
    precision = np.count_nonzero(found & _dilated(wanted, disk)) / n_found
    recall = np.count_nonzero(wanted & _dilated(found, disk)) / n_wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_map(mask: BoolMask) -> BoolMask:
    """Pixels (H, W) bool whose right, lower or lower right neighbour has another value.

    The last row has only a right neighbour, the last column only a lower one, and the last corner is never boundary.
    """
    boundary = np.zeros(mask.shape, np.bool_)
    here = mask[:-1, :-1]
    boundary[:-1, :-1] = (here != mask[:-1, 1:]) | (here != mask[1:, :-1]) | (here != mask[1:, 1:])
    boundary[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    boundary[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return boundary


def tolerance_px(shape_hw: tuple[int, ...]) -> int:
    """The boundary tolerance of an image in whole pixels."""
    return int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(shape_hw[0], shape_hw[1])))


def _check_shapes(mask: BoolMask, truth: BoolMask) -> None:
    if mask.shape != truth.shape or mask.ndim != 2:
        raise ValueError(f"both masks must have one shape (H, W), but got {mask.shape} and {truth.shape}")


def _window(pixels: BoolMask, margin_px: int) -> tuple[slice, slice]:
    """The part of the image around all set pixels: dilating outside of it would change nothing."""
    rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
    return (
        slice(max(0, int(rows[0]) - margin_px), int(rows[-1]) + margin_px + 1),
        slice(max(0, int(columns[0]) - margin_px), int(columns[-1]) + margin_px + 1),
    )


@cache
def _disk(radius_px: int) -> NDArray[np.uint8]:
    offsets = np.arange(-radius_px, radius_px + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius_px**2).astype(np.uint8)


def _dilated(boundary: BoolMask, disk: NDArray[np.uint8]) -> BoolMask:
    return np.asarray(cv2.dilate(boundary.astype(np.uint8), disk)).astype(np.bool_)


@dataclass(frozen=True)
class ClipRounds:
    """One clip: by round a figure in [0, 1], the mean over ``n_objects``, and the seconds."""

    values: tuple[float, ...]
    seconds: tuple[float, ...]
    n_objects: int

    @property
    def budget_s(self) -> float:
        """The time the clip may take."""
        return SECONDS_PER_OBJECT_AND_ROUND * self.n_objects * len(self.values)

    def within_budget(self) -> ClipRounds:
        """The clip as DAVIS counts it: a round that ends after the budget takes no time and changes nothing."""
        values, seconds, spent_s, value = [], [], 0.0, 0.0
        for new_value, took_s in zip(self.values, self.seconds, strict=True):
            in_time = spent_s + took_s <= self.budget_s
            spent_s += took_s
            value = new_value if in_time else value
            values.append(value)
            seconds.append(took_s if in_time else 0.0)
        return ClipRounds(tuple(values), tuple(seconds), self.n_objects)


@dataclass(frozen=True)
class Curve:
    """A figure over time or rounds: straight lines from (0, 0) through the rounds, then constant to the end."""

    xs: tuple[float, ...]
    values: tuple[float, ...]

    def area(self) -> float:
        """The mean height of the curve: the area under it, divided by its length."""
        heights = np.add(self.values[1:], self.values[:-1]) / 2
        return float(np.dot(np.diff(self.xs), heights) / self.xs[-1])

    def at(self, x: float) -> float:
        """The figure at ``x``, by linear interpolation; past the end the last value."""
        return float(np.interp(x, self.xs, self.values))


def mean_over_objects(clips: Sequence[ClipRounds], n_rounds: int) -> tuple[float, ...]:
    """Per round the mean over the objects of all clips together, as DAVIS 2017 counts."""
    weights = [clip.n_objects for clip in clips]
    return tuple(float(np.average([c.values[i] for c in clips], weights=weights)) for i in range(n_rounds))


def over_time(clips: Sequence[ClipRounds]) -> Curve:
    """A figure over the accumulated seconds of a clip, both averaged round by round; it ends at the mean budget.

    Args:
        clips: at least one; all with the same number of rounds, at least one.
    """
    counted = [clip.within_budget() for clip in clips]
    n_rounds = len(counted[0].values)
    means = mean_over_objects(counted, n_rounds)
    times_s = np.cumsum(np.mean([clip.seconds for clip in counted], axis=0))
    end_s = float(np.mean([clip.budget_s for clip in counted]))
    return Curve((0.0, *(float(t) for t in times_s), end_s), (0.0, *means, means[-1]))


def over_rounds(clips: Sequence[ClipRounds]) -> Curve:
    """A figure over rounds, for R-AUC: from (0, 0) through rounds 1 to R, and level to R + 1.

    The thesis says only that rounds take the place of time; beginning and end are those of the evaluation published
    with it, so that figures compare.
    """
    n_rounds = len(clips[0].values)
    means = mean_over_objects(clips, n_rounds)
    return Curve(tuple(float(x) for x in range(n_rounds + 2)), (0.0, *means, means[-1]))
