"""Thresholds of uncertainty for one segmenter, from passes without corrections over clips with truth.

The thesis finds tau_u, tau_p and tau_m on a training set (6.8.3) and says no more about it. Here a threshold is that of
an alarm, and the best one is the one with the highest F1, of how little it misses and how much more often it is right
than a blind alarm would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.zivos.single_pass import ObjectScore

STEP = 1e-4
"""Thresholds are multiples of this, so that what is printed is what was judged."""
ROUNDING = 1e-6
"""Of a division: 0.3 is 3000 steps, though its quotient is a little less."""
MAX_CANDIDATES = 300


@dataclass(frozen=True)
class CalibrationSettings:
    """What counts as what.

    Attributes:
        iou_bound: a mask below this IoU has failed; in (0, 1).
        fall: a mask whose IoU drops by this much within ``fall_frames`` falls; in (0, 1).
        fall_frames: at least 1.
        horizon_frames: an alarm is right when what it warns of comes within so many frames; 0 means on its own frame.
        least_events: fewer failures, or falls, than this choose no threshold.
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
class Evidence:
    """How one kind of alarm would have done.

    Attributes:
        levels: of every frame that could raise an alarm, (N,): it does when its level reaches the threshold.
        right: whether an alarm there would be right, (N,) bool.
        peaks: by event the highest level that could have warned of it, (E,); -inf where there was none.
    """

    levels: NDArray[np.float64]
    right: NDArray[np.bool_]
    peaks: NDArray[np.float64]

    @staticmethod
    def joined(parts: Sequence[Evidence]) -> Evidence:
        """The evidence of several objects together."""
        none = Evidence(np.empty(0), np.empty(0, np.bool_), np.empty(0))
        every = (none, *parts)
        return Evidence(*(np.concatenate([getattr(e, n) for e in every]) for n in ("levels", "right", "peaks")))

    @property
    def chance(self) -> float:
        """The share of frames on which an alarm would be right: what a blind one would reach."""
        return float(self.right.mean()) if len(self.right) else 0.0

    def judged(self, threshold: float) -> Judged:
        """How an alarm at this threshold would have done."""
        alarms = self.levels >= threshold
        n_alarms, n_right = int(alarms.sum()), int((alarms & self.right).sum())
        n_found = int((self.peaks >= threshold).sum())
        return Judged(threshold, n_alarms, n_right, n_found, len(self.peaks), len(self.levels), self.chance)

    def candidates(self) -> list[float]:
        """Thresholds above 0 to choose from, ascending, closer together among the higher ones."""
        steps = np.unique(np.floor(self.levels[self.levels > 0] / STEP + ROUNDING))[::-1]
        steps = steps[steps > 0]
        if len(steps) > MAX_CANDIDATES:
            steps = steps[np.unique(np.geomspace(1, len(steps), MAX_CANDIDATES).astype(int)) - 1]
        return [round(float(step * STEP), 4) for step in steps[::-1]]


@dataclass(frozen=True)
class Judged:
    """One threshold: how many alarms, how many of them right, how many events were found of how many.

    ``chance`` is the share of right ones among blind alarms.
    """

    threshold: float
    n_alarms: int
    n_right: int
    n_found: int
    n_events: int
    n_frames: int
    chance: float

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
        """Precision counted from chance: 0 where alarms are no better than blind ones, 1 where all are right."""
        return max(0.0, (self.precision - self.chance) / (1 - self.chance)) if self.chance < 1 else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of gain and recall. Precision itself would favour an alarm all the time on bad clips."""
        total = self.gain + self.recall
        return 2 * self.gain * self.recall / total if total else 0.0

    @property
    def per_100_frames(self) -> float:
        """Alarms for every hundred frames of an object."""
        return 100 * self.n_alarms / self.n_frames if self.n_frames else 0.0


@dataclass(frozen=True)
class Choice:
    """A threshold, or why there is none; ``judged`` is on the evidence that chose it."""

    judged: Judged | None
    reason: str = ""

    @property
    def value(self) -> float | None:
        """The threshold."""
        return None if self.judged is None else self.judged.threshold


def failures(score: ObjectScore, settings: CalibrationSettings) -> NDArray[np.bool_]:
    """Frames (T,) that show the object while its mask's IoU is below the bound."""
    return score.present & (score.iou < settings.iou_bound)


def falls(score: ObjectScore, settings: CalibrationSettings) -> NDArray[np.bool_]:
    """Frames (T,) whose IoU lies below that of one of the last frames by the given fall; both show the object."""
    iou = np.where(score.present, score.iou, np.nan)
    dropped = np.zeros(len(iou), np.bool_)
    for back in range(1, settings.fall_frames + 1):
        dropped[back:] |= iou[:-back] - iou[back:] >= settings.fall
    return dropped


def change(score: ObjectScore) -> NDArray[np.float64]:
    """dS: by how much the uncertainty rose against the frame before, (T,); nan where either is unknown."""
    return np.diff(score.uncertainty, prepend=np.nan)


def warnings(levels: NDArray[np.float64], wrong: NDArray[np.bool_], horizon_frames: int) -> Evidence:
    """What alarms say of stretches of wrong frames of one object.

    An alarm is right when a wrong frame comes within the horizon, its own frame included. An event is the first frame
    of a stretch; it is found when there is an alarm on it or within the horizon before it. A stretch that is there from
    the object's first frame on is no event, as nothing could have warned of it.
    """
    right = wrong.copy()
    for ahead in range(1, horizon_frames + 1):
        right[:-ahead] |= wrong[ahead:]
    known = ~np.isnan(levels)
    onsets = np.flatnonzero(wrong[1:] & ~wrong[:-1]) + 1
    before = [levels[max(0, t - horizon_frames) : t + 1] for t in onsets]
    peaks = [float(np.nanmax(each)) if not np.isnan(each).all() else -np.inf for each in before]
    return Evidence(levels[known], right[known], np.array(peaks, np.float64))


def of_calls(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> Evidence:
    """tau_u: dS against failures."""
    return Evidence.joined([warnings(change(s), failures(s, settings), settings.horizon_frames) for s in scores])


def of_falls(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> Evidence:
    """tau_p: dS against falls."""
    return Evidence.joined([warnings(change(s), falls(s, settings), settings.horizon_frames) for s in scores])


def of_memory(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> Evidence:
    """tau_m: S of each frame against its own failure; every failed frame is an event."""
    parts = []
    for score in scores:
        known = ~np.isnan(score.uncertainty) & score.present
        levels, wrong = score.uncertainty[known], failures(score, settings)[known]
        parts.append(Evidence(levels, wrong, levels[wrong]))
    return Evidence.joined(parts)


def best_by_f1(evidence: Evidence, settings: CalibrationSettings, below: float | None = None) -> Choice:
    """The threshold with the highest F1, of equals the highest one; none where there is too little to go by.

    It lies in the middle between the lowest level that raises an alarm and the highest that does not.

    Args:
        evidence: of one kind of alarm.
        settings: how many events are needed.
        below: the threshold must be smaller than this.
    """
    if len(evidence.peaks) < settings.least_events:
        return Choice(None, f"{len(evidence.peaks)} events in the clips, at least {settings.least_events} are needed")
    usable = [c for c in evidence.candidates() if below is None or c < below]
    if not usable:
        return Choice(None, "no frame has a level above 0" if below is None else f"no level lies below {below:g}")
    chosen = max(usable, key=lambda candidate: (evidence.judged(candidate).f1, candidate))
    silent = max((c for c in usable if c < chosen), default=0.0)
    best = evidence.judged(round((chosen + silent) / 2 + ROUNDING, 4))
    if best.f1 == 0:
        return Choice(None, f"no alarm is right more often than one at random would be ({evidence.chance:.0%})")
    return Choice(best)


def by_rate(evidence: Evidence, per_100_frames: float) -> Choice:
    """The smallest threshold that calls at most so often; it needs no failures, and says nothing about them."""
    judged = [evidence.judged(candidate) for candidate in evidence.candidates()]
    fitting = [each for each in judged if each.per_100_frames <= per_100_frames]
    if not fitting:
        return Choice(None, f"{len(evidence.levels)} frames are too few for {per_100_frames:g} calls in 100")
    return Choice(min(fitting, key=lambda each: each.threshold))


def thresholds(scores: Sequence[ObjectScore], settings: CalibrationSettings) -> dict[str, Choice]:
    """tau_u, tau_p and tau_m by name, each chosen from what it is for; see `of_calls`, `of_falls` and `of_memory`.

    tau_p lies below tau_u, or where none was found below the one that the method has by itself.
    """
    from pipeline.methods.lazy_video import LazySettings

    calls, rate = of_calls(scores, settings), settings.calls_per_100_frames
    tau_u = best_by_f1(calls, settings) if rate is None else by_rate(calls, rate)
    below = LazySettings().tau_u if tau_u.value is None else tau_u.value
    tau_p = best_by_f1(of_falls(scores, settings), settings, below=below)
    return {"tau_u": tau_u, "tau_p": tau_p, "tau_m": best_by_f1(of_memory(scores, settings), settings)}


def option_words(found: Mapping[str, Choice]) -> list[str]:
    """The thresholds as options of the method; those that were not found stay as they are.

    With a tau_u alone tau_p becomes the same, as it may not be larger: the method then never corrects itself.
    """
    values = {name: choice.value for name, choice in found.items() if choice.value is not None}
    if "tau_u" in values:
        values.setdefault("tau_p", values["tau_u"])
    return [f"{name}={values[name]:g}" for name in found if name in values]
