"""A quality figure over interaction time or over rounds, and the areas under these curves.

AUC and the value at 60 s follow the interactive track of DAVIS (Caelles et al., The 2018 DAVIS Challenge on Video
Object Segmentation) and I-PT, IV-B; R-AUC follows S. Vujasinović's thesis, 4.5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SECONDS_PER_OBJECT_AND_ROUND = 30.0
"""Time budget of DAVIS' interactive track: a clip may take this long times its objects times its rounds."""


@dataclass(frozen=True)
class ClipRounds:
    """One clip: figures in [0, 1] and seconds of each round, and how many objects the figures are the mean of."""

    values: tuple[float, ...]
    seconds: tuple[float, ...]
    n_objects: int

    @property
    def budget_s(self) -> float:
        """The time the clip may take."""
        return SECONDS_PER_OBJECT_AND_ROUND * self.n_objects * len(self.values)

    def within_budget(self) -> ClipRounds:
        """The same clip as DAVIS counts it: a round that ends too late costs no time and brings no change."""
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
    """A figure over time (or over rounds): straight lines from (0, 0) through the rounds, then level to the end."""

    xs: tuple[float, ...]
    values: tuple[float, ...]

    def area(self) -> float:
        """The mean height of the curve: the area under it, divided by its length."""
        heights = np.add(self.values[1:], self.values[:-1]) / 2
        return float(np.dot(np.diff(self.xs), heights) / self.xs[-1])

    def at(self, x: float) -> float:
        """The height at ``x``, between two rounds by linear interpolation; past the end the last value holds."""
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
