"""What `ivos bench` says of its rounds: the JSON (docs/bench.md lists every key), the plot, the tables on screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.evaluation.metrics import ClipRounds, mean_over_objects, over_rounds, over_time
from pipeline.evaluation.results import machine, peak_rss_mib, versions
from pipeline.evaluation.runner import ClipScore
from pipeline.evaluation.single_frames import CORRECTIONS, KINDS, SingleFrameScore
from pipeline.evaluation.timing import PARTS

SCHEMA_VERSION = 1
AT_S = 60.0
FIGURES = ("j", "f", "jf")
TITLES_OF_KINDS = {
    "box": "exact box",
    "box_clicks": "box, 8 + 1 clicks",
    "click": "click",
    "click_1": "+1",
    "click_2": "+2",
    "click_3": "+3",
}
"""Columns of the table of single frames; the last ones are corrective clicks after the click."""
CLIP_COLOUR, MEAN_COLOUR = "#b8c4d0", "#0b3d66"


def clip_entry(scores: Sequence[ClipScore]) -> dict[str, Any]:
    """One clip's entry of ``sequences``.

    Args:
        scores: of every start, at least one. With several, figures are means over them and counts are sums, and the
            entry holds that of every start in ``starts``.
    """
    starts = [_start_entry(score) for score in scores]
    if len(starts) == 1:
        return starts[0] | {"starts": None}
    first = starts[0]
    rounds = [_mean_round([entry["rounds"][i] for entry in starts]) for i in range(len(first["rounds"]))]
    frames = zip(*(entry["jf_per_frame"] for entry in starts), strict=True)
    entry: dict[str, Any] = {key: first[key] for key in ("name", "frames", "height_px", "width_px", "objects")}
    entry |= {
        "rounds": rounds,
        "jf_per_frame": [None if None in values else round(float(np.mean(values)), 4) for values in frames],
        "seconds_by_part": {part: sum(entry["seconds_by_part"][part] for entry in starts) for part in PARTS},
        "before_aggregation": None,
        "starts": starts,
    }
    if first["before_aggregation"]:
        entry["before_aggregation"] = _mean_figures([entry["before_aggregation"] for entry in starts])
    return entry | _last(rounds) | _areas([entry]) | _per_frame([entry])


def _mean_round(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same round of several starts as one."""
    return {
        "round": rounds[0]["round"],
        **_mean_figures(rounds),
        "seconds": _mean([r["seconds"] for r in rounds]),
        "frame_index": rounds[0]["frame_index"],
        "frame_indices": [frame_index for r in rounds for frame_index in r["frame_indices"]],
        "prompts": sum(r["prompts"] for r in rounds),
        "frames_segmented": sum(r["frames_segmented"] for r in rounds),
        "correction": _mean_correction([r["correction"] for r in rounds]),
    }


def _mean_correction(each: Sequence[Mapping[str, float | None] | None]) -> dict[str, float | None] | None:
    """The means over the starts that corrected something; None where none did."""
    given = [correction for correction in each if correction is not None]
    if not given:
        return None
    values = {key: [value for c in given if (value := c[key]) is not None] for key in given[0]}
    return {key: float(np.mean(found)) if found else None for key, found in values.items()}


def _mean_figures(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over starts of J, F and J&F, and of those of every object."""
    by_object = zip(*(start["objects"] for start in each), strict=True)
    objects = [
        {"object_id": starts[0]["object_id"]} | {key: _mean([start[key] for start in starts]) for key in FIGURES}
        for starts in by_object
    ]
    return {key: _mean([start[key] for start in each]) for key in FIGURES} | {"objects": objects}


def _start_entry(score: ClipScore) -> dict[str, Any]:
    """One start's entry: what a clip's entry holds, without ``starts``."""
    rounds = [
        {
            "round": r.round,
            **_means(r.j, r.f),
            "seconds": r.seconds,
            "frame_index": r.frame_indices[0],
            "frame_indices": list(r.frame_indices),
            "prompts": r.n_prompts,
            "frames_segmented": r.n_segmented,
            "correction": None if r.correction is None else asdict(r.correction),
            "objects": _by_object(r.j, r.f),
        }
        for r in score.rounds
    ]
    entry: dict[str, Any] = {
        "name": score.name,
        "frames": score.n_frames,
        "height_px": score.size_hw_px[0],
        "width_px": score.size_hw_px[1],
        "objects": len(score.object_ids),
        "rounds": rounds,
        "jf_per_frame": [None if math.isnan(v) else round(float(v), 4) for v in score.jf_per_frame],
        "seconds_by_part": dict(score.part_seconds),
        "before_aggregation": None,
    }
    if score.raw_j:
        raw = {**_means(score.raw_j, score.raw_f), "objects": _by_object(score.raw_j, score.raw_f)}
        entry["before_aggregation"] = raw
    return entry | _last(rounds) | _areas([entry]) | _per_frame([entry])


def report(
    entries: Sequence[Mapping[str, Any]],
    single_frames: Sequence[SingleFrameScore],
    settings: Mapping[str, Any],
    *,
    device: str,
    complete: bool,
) -> dict[str, Any]:
    """The whole JSON document.

    Args:
        entries: finished clips, from `clip_entry`.
        single_frames: finished single frames; empty where none are scored.
        settings: of the run; ``method``, ``segmenter``, ``box_tracker`` and ``seed`` are also keys at the top.
        device: the torch device in use.
        complete: whether all clips are in it.
    """
    rounds = _rounds(entries)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        **{key: settings[key] for key in ("method", "segmenter", "box_tracker", "seed")},
        "settings": dict(settings),
        "frames": sum(entry["frames"] for entry in entries),
        "objects": sum(entry["objects"] for entry in entries),
        "rounds": rounds,
        **_last(rounds),
        **_areas(entries),
        **_per_frame(entries),
        "sequence_mean": {key: _mean([entry[key] for entry in entries]) for key in FIGURES},
        "before_aggregation": _before_aggregation(entries),
        "peak_rss_mib": peak_rss_mib(),
        "machine": machine(device),
        "versions": versions(),
        "single_frames": _single_frames(single_frames) if single_frames else None,
        "sequences": [dict(entry) for entry in entries],
    }
    return document


def _clips(entries: Sequence[Mapping[str, Any]], key: str) -> list[ClipRounds]:
    return [
        ClipRounds(tuple(r[key] for r in e["rounds"]), tuple(r["seconds"] for r in e["rounds"]), e["objects"])
        for clip in entries
        for e in clip.get("starts") or [clip]
    ]


def _rounds(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per round the mean over all objects, and the mean seconds of a clip."""
    n_rounds = len(entries[0]["rounds"]) if entries else 0
    columns = {key: mean_over_objects(_clips(entries, key), n_rounds) if entries else () for key in FIGURES}
    return [
        {"round": i + 1}
        | {key: columns[key][i] for key in FIGURES}
        | {"seconds": _mean([entry["rounds"][i]["seconds"] for entry in entries])}
        for i in range(n_rounds)
    ]


def _areas(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    if not entries:
        return dict.fromkeys(("auc_j", "auc_jf", "r_auc_jf", "j_at_60s", "jf_at_60s"))
    j, jf = over_time(_clips(entries, "j")), over_time(_clips(entries, "jf"))
    return {
        "auc_j": j.area(),
        "auc_jf": jf.area(),
        "r_auc_jf": over_rounds(_clips(entries, "jf")).area(),
        "j_at_60s": j.at(AT_S),
        "jf_at_60s": jf.at(AT_S),
    }


def _per_frame(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    n_segmented = sum(r["frames_segmented"] for entry in entries for r in entry["rounds"])
    by_part = {part: sum(entry["seconds_by_part"][part] for entry in entries) for part in PARTS}
    if not n_segmented:
        return {"seconds_per_frame": None, "seconds_per_frame_by_part": dict.fromkeys(PARTS)}
    return {
        "seconds_per_frame": sum(by_part.values()) / n_segmented,
        "seconds_per_frame_by_part": {part: seconds / n_segmented for part, seconds in by_part.items()},
    }


def _last(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {key: rounds[-1][key] if rounds else None for key in FIGURES}


def _means(j: Mapping[int, float], f: Mapping[int, float]) -> dict[str, float]:
    mean_j, mean_f = float(np.mean(list(j.values()))), float(np.mean(list(f.values())))
    return {"j": mean_j, "f": mean_f, "jf": (mean_j + mean_f) / 2}


def _by_object(j: Mapping[int, float], f: Mapping[int, float]) -> list[dict[str, Any]]:
    return [{"object_id": i, "j": j[i], "f": f[i], "jf": (j[i] + f[i]) / 2} for i in j]


def _before_aggregation(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Means over the objects of clips with several objects, before and after overlaps were resolved."""
    several = [entry for entry in entries if entry["before_aggregation"]]
    if not several:
        return None
    before = [each for entry in several for each in entry["before_aggregation"]["objects"]]
    after = [each for entry in several for each in entry["rounds"][-1]["objects"]]
    return {
        "objects": len(before),
        **{key: _mean([each[key] for each in before]) for key in FIGURES},
        "after": {key: _mean([each[key] for each in after]) for key in FIGURES},
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _single_frames(scores: Sequence[SingleFrameScore]) -> dict[str, Any]:
    clips, kinds = list(dict.fromkeys(score.sequence for score in scores)), (*KINDS, *CORRECTIONS)
    return {
        "frames": sorted({score.frame_index for score in scores}),
        "masks": len(scores),
        "mean_iou": {kind: _mean([score.iou[kind] for score in scores]) for kind in kinds},
        "sequences": [
            {"name": name, "masks": sum(score.sequence == name for score in scores)}
            | {
                kind: _mean([score.iou[kind] for score in scores if score.sequence == name])
                for kind in (*KINDS, *CORRECTIONS)
            }
            for name in clips
        ],
    }


def plot_report(document: Mapping[str, Any], path: Path) -> None:
    """Draw the rounds of a report (see `report.report`) with at least one finished clip into a file.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib writes no files with this ending.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    over_rounds, over_seconds = figure.subplots(1, 2, sharey=True)
    for entry in document["sequences"]:
        _line(over_rounds, over_seconds, entry["rounds"], color=CLIP_COLOUR, linewidth=1)
    label = "mean over objects" if document["objects"] > 1 else "the one object"
    _line(over_rounds, over_seconds, document["rounds"], color=MEAN_COLOUR, linewidth=2.5, marker="o", label=label)
    over_rounds.set(xlabel="round", ylabel="J&F", ylim=(0, 1), xticks=[r["round"] for r in document["rounds"]])
    over_seconds.set(xlabel="accumulated time of a clip (s)", xlim=(0, None))
    for axes in (over_rounds, over_seconds):
        axes.grid(alpha=0.3)
    over_rounds.legend(loc="lower right", frameon=False)
    n_clips = len(document["sequences"])
    clips = "1 clip" if n_clips == 1 else f"{n_clips} clips (grey)"
    figure.suptitle(f"{document['method']}, {document['segmenter']}: {clips}, R-AUC-J&F {document['r_auc_jf']:.3f}")
    figure.savefig(path, dpi=150)


def _line(over_rounds: Any, over_seconds: Any, rounds: list[dict[str, Any]], **style: Any) -> None:
    jf = [r["jf"] for r in rounds]
    over_rounds.plot([r["round"] for r in rounds], jf, **style)
    over_seconds.plot(np.cumsum([r["seconds"] for r in rounds]), jf, **style)


def show_tables(document: Mapping[str, Any], console: Console) -> None:
    """Show a report (see `pipeline.evaluation.report`): a row per clip, then the figures over all of them."""
    name = escape(f"{document['method']}, {document['segmenter']}, {document['machine']['device_name']}")
    if document["sequences"]:
        console.print(_clips_table(document, name))
        if document["before_aggregation"]:
            console.print(_aggregation_table(document))
        if document["sequences"][0]["starts"]:
            console.print(_starts_table(document))
        console.print(_figures_table(document))
    if document["single_frames"]:
        console.print(_single_frames_table(document["single_frames"], name))


def _clips_table(document: Mapping[str, Any], name: str) -> Table:
    n_rounds = len(document["rounds"])
    table = _table(f"{name}, after {n_rounds} rounds" if n_rounds > 1 else name)
    table.add_column("clip", no_wrap=True)
    first = ["round 1"] if n_rounds > 1 else []
    for column in ("frames", "objects", *first, "J&F", "J", "F", "R-AUC", "s/frame"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in document["sequences"]:
        table.add_row(escape(entry["name"]), *_cells(entry, n_rounds))
    table.add_section()
    table.add_row("mean of objects", *_cells(document, n_rounds))
    return table


def _cells(entry: Mapping[str, Any], n_rounds: int) -> list[str]:
    first = [_share(entry["rounds"][0]["jf"])] if n_rounds > 1 else []
    figures = [_share(entry[key]) for key in ("jf", "j", "f", "r_auc_jf")]
    return [str(entry["frames"]), str(entry["objects"]), *first, *figures, _seconds(entry["seconds_per_frame"])]


def _starts_table(document: Mapping[str, Any]) -> Table:
    """Every start of every clip, whose means the other tables show."""
    table = _table("starts")
    table.add_column("clip", no_wrap=True)
    for column in ("first frame", "round 1", "J&F", "R-AUC"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in document["sequences"]:
        for start in entry["starts"]:
            first = start["rounds"][0]
            figures = (first["jf"], start["jf"], start["r_auc_jf"])
            table.add_row(escape(entry["name"]), str(first["frame_index"]), *map(_share, figures))
    return table


def _aggregation_table(document: Mapping[str, Any]) -> Table:
    """Objects of clips with several: J&F before and after overlaps were resolved by soft aggregation."""
    table = _table("soft aggregation")
    for column in ("clip", "object", "J&F before", "J&F after"):
        table.add_column(column, justify="left" if column == "clip" else "right", no_wrap=True)
    for entry in document["sequences"]:
        if entry["before_aggregation"]:
            for before, after in zip(
                entry["before_aggregation"]["objects"], entry["rounds"][-1]["objects"], strict=True
            ):
                name = escape(entry["name"])
                table.add_row(name, str(before["object_id"]), _share(before["jf"]), _share(after["jf"]))
    means = document["before_aggregation"]
    table.add_section()
    table.add_row("mean", str(means["objects"]), _share(means["jf"]), _share(means["after"]["jf"]))
    return table


def _figures_table(document: Mapping[str, Any]) -> Table:
    table = _table(None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for title, key in (
        ("AUC-J", "auc_j"),
        ("AUC-J&F", "auc_jf"),
        ("R-AUC-J&F", "r_auc_jf"),
        ("J@60s", "j_at_60s"),
        ("J&F@60s", "jf_at_60s"),
    ):
        table.add_row(title, _share(document[key]))
    for part, seconds in document["seconds_per_frame_by_part"].items():
        table.add_row(f"s/frame, {part}", _seconds(seconds))
    table.add_row("peak memory", f"{document['peak_rss_mib']:.0f} MiB")
    return table


def _single_frames_table(single_frames: Mapping[str, Any], name: str) -> Table:
    frames = ", ".join(map(str, single_frames["frames"]))
    table = _table(f"{name}: mean IoU of single frames ({frames})")
    table.add_column("clip", no_wrap=True)
    for column in ("masks", *TITLES_OF_KINDS.values()):
        table.add_column(column, justify="right")
    for entry in single_frames["sequences"]:
        table.add_row(escape(entry["name"]), str(entry["masks"]), *(_share(entry[kind]) for kind in TITLES_OF_KINDS))
    table.add_section()
    means = (_share(single_frames["mean_iou"][kind]) for kind in TITLES_OF_KINDS)
    table.add_row("mean over masks", str(single_frames["masks"]), *means)
    return table


def _table(title: str | None) -> Table:
    """Narrow enough for 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE, padding=0)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
