"""What `ivos calibrate` says: the JSON with the thresholds and their quality, also on other clips, and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipeline.evaluation.results import machine, versions
from pipeline.evaluation.zivos.calibration import (
    AlarmQuality,
    AlarmSamples,
    CalibrationSettings,
    ThresholdChoice,
    alarms_of_failed_frames,
    alarms_of_failures,
    alarms_of_falls,
    failures,
    threshold_options,
    thresholds,
    uncertainty_rise,
)
from pipeline.evaluation.zivos.key_statistics import key_lines
from pipeline.evaluation.zivos.report import correlation_of_uncertainty
from pipeline.evaluation.zivos.single_pass import ObjectScore, PassScore

SCHEMA_VERSION = 1
QUALITY_KEYS = ("threshold", "precision", "recall", "f1", "per_100_frames", "alarms", "events")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
SAMPLES: Mapping[str, Callable[[Sequence[ObjectScore], CalibrationSettings], AlarmSamples]] = {
    "tau_u": alarms_of_failures,
    "tau_p": alarms_of_falls,
    "tau_m": alarms_of_failed_frames,
}


def calibration_report(
    passes: Sequence[PassScore],
    calibration: CalibrationSettings,
    settings: Mapping[str, Any],
    *,
    device: str,
    complete: bool,
    keys: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole document.

    Args:
        passes: over all clips, without corrections.
        calibration: what counts as what.
        settings: of the run; ``method`` and ``segmenter`` are also keys at the top.
        device: the torch device in use.
        complete: whether all clips are in it.
        keys: of `KeyStatistics`, if they were measured.
    """
    scores = [each for one in passes for each in one.objects]
    found = thresholds(scores, calibration)
    correlations = [value for each in scores if (value := correlation_of_uncertainty(each)) is not None]
    samples = {name: of(scores, calibration) for name, of in SAMPLES.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        **{key: settings[key] for key in ("method", "segmenter")},
        "settings": {**settings, **asdict(calibration)},
        "options": threshold_options(found),
        "thresholds": {name: _choice(found[name], samples[name]) for name in SAMPLES},
        "left_out": cross_validated(passes, calibration),
        "spearman_median": float(np.median(correlations)) if correlations else None,
        "counts": {
            "clips": len(passes),
            "objects": len(scores),
            "frames": sum(len(each.iou) for each in scores),
            "failures": len(samples["tau_u"].peaks),
            "falls": len(samples["tau_p"].peaks),
            "failed_frames": int(sum(failures(each, calibration).sum() for each in scores)),
        },
        "quantiles": {
            "at": list(QUANTILES),
            "uncertainty": _quantiles([each.uncertainty for each in scores]),
            "change": _quantiles([uncertainty_rise(each) for each in scores]),
            "iou": _quantiles([each.iou[each.present] for each in scores]),
        },
        "curves": {name: [_quality(each.quality_at(c)) for c in each.candidates()] for name, each in samples.items()},
        "memory_keys": keys,
        "sequences": [_clip(one, calibration) for one in passes],
        "machine": machine(device),
        "versions": versions(),
    }


def cross_validated(passes: Sequence[PassScore], calibration: CalibrationSettings) -> dict[str, list[dict[str, Any]]]:
    """By name of the threshold, twice: chosen on one half of the clips and judged on the other.

    ``best_f1`` is that of the threshold that the other half itself chooses. ``threshold`` is None where the first half
    has too few events to choose by; ``f1`` is None where the other half has no event.
    """
    halves = _halves(passes, calibration)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SAMPLES}
    for chosen_on, judged_on in (halves, halves[::-1]):
        learnt = [each for one in chosen_on for each in one.objects]
        others = [each for one in judged_on for each in one.objects]
        chosen, own_choice = thresholds(learnt, calibration), thresholds(others, calibration)
        for name, of in SAMPLES.items():
            value, samples, best = chosen[name].value, of(others, calibration), own_choice[name].quality
            found[name].append(
                {
                    "chosen_on": [one.name for one in chosen_on],
                    "judged_on": [one.name for one in judged_on],
                    **_quality(None if value is None else samples.quality_at(value)),
                    "chance": samples.base_rate,
                    "best_f1": None if best is None else best.f1,
                    "reason": chosen[name].reason,
                }
            )
    return found


def _halves(passes: Sequence[PassScore], calibration: CalibrationSettings) -> list[list[PassScore]]:
    """Two halves of the clips, both with failures and falls where possible: dealt out in turn, worst clips first."""

    def n_events(one: PassScore) -> tuple[int, int]:
        return len(alarms_of_failures(one.objects, calibration).peaks), len(
            alarms_of_falls(one.objects, calibration).peaks
        )

    ordered = sorted(passes, key=n_events, reverse=True)
    return [
        [one for rank, one in enumerate(ordered) if rank % 4 in (0, 3)],
        [one for rank, one in enumerate(ordered) if rank % 4 in (1, 2)],
    ]


def _choice(choice: ThresholdChoice, samples: AlarmSamples) -> dict[str, Any]:
    return {
        **_quality(choice.quality),
        "events": len(samples.peaks),
        "chance": samples.base_rate,
        "reason": choice.reason,
    }


def _quality(quality: AlarmQuality | None) -> dict[str, Any]:
    if quality is None:
        return dict.fromkeys(QUALITY_KEYS)
    return {
        "threshold": quality.threshold,
        "precision": quality.precision,
        "recall": quality.recall if quality.n_events else None,
        "f1": quality.f1 if quality.n_events else None,
        "per_100_frames": quality.per_100_frames,
        "alarms": quality.n_alarms,
        "events": quality.n_events,
    }


def _clip(one: PassScore, calibration: CalibrationSettings) -> dict[str, Any]:
    means = [each.iou[each.scored].mean() for each in one.objects if each.scored.any()]
    return {
        "name": one.name,
        "frames": one.n_frames,
        "objects": len(one.objects),
        "failures": len(alarms_of_failures(one.objects, calibration).peaks),
        "falls": len(alarms_of_falls(one.objects, calibration).peaks),
        "j": float(np.mean(means)) if means else None,
    }


def _quantiles(parts: Sequence[NDArray[np.float64]]) -> list[float] | None:
    values = np.concatenate([np.empty(0), *parts])
    values = values[~np.isnan(values)]
    return [float(q) for q in np.quantile(values, QUANTILES)] if len(values) else None


def show_calibration(document: Mapping[str, Any], screen: Console) -> None:
    """Show a document of `calibration_report`: the thresholds, how good they are, and the options that set them."""
    counts = document["counts"]
    table = Table(
        title=f"{document['segmenter']}: {counts['objects']} objects, {counts['frames']} frames, "
        f"{counts['failures']} failures, {counts['falls']} falls",
        title_justify="left",
        box=SIMPLE,
        padding=0,
    )
    for column in ("threshold", "value", "precision", "recall", "F1", "chance", "a 100 frames", "F1 left out"):
        table.add_column(column, justify="left" if column == "threshold" else "right", no_wrap=True)
    for name, found in document["thresholds"].items():
        figures = [found[key] for key in ("threshold", "precision", "recall", "f1", "chance", "per_100_frames")]
        other_half_f1 = [half["f1"] for half in document["left_out"][name] if half["f1"] is not None]
        mean_f1 = sum(other_half_f1) / len(other_half_f1) if other_half_f1 else None
        cells = [_number(figures[0], 4), *(_number(figure, 2) for figure in (*figures[1:], mean_f1))]
        table.add_row(name, *cells)
    screen.print(table)
    for name, found in document["thresholds"].items():
        if found["reason"]:
            screen.print(f"no {name}: {found['reason']}", highlight=False)
    if document["options"]:
        screen.print(" ".join(f"--option {word}" for word in document["options"]), highlight=False, soft_wrap=True)
    for line in key_lines(document["memory_keys"]) if document["memory_keys"] else ():
        screen.print(line, highlight=False)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
