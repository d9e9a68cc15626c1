"""How robust a single pass is, how much of a person's time it takes, and how well its uncertainty predicts its errors.

Source: S. Vujasinović's thesis, 6.5 (Eq. 6.6 and 6.7) and 6.6.1. Where the text leaves a choice, the docstrings say
which one is made. For IDI and ACI they fit the thesis' own tables (6.1 to 6.4): there NoC / ACI is about 65, the
number of objects, and IDI * (NoC + 65) is about 7,200 s, whatever the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

ROBUSTNESS_AT = (0.1, 0.25, 0.5)
"""The IoU bounds of the thesis' tables."""
FRAMES_PER_S = 24.0
"""The frame rate of DAVIS."""
LEAST_PAIRS = 3
"""With fewer frames no correlation is computed."""


@dataclass(frozen=True)
class Workload:
    """How often, and when, a person was called for one object of one video.

    Attributes:
        first_frame: the frame on which the object was given.
        end_frame: the number of frames of the video.
        calls: frames at which a person was called, ascending, after ``first_frame`` and before ``end_frame``.
    """

    first_frame: int
    end_frame: int
    calls: tuple[int, ...]

    def __post_init__(self) -> None:
        if (self.intervals_frames() < 1).any():
            raise ValueError(
                f"calls must ascend between frames {self.first_frame} and {self.end_frame}, but got {self.calls}"
            )

    @property
    def n_frames(self) -> int:
        """Frames from the one on which the object was given to the end."""
        return self.end_frame - self.first_frame

    def intervals_frames(self) -> NDArray[np.int64]:
        """Frames from one call to the next; the beginning and the end of the video count as calls (thesis, 6.5.2).

        The end is where a next frame would be, so that the intervals add up to `n_frames` and none is 0.
        """
        return np.diff([self.first_frame, *self.calls, self.end_frame])


def robustness(ious: Sequence[NDArray[np.float64]], at_least: float) -> float | None:
    """R@tau: the share of frames whose IoU reaches a bound, a mean over objects (thesis, Eq. 6.6).

    The thesis sums over frames that show the object, and also says what counts where it is absent: right when the mask
    is empty. So all frames from the one an object is given on count here, its absence included.

    Args:
        ious: by object the IoU of its scored frames, (T,) each. On frames without the object 1 where the mask is empty,
            else 0, as `metrics.region_similarity` has it.
        at_least: tau, in [0, 1].

    Returns:
        In [0, 1]; None where no object has a scored frame.
    """
    shares = [float((iou >= at_least).mean()) for iou in ious if len(iou)]
    return float(np.mean(shares)) if shares else None


def number_of_corrections(workloads: Sequence[Workload]) -> int:
    """NoC: how often a person was called, all objects and videos together.

    A call at a frame without the object counts: the person has to look, though there is nothing to click on.
    """
    return sum(len(workload.calls) for workload in workloads)


def interaction_density_s(workloads: Sequence[Workload], frames_per_s: float = FRAMES_PER_S) -> float | None:
    """IDI: the mean time between two calls, in seconds (thesis, 6.5.2); higher is better.

    The intervals of all objects and videos are one set, of which the mean is taken.

    Args:
        workloads: of every object.
        frames_per_s: frame rate of the videos.

    Returns:
        Seconds; None without objects.
    """
    if not workloads:
        return None
    return float(np.concatenate([each.intervals_frames() for each in workloads]).mean()) / frames_per_s


def average_correction_intervals(workloads: Sequence[Workload]) -> NDArray[np.float64]:
    """By object the term of Eq. 6.7: how many intervals are at most i frames long, a mean over i from 1 to the length.

    The length is that of the video from the frame the object is given on. An interval of d frames adds (n - d + 1) / n.
    With beginning and end counted as calls the intervals add up to n, so that c calls give c + (c + 1) / n wherever
    they are: as defined, ACI says how many they are, and hardly when. The thesis' tables show the mean over objects,
    Eq. 6.7 itself is the sum.
    """
    terms = [((each.n_frames + 1 - each.intervals_frames()) / each.n_frames).sum() for each in workloads]
    return np.array(terms, np.float64)


def uncertainty_correlation(uncertainty: NDArray[np.float64], iou: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation of uncertainty and IoU with its sign turned, so that 1 is best (thesis, 6.6.1).

    Equal values share the mean of their ranks.

    Args:
        uncertainty: of one object's frames, (T,); frames where it is nan do not count.
        iou: of the same frames, (T,); likewise.

    Returns:
        In [-1, 1]; None with fewer than three frames, or where either is the same on all.
    """
    known = ~(np.isnan(uncertainty) | np.isnan(iou))
    levels, quality = uncertainty[known], iou[known]
    if len(levels) < LEAST_PAIRS or np.ptp(levels) == 0 or np.ptp(quality) == 0:
        return None
    return float(np.clip(-np.corrcoef(rankdata(levels), rankdata(quality))[0, 1], -1.0, 1.0))
