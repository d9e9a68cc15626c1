"""Thresholds of uncertainty for one segmenter, from passes without corrections over clips with ground truth.

The thesis finds tau_u, tau_p and tau_m on a training set (6.8.3) and says no more about it. Here a threshold raises an
alarm on every frame whose level reaches it. The best threshold has the highest F1 of two figures: how many failures it
finds, and how much more often its alarms are right than alarms on random frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.zivos.single_pass import ObjectScore
from pipeline.uncertainty import THESIS_THRESHOLDS

STEP = 1e-4
"""Thresholds are multiples of this, so that what is printed is what was judged."""
ROUNDING = 1e-6
"""Of a division: 0.3 is 3000 steps, though its quotient is a little less."""
MAX_CANDIDATES = 300


@dataclass(frozen=True)
class CalibrationSettings:
    """What counts as a failure, as a fall, and as a warning in time. The field names are keys of the JSON.

    Attributes:
        iou_bound: a mask below this IoU has failed; in (0, 1).
        fall: a mask falls when its IoU drops by this much within ``fall_frames``; in (0, 1).
        fall_frames: at least 1.
        horizon_frames: an alarm is right when a failure (or fall) follows within so many frames; 0: on its own frame.
        least_events: with fewer failures (or falls) no threshold is chosen.
        calls_per_100_frames: a wanted rate of calls for help; None chooses tau_u by F1.
    """

    iou_bound: float = 0.5
    fall: float = 0.1
    fall_frames: int = 3
    horizon_frames: int = 6
    least_events: int = 5
    calls_per_100_frames: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.iou_bound < 1 or not 0 < self.fall < 1:
            raise ValueError(f"an IoU and its fall must be between 0 and 1, but got {self.iou_bound} and {self.fall}")
        if self.horizon_frames < 0 or self.fall_frames < 1 or self.least_events < 1:
            raise ValueError(
                "expected 0 frames or more ahead, at least 1 for a fall and at least 1 event, but got "
                f"{self.horizon_frames}, {self.fall_frames} and {self.least_events}"
            )
        if self.calls_per_100_frames is not None and self.calls_per_100_frames <= 0:
            raise ValueError(f"the wanted calls per 100 frames must be above 0, but got {self.calls_per_100_frames}")


@dataclass(frozen=True)
class AlarmSamples:
    """The frames on which one kind of alarm could be raised, and the events (failures, falls) it should find.

    Attributes:
        levels: of every such frame, (N,). An alarm is raised where the level reaches the threshold.
        right: whether an alarm on the frame would be right, (N,) bool.
        peaks: by event the highest level that could have announced it, (E,); -inf where there was none.
    """

    levels: NDArray[np.float64]
    right: NDArray[np.bool_]
    peaks: NDArray[np.float64]

    @staticmethod
    def concatenated(parts: Sequence[AlarmSamples]) -> AlarmSamples:
        """The samples of several objects as one."""
        none = AlarmSamples(np.empty(0), np.empty(0, np.bool_), np.empty(0))
        every = (none, *parts)
        return AlarmSamples(*(np.concatenate([getattr(e, n) for e in every]) for n in ("levels", "right", "peaks")))

    @property
    def base_rate(self) -> float:
        """The share of frames on which an alarm would be right: the precision of alarms on random frames."""
        return float(self.right.mean()) if len(self.right) else 0.0

    def quality_at(self, threshold: float) -> AlarmQuality:
        """How good the alarms of this threshold are."""
        alarms = self.levels >= threshold
        n_alarms, n_right = int(alarms.sum()), int((alarms & self.right).sum())
        n_found = int((self.peaks >= threshold).sum())
        return AlarmQuality(threshold, n_alarms, n_right, n_found, len(self.peaks), len(self.levels), self.base_rate)

    def candidates(self) -> list[float]:
        """Thresholds above 0 to choose from, ascending; high ones are closer together than low ones."""
        steps = np.unique(np.floor(self.levels[self.levels > 0] / STEP + ROUNDING))[::-1]
        steps = steps[steps > 0]
        if len(steps) > MAX_CANDIDATES:
            steps = steps[np.unique(np.geomspace(1, len(steps), MAX_CANDIDATES).astype(int)) - 1]
        return [round(float(step * STEP), 4) for step in steps[::-1]]


@dataclass(frozen=True)
class AlarmQuality:
    """How good the alarms of one threshold are: how many are right, and how many of the events they find.

    ``base_rate`` is the share of right ones among alarms on random frames.
    """

    threshold: float
    n_alarms: int
    n_right: int
    n_found: int
    n_events: int
    n_frames: int
    base_rate: float

    @property
    def precision(self) -> float:
        """The share of alarms that are right; 0 without alarms."""
        return self.n_right / self.n_alarms if self.n_alarms else 0.0

    @property
    def recall(self) -> float:
        """The share of events found; 0 without events."""
        return self.n_found / self.n_events if self.n_events else 0.0

    @property
    def gain(self) -> float:
        """Precision scaled so that 0 is that of alarms on random frames, and 1 is perfect; never below 0."""
        return max(0.0, (self.precision - self.base_rate) / (1 - self.base_rate)) if self.base_rate < 1 else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of gain and recall. With precision, alarms on all frames would win on bad clips."""
        total = self.gain + self.recall
        return 2 * self.gain * self.recall / total if total else 0.0

    @property
    def per_100_frames(self) -> float:
        """Alarms for every hundred frames of an object."""
        return 100 * self.n_alarms / self.n_frames if self.n_frames else 0.0


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, or the reason why there is none. Its quality is that on the samples which chose it."""

    quality: AlarmQuality | None
    reason: str = ""

    @property
    def value(self) -> float | None:
        """The threshold."""
        return None if self.quality is None else self.quality.threshold


def failures(score: ObjectScore, settings: CalibrationSettings) -> NDArray[np.bool_]:
    """Frames (T,) that show the object while its mask's IoU is below the bound."""
    return score.present & (score.iou < settings.iou_bound)


def falls(score: ObjectScore, settings: CalibrationSettings) -> NDArray[np.bool_]:
    """Frames (T,) whose IoU is lower by `CalibrationSettings.fall` than on one of the frames just before.

    Only frames that show the object are compared.
    """
    iou = np.where(score.present, score.iou, np.nan)
    dropped = np.zeros(len(iou), np.bool_)
    for back in range(1, settings.fall_frames + 1):
        dropped[back:] |= iou[:-back] - iou[back:] >= settings.fall
    return dropped


def uncertainty_rise(score: ObjectScore) -> NDArray[np.float64]:
    """dS: the uncertainty minus that of the frame before, (T,); nan where either is unknown."""
    return np.diff(score.uncertainty, prepend=np.nan)


def early_alarms(levels: NDArray[np.float64], wrong: NDArray[np.bool_], horizon_frames: int) -> AlarmSamples:
    """Samples of alarms that announce stretches of wrong frames of one object.

    An alarm is right when a wrong frame comes within the horizon, its own frame included. The first frame of a stretch
    is an event. It is found when there is an alarm on it, or within the horizon before it. A stretch that begins with
    the object's first frame is no event: no alarm can come before it.

    Args:
        levels: of each frame, (T,); nan where unknown.
        wrong: frames to warn of, (T,) bool.
        horizon_frames: see `CalibrationSettings`.
    """
    right = wrong.copy()
    for ahead in range(1, horizon_frames + 1):
        right[:-ahead] |= wrong[ahead:]
    known = ~np.isnan(levels)
    onsets = np.flatnonzero(wrong[1:] & ~wrong[:-1]) + 1
    before = [levels[max(0, t - horizon_frames) : t + 1] for t in onsets]
    peaks = [float(np.nanmax(each)) if not np.isnan(each).all() else -np.inf for each in before]
    return AlarmSamples(levels[known], right[known], np.array(peaks, np.float64))


def alarms_of_failures(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> AlarmSamples:
    """For tau_u: the rise of uncertainty announces failures."""
    return AlarmSamples.concatenated(
        [early_alarms(uncertainty_rise(s), failures(s, settings), settings.horizon_frames) for s in scores]
    )


def alarms_of_falls(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> AlarmSamples:
    """For tau_p: the rise of uncertainty announces falls."""
    return AlarmSamples.concatenated(
        [early_alarms(uncertainty_rise(s), falls(s, settings), settings.horizon_frames) for s in scores]
    )


def alarms_of_failed_frames(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> AlarmSamples:
    """For tau_m: the uncertainty of a frame tells whether that frame itself failed; every failed frame is an event."""
    parts = []
    for score in scores:
        known = ~np.isnan(score.uncertainty) & score.present
        levels, wrong = score.uncertainty[known], failures(score, settings)[known]
        parts.append(AlarmSamples(levels, wrong, levels[wrong]))
    return AlarmSamples.concatenated(parts)


def best_by_f1(samples: AlarmSamples, settings: CalibrationSettings, below: float | None = None) -> ThresholdChoice:
    """The threshold with the highest F1; of equally good ones the highest. None where there are too few events.

    It lies in the middle between the lowest level that raises an alarm and the highest that does not.

    Args:
        samples: of one kind of alarm.
        settings: how many events are needed.
        below: the threshold must be smaller than this.
    """
    if len(samples.peaks) < settings.least_events:
        return ThresholdChoice(
            None, f"{len(samples.peaks)} events in the clips, at least {settings.least_events} are needed"
        )
    usable = [c for c in samples.candidates() if below is None or c < below]
    if not usable:
        return ThresholdChoice(
            None, "no frame has a level above 0" if below is None else f"no level lies below {below:g}"
        )
    chosen = max(usable, key=lambda candidate: (samples.quality_at(candidate).f1, candidate))
    silent = max((c for c in usable if c < chosen), default=0.0)
    best = samples.quality_at(round((chosen + silent) / 2 + ROUNDING, 4))
    if best.f1 == 0:
        return ThresholdChoice(
            None, f"no alarm is right more often than one at random would be ({samples.base_rate:.0%})"
        )
    return ThresholdChoice(best)


def by_rate(samples: AlarmSamples, per_100_frames: float) -> ThresholdChoice:
    """The smallest threshold that calls at most so often; it needs no failures, and says nothing about them."""
    qualities = [samples.quality_at(candidate) for candidate in samples.candidates()]
    fitting = [each for each in qualities if each.per_100_frames <= per_100_frames]
    if not fitting:
        return ThresholdChoice(None, f"{len(samples.levels)} frames are too few for {per_100_frames:g} calls in 100")
    return ThresholdChoice(min(fitting, key=lambda each: each.threshold))


def thresholds(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> dict[str, ThresholdChoice]:
    """tau_u, tau_p and tau_m by name.

    Each is chosen from its own alarms: `alarms_of_failures`, `alarms_of_falls`, `alarms_of_failed_frames`. tau_p is
    below tau_u, or below the thesis' where none was found.
    """
    samples, rate = alarms_of_failures(scores, settings), settings.calls_per_100_frames
    tau_u = best_by_f1(samples, settings) if rate is None else by_rate(samples, rate)
    below = THESIS_THRESHOLDS.tau_u if tau_u.value is None else tau_u.value
    tau_p = best_by_f1(alarms_of_falls(scores, settings), settings, below=below)
    return {"tau_u": tau_u, "tau_p": tau_p, "tau_m": best_by_f1(alarms_of_failed_frames(scores, settings), settings)}


def threshold_options(found: Mapping[str, ThresholdChoice]) -> list[str]:
    """The thresholds as options of the method, NAME=VALUE; those that were not found keep their defaults.

    Where only tau_u was found, tau_p gets the same value, as it may not be larger: the method never corrects itself.
    """
    values = {name: choice.value for name, choice in found.items() if choice.value is not None}
    if "tau_u" in values:
        values.setdefault("tau_p", values["tau_u"])
    return [f"{name}={values[name]:g}" for name in found if name in values]
