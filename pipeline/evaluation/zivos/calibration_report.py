"""The JSON of `ivos calibrate`: thresholds, how they were chosen, and how they do on clips that did not choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.results import machine, versions
from pipeline.evaluation.zivos.calibration import (
    CalibrationSettings,
    Choice,
    Evidence,
    Judged,
    change,
    failures,
    of_calls,
    of_falls,
    of_memory,
    option_words,
    thresholds,
)
from pipeline.evaluation.zivos.report import doubts_worth
from pipeline.evaluation.zivos.single_pass import ObjectScore, PassScore

SCHEMA_VERSION = 1
JUDGED = ("threshold", "precision", "recall", "f1", "per_100_frames", "alarms", "events")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
EVIDENCE: Mapping[str, Callable[[Sequence[ObjectScore], CalibrationSettings], Evidence]] = {
    "tau_u": of_calls,
    "tau_p": of_falls,
    "tau_m": of_memory,
}


def calibration_report(
    passes: Sequence[PassScore],
    calibration: CalibrationSettings,
    settings: Mapping[str, Any],
    *,
    device: str,
    complete: bool,
) -> dict[str, Any]:
    """The whole document.

    Args:
        passes: over all clips, without corrections.
        calibration: what counts as what.
        settings: of the run; ``method`` and ``segmenter`` also stand at the top.
        device: the torch device in use.
        complete: whether all clips asked for are in it.
    """
    scores = [each for one in passes for each in one.objects]
    found = thresholds(scores, calibration)
    doubts = [worth for each in scores if (worth := doubts_worth(each)) is not None]
    evidence = {name: of(scores, calibration) for name, of in EVIDENCE.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        **{key: settings[key] for key in ("method", "segmenter")},
        "settings": {**settings, **asdict(calibration)},
        "options": option_words(found),
        "thresholds": {name: _choice(found[name], evidence[name]) for name in EVIDENCE},
        "left_out": left_out(passes, calibration),
        "spearman_median": float(np.median(doubts)) if doubts else None,
        "counts": {
            "clips": len(passes),
            "objects": len(scores),
            "frames": sum(len(each.iou) for each in scores),
            "failures": len(evidence["tau_u"].peaks),
            "falls": len(evidence["tau_p"].peaks),
            "failed_frames": int(sum(failures(each, calibration).sum() for each in scores)),
        },
        "quantiles": {
            "at": list(QUANTILES),
            "uncertainty": _quantiles([each.uncertainty for each in scores]),
            "change": _quantiles([change(each) for each in scores]),
            "iou": _quantiles([each.iou[each.present] for each in scores]),
        },
        "curves": {name: [_judged(each.judged(c)) for c in each.candidates()] for name, each in evidence.items()},
        "sequences": [_clip(one, calibration) for one in passes],
        "machine": machine(device),
        "versions": versions(),
    }


def left_out(passes: Sequence[PassScore], calibration: CalibrationSettings) -> dict[str, list[dict[str, Any]]]:
    """By threshold, twice: chosen on one half of the clips and judged on the other.

    ``best_f1`` is what the other half would have chosen for itself. ``threshold`` is None where a half has too little
    to choose by, ``f1`` where the other has nothing to find.
    """
    halves = _halves(passes, calibration)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in EVIDENCE}
    for chosen_on, judged_on in (halves, halves[::-1]):
        learnt = [each for one in chosen_on for each in one.objects]
        others = [each for one in judged_on for each in one.objects]
        chosen, own = thresholds(learnt, calibration), thresholds(others, calibration)
        for name, of in EVIDENCE.items():
            value, evidence, best = chosen[name].value, of(others, calibration), own[name].judged
            found[name].append(
                {
                    "chosen_on": [one.name for one in chosen_on],
                    "judged_on": [one.name for one in judged_on],
                    **_judged(None if value is None else evidence.judged(value)),
                    "chance": evidence.chance,
                    "best_f1": None if best is None else best.f1,
                    "reason": chosen[name].reason,
                }
            )
    return found


def _halves(passes: Sequence[PassScore], calibration: CalibrationSettings) -> list[list[PassScore]]:
    """Two halves of the clips with failures and falls in both, as far as that goes: dealt out, the worst ones first."""

    def badness(one: PassScore) -> tuple[int, int]:
        return len(of_calls(one.objects, calibration).peaks), len(of_falls(one.objects, calibration).peaks)

    ordered = sorted(passes, key=badness, reverse=True)
    return [
        [one for rank, one in enumerate(ordered) if rank % 4 in (0, 3)],
        [one for rank, one in enumerate(ordered) if rank % 4 in (1, 2)],
    ]


def _choice(choice: Choice, evidence: Evidence) -> dict[str, Any]:
    return {
        **_judged(choice.judged),
        "events": len(evidence.peaks),
        "chance": evidence.chance,
        "reason": choice.reason,
    }


def _judged(judged: Judged | None) -> dict[str, Any]:
    if judged is None:
        return dict.fromkeys(JUDGED)
    return {
        "threshold": judged.threshold,
        "precision": judged.precision,
        "recall": judged.recall if judged.n_events else None,
        "f1": judged.f1 if judged.n_events else None,
        "per_100_frames": judged.per_100_frames,
        "alarms": judged.n_alarms,
        "events": judged.n_events,
    }


def _clip(one: PassScore, calibration: CalibrationSettings) -> dict[str, Any]:
    means = [each.iou[each.scored].mean() for each in one.objects if each.scored.any()]
    return {
        "name": one.name,
        "frames": one.n_frames,
        "objects": len(one.objects),
        "failures": len(of_calls(one.objects, calibration).peaks),
        "falls": len(of_falls(one.objects, calibration).peaks),
        "j": float(np.mean(means)) if means else None,
    }


def _quantiles(parts: Sequence[NDArray[np.float64]]) -> list[float] | None:
    values = np.concatenate([np.empty(0), *parts])
    values = values[~np.isnan(values)]
    return [float(q) for q in np.quantile(values, QUANTILES)] if len(values) else None
