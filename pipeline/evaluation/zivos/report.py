"""What `ivos bench --protocol zivos` says: the JSON (docs/bench.md lists every key), and the tables on screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.evaluation.results import machine, peak_rss_mib, versions
from pipeline.evaluation.timing import PARTS
from pipeline.evaluation.zivos.metrics import (
    ROBUSTNESS_AT,
    average_correction_intervals,
    interaction_density_s,
    number_of_corrections,
    robustness,
    uncertainty_correlation,
)
from pipeline.evaluation.zivos.single_pass import ObjectScore, PassScore

SCHEMA_VERSION = 1
PROTOCOL = "zivos"
DIGITS = 4
"""Of the values kept frame by frame."""


def figures(scores: Sequence[PassScore], frames_per_s: float) -> dict[str, Any]:
    """All figures over some passes of one kind, of one clip or of many; None where nothing was measured."""
    objects = [each for score in scores for each in score.objects]
    workloads = [each.workload for each in objects]
    intervals = average_correction_intervals(workloads)
    by_uncertainty = [value for each in objects if (value := correlation_of_uncertainty(each)) is not None]
    by_confidence = [value for each in objects if (value := correlation_of_confidence(each)) is not None]
    n_frames = sum(score.n_frames for score in scores)
    j, f = (_mean_over_objects([getattr(o, name)[o.scored] for o in objects]) for name in ("iou", "f"))
    return {
        "j": j,
        "f": f,
        "jf": None if j is None or f is None else (j + f) / 2,
        "robustness": {f"{at:g}": robustness([o.iou[o.scored] for o in objects], at) for at in ROBUSTNESS_AT},
        "noc": number_of_corrections(workloads),
        "answered": sum(len(each.answered) for each in objects),
        "idi_s": interaction_density_s(workloads, frames_per_s),
        "aci": float(intervals.mean()) if len(intervals) else None,
        "aci_sum": float(intervals.sum()),
        "spearman_median": float(np.median(by_uncertainty)) if by_uncertainty else None,
        "spearman_quartiles": [float(q) for q in np.quantile(by_uncertainty, (0.25, 0.75))] if by_uncertainty else None,
        "spearman_objects": len(by_uncertainty),
        "spearman_of_score_median": float(np.median(by_confidence)) if by_confidence else None,
        "seconds_per_frame": sum(score.seconds for score in scores) / n_frames if n_frames else None,
        "seconds_per_frame_by_part": {
            part: sum(score.part_seconds[part] for score in scores) / n_frames if n_frames else None for part in PARTS
        },
    }


def correlation_of_uncertainty(score: ObjectScore) -> float | None:
    """Spearman's correlation of uncertainty and IoU before corrections, over the scored frames that show the object."""
    counted = score.scored & score.present
    return uncertainty_correlation(score.uncertainty[counted], score.found_iou[counted])


def correlation_of_confidence(score: ObjectScore) -> float | None:
    """As `correlation_of_uncertainty`, of the confidence of each mask (see `pipeline.session.propagation`)."""
    counted = score.scored & score.present
    return uncertainty_correlation(score.one_minus_confidence[counted], score.found_iou[counted])


def pass_entry(score: PassScore, frames_per_s: float, object_ids: Mapping[int, int]) -> dict[str, Any]:
    """One pass over one clip.

    Args:
        score: of the pass.
        frames_per_s: frame rate of the clip.
        object_ids: by id in the pass the id in the clip's own masks.
    """
    return figures([score], frames_per_s) | {
        "unreadable": score.n_unreadable,
        "objects": [_object_entry(each, object_ids[each.object_id]) for each in score.objects],
    }


def clip_entry(
    passes: Mapping[str, PassScore], frames_per_s: float, object_ids: Mapping[int, int], size_hw_px: tuple[int, int]
) -> dict[str, Any]:
    """One clip's entry of ``sequences``, with its passes by kind; at least one."""
    any_pass = next(iter(passes.values()))
    return {
        "name": any_pass.name,
        "frames": any_pass.n_frames,
        "height_px": size_hw_px[0],
        "width_px": size_hw_px[1],
        "passes": {kind: pass_entry(score, frames_per_s, object_ids) for kind, score in passes.items()},
    }


def zivos_report(
    passes: Sequence[Mapping[str, PassScore]],
    entries: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    settings: Mapping[str, Any],
    *,
    device: str,
    complete: bool,
) -> dict[str, Any]:
    """The whole document.

    Args:
        passes: of each finished clip, by kind.
        entries: of the same clips, from `clip_entry`.
        kinds: of passes, in the order of the run.
        settings: of the run; some of them are also keys at the top.
        device: the torch device in use.
        complete: whether all clips are in it.
    """
    rate = settings["frames_per_s"]
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": PROTOCOL,
        "complete": complete,
        **{key: settings[key] for key in ("method", "segmenter", "seed")},
        "settings": dict(settings),
        "frames": sum(entry["frames"] for entry in entries),
        "objects": sum(len(next(iter(of_clip.values())).objects) for of_clip in passes),
        "passes": {kind: figures([of_clip[kind] for of_clip in passes], rate) for kind in kinds},
        "peak_rss_mib": peak_rss_mib(),
        "machine": machine(device),
        "versions": versions(),
        "sequences": [dict(entry) for entry in entries],
    }


def _object_entry(score: ObjectScore, object_id: int) -> dict[str, Any]:
    scored = score.iou[score.scored]
    j, f = _mean_over_objects([scored]), _mean_over_objects([score.f[score.scored]])
    return {
        "object_id": object_id,
        "first_frame": score.first_frame,
        "frames_present": int(np.count_nonzero(score.present)),
        "j": j,
        "f": f,
        "jf": None if j is None or f is None else (j + f) / 2,
        "robustness": {f"{at:g}": robustness([scored], at) for at in ROBUSTNESS_AT},
        "calls": list(score.calls),
        "answered": list(score.answered),
        "spearman": correlation_of_uncertainty(score),
        "spearman_of_score": correlation_of_confidence(score),
        "iou": _rounded(score.iou),
        "found_iou": _rounded(score.found_iou),
        "uncertainty": _rounded(score.uncertainty),
    }


def _mean_over_objects(by_object: Sequence[NDArray[np.float64]]) -> float | None:
    means = [float(values.mean()) for values in by_object if len(values)]
    return float(np.mean(means)) if means else None


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), DIGITS) for v in values]


def show_zivos(document: Mapping[str, Any], console: Console) -> None:
    """Show a report of `zivos_report`: a row per clip and pass, then all figures side by side."""
    if document["sequences"]:
        name = f"{document['method']}, {document['segmenter']}, {document['machine']['device_name']}"
        console.print(_clips_table(document, escape(name)))
        console.print(_figures_table(document))


def _clips_table(document: Mapping[str, Any], name: str) -> Table:
    table = Table(title=name, title_justify="left", box=SIMPLE, padding=0)
    for column in ("clip", "corrections"):
        table.add_column(column, no_wrap=True)
    for column in ("J&F", *(f"R@{at}" for at in _bounds(document)), "NoC", "IDI s", "doubt"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in document["sequences"]:
        for kind, figures in entry["passes"].items():
            table.add_row(escape(entry["name"]), kind, *_cells(figures))
        table.add_section()
    for kind, figures in document["passes"].items():
        table.add_row("all objects", kind, *_cells(figures))
    return table


def _cells(figures: Mapping[str, Any]) -> list[str]:
    shares = [figures["jf"], *figures["robustness"].values()]
    return [
        *map(_share, shares),
        str(figures["noc"]),
        _number(figures["idi_s"], 2),
        _share(figures["spearman_median"]),
    ]


def _figures_table(document: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE, padding=0)
    table.add_column("figure")
    passes = document["passes"]
    for kind in passes:
        table.add_column(kind, justify="right", min_width=9)
    rows: list[tuple[str, list[str]]] = [
        (title, [_share(figures[key]) for figures in passes.values()])
        for title, key in (("J", "j"), ("F", "f"), ("J&F", "jf"))
    ]
    for at in _bounds(document):
        rows.append((f"R@{at}", [_share(figures["robustness"][at]) for figures in passes.values()]))
    rows.append(("NoC", [str(figures["noc"]) for figures in passes.values()]))
    rows.append(("of these answered", [str(figures["answered"]) for figures in passes.values()]))
    for title, key, digits in (
        ("IDI, seconds", "idi_s", 2),
        ("ACI, mean of objects", "aci", 2),
        ("Spearman, median of objects", "spearman_median", 3),
        ("Spearman of the score", "spearman_of_score_median", 3),
        ("seconds per frame", "seconds_per_frame", 3),
    ):
        rows.append((title, [_number(figures[key], digits) for figures in passes.values()]))
    for title, cells in rows:
        table.add_row(title, *cells)
    return table


def _bounds(document: Mapping[str, Any]) -> list[str]:
    return list(next(iter(document["passes"].values()))["robustness"])


def _share(value: float | None) -> str:
    return _number(value, 3)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
