"""What `ivos bench speed` says: the JSON with quotients and raw seconds (docs/bench.md), and the tables on screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import fmean, median
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.evaluation.results import machine, peak_rss_mib, versions
from pipeline.evaluation.speed.measurement import ComparisonRow, RoundTimes, SpeedBench, SpeedMeasurement

SCHEMA_VERSION = 1
DIGITS = 6
HEAVY_ENCODERS = ("sam_vit_b", "sam_vit_l", "sam_vit_h", "sam_hq_vit_b", "sam_hq_vit_l", "sam_hq_vit_h")
"""With these on a CPU, and with any on a GPU, more objects to decode cost little beside the encoder."""


@dataclass(frozen=True)
class SpeedRun:
    """The options of the run, as they stand in the JSON, and the machine's ``load_average`` before it."""

    method: str
    segmenter: str
    weights: str
    clip: str
    repeats: int
    load_average: float


def ratios_of(measured: SpeedMeasurement, n_frames: int) -> dict[str, float | None]:
    """The quotients of one measurement; None where one of the two figures was not measured.

    Args:
        measured: one repeat.
        n_frames: of the clip.
    """
    later = measured.later_rounds
    encoder_s = fmean(measured.encoder_s) if measured.encoder_s else None
    one_s, many_s = _wall(measured.one_object), _wall(measured.many_objects)
    frame_s = None if one_s is None else one_s / n_frames
    later_s = [each.wall_s / each.n_propagated for each in later if each.n_propagated]
    decoder_s = median(measured.decoder_s) if measured.decoder_s else None
    return {
        "round1_vs_encoder": _quotient(frame_s, encoder_s),
        "ten_objects_vs_one": _quotient(many_s, one_s),
        "later_round_vs_round1": _quotient(median(later_s) if later_s else None, frame_s),
        "first_mask_vs_decoder": _quotient(median([r.first_mask_s for r in later]) if later else None, decoder_s),
        "encoder_busy": _quotient(_encoder_busy(measured.one_object), one_s),
        "memory_share": _memory_share(measured),
    }


def targets(segmenter: str, device: str) -> dict[str, dict[str, float]]:
    """By quotient the most, or the least, that it should be."""
    light = device == "cpu" and segmenter not in HEAVY_ENCODERS
    return {
        "round1_vs_encoder": {"at_most": 1.35},
        "ten_objects_vs_one": {"at_most": 2.0 if light else 1.3},
        "later_round_vs_round1": {"at_most": 0.30},
        "first_mask_vs_decoder": {"at_most": 2.0},
        "encoder_busy": {"at_least": 0.85},
        "memory_share": {"at_most": 0.15},
    }


def is_met(ratio: float | None, target: Mapping[str, float]) -> bool | None:
    """Whether a quotient meets its target; None where it was not measured."""
    if ratio is None:
        return None
    return ratio <= target["at_most"] if "at_most" in target else ratio >= target["at_least"]


def speed_report(
    bench: SpeedBench, run: SpeedRun, rows: Sequence[ComparisonRow], problems: Mapping[str, str], *, complete: bool
) -> dict[str, Any]:
    """The whole JSON document.

    Args:
        bench: with what is measured so far.
        run: its options.
        rows: of the comparison so far; those that failed say why.
        problems: what failed, by the name of the part.
        complete: whether everything was measured.
    """
    n_frames = len(bench.clip)
    repeats = [ratios_of(measured, n_frames) for measured in bench.measurements]
    wanted = targets(run.segmenter, bench.device)
    ratios = {name: _rounded(_middle([each[name] for each in repeats])) for name in wanted}
    height_px, width_px = bench.clip.size_hw_px
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        "method": run.method,
        "segmenter": run.segmenter,
        "weights": run.weights,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "clip": {"name": run.clip, "frames": n_frames, "height_px": height_px, "width_px": width_px},
        "objects": bench.n_objects,
        "repeats": run.repeats,
        "ratios": ratios,
        "targets": wanted,
        "met": {name: is_met(ratios[name], wanted[name]) for name in wanted},
        "seconds": _seconds(bench.measurements),
        "counts": _counts(bench.measurements, bench.n_objects),
        "memory_mib": _most([m.memory_mib for m in bench.measurements]) | _peaks(bench.device),
        "disk_mib": {"frames": round(bench.clip.encoded_bytes / 2**20, 2)}
        | _most([m.disk_mib for m in bench.measurements]),
        "side_by_side": [*_own_rows(bench, run), *(row.document() for row in rows)],
        "problems": dict(problems),
        "machine": machine(bench.device) | {"load_average_before": run.load_average},
        "versions": versions(),
    }


def implausible(document: Mapping[str, Any]) -> dict[str, str]:
    """By key of the document what makes its figures misleading, in words."""
    counts, found = document["counts"], {}
    if (counts["embeddings_per_frame"] or 0) > 1:
        found["embeddings"] = f"a frame was embedded {counts['embeddings_per_frame']} times in one session"
    for key in ("round1_frames_one_object", "round1_frames_many_objects"):
        if any(n is not None and n < document["clip"]["frames"] for n in counts[key]):
            found[key] = f"a round has masks of {min(counts[key])} frames, not of all {document['clip']['frames']}"
    n_empty, n_masks = (sum(n or 0 for n in counts[key]) for key in ("empty_masks", "masks"))
    if n_empty > n_masks / 10:
        found["masks"] = f"{n_empty} of {n_masks} masks are empty: objects that are nowhere cost less than others"
    return found


def _seconds(measurements: Sequence[SpeedMeasurement]) -> dict[str, list[Any]]:
    """Raw seconds, one item per repeat."""

    def rounds(value: Callable[[RoundTimes], float]) -> list[list[float]]:
        return [[round(value(each), DIGITS) for each in m.later_rounds] for m in measurements]

    def by_part(name: str) -> list[dict[str, float]]:
        return [{part: round(s, DIGITS) for part, s in m.by_part_s.get(name, {}).items()} for m in measurements]

    return {
        "encoder_per_frame": [[round(s, DIGITS) for s in m.encoder_s] for m in measurements],
        "decoder_call": [[round(s, DIGITS) for s in m.decoder_s] for m in measurements],
        "round1_one_object": [_rounded(_wall(m.one_object)) for m in measurements],
        "round1_one_object_encoder": [_rounded(_encoder_busy(m.one_object)) for m in measurements],
        "round1_one_object_by_part": by_part("one_object"),
        "round1_many_objects": [_rounded(_wall(m.many_objects)) for m in measurements],
        "round1_many_objects_by_part": by_part("many_objects"),
        "later_rounds_by_part": by_part("later_rounds"),
        "later_round": rounds(lambda each: each.wall_s),
        "first_mask": rounds(lambda each: each.first_mask_s),
    }


def _counts(measurements: Sequence[SpeedMeasurement], n_objects: int) -> dict[str, Any]:
    """How much was done in the seconds above, one item per repeat."""
    most = [count for m in measurements for count in m.embeddings_per_frame.values()]
    return {
        "embeddings_one_object": [m.embeddings.get(1) for m in measurements],
        "embeddings_many_objects": [m.embeddings.get(n_objects) for m in measurements],
        "embeddings_per_frame": max(most, default=None),
        "round1_frames_one_object": [m.one_object and m.one_object.n_frames for m in measurements],
        "round1_frames_many_objects": [m.many_objects and m.many_objects.n_frames for m in measurements],
        "later_round_frames": [[each.n_propagated for each in m.later_rounds] for m in measurements],
        "masks": [m.many_objects and m.many_objects.n_masks for m in measurements],
        "empty_masks": [m.many_objects and m.many_objects.n_empty for m in measurements],
    }


def _peaks(device: str) -> dict[str, float]:
    """The peak memory of the process, and of the GPU."""
    peaks = {"peak_rss": round(peak_rss_mib(), 2)}
    if device.startswith("cuda"):
        import torch

        peaks["peak_gpu"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 2)
    return peaks


def _most(amounts_mib: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for mib in amounts_mib for name in mib)
    return {name: round(max(mib.get(name, 0.0) for mib in amounts_mib), 2) for name in names}


def _own_rows(bench: SpeedBench, run: SpeedRun) -> list[dict[str, Any]]:
    """The method itself in the comparison: round 1, and a later round."""
    name, n_frames = f"{run.method}, {run.segmenter}", len(bench.clip)
    later = [r.wall_s / r.n_propagated for m in bench.measurements for r in m.later_rounds if r.n_propagated]
    rows = [
        (f"{name}, round 1", 1, [m.one_object.wall_s / n_frames for m in bench.measurements if m.one_object]),
        (f"{name}, a later round", 1, later),
        (
            f"{name}, round 1",
            bench.n_objects,
            [m.many_objects.wall_s / n_frames for m in bench.measurements if m.many_objects],
        ),
    ]
    return [
        ComparisonRow(title, n_objects, n_frames, _middle(seconds), run.weights).document()
        for title, n_objects, seconds in rows
    ]


def _wall(round_times: RoundTimes | None) -> float | None:
    return round_times.wall_s if round_times else None


def _encoder_busy(round_times: RoundTimes | None) -> float | None:
    return round_times.encoder_busy_s if round_times else None


def _memory_share(measured: SpeedMeasurement) -> float | None:
    """The memory's share of the seconds with one object, in round 1 or in the later rounds: the greater one."""
    rounds = [measured.by_part_s[name] for name in ("one_object", "later_rounds") if name in measured.by_part_s]
    shares = [_quotient(parts["memory"], sum(parts.values())) for parts in rounds]
    return max((share for share in shares if share is not None), default=None)


def _middle(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


TITLES = {
    "round1_vs_encoder": "round 1, one object, per frame / image encoder",
    "ten_objects_vs_one": "round 1, {objects} objects / one",
    "later_round_vs_round1": "later round / round 1, per frame",
    "first_mask_vs_decoder": "first mask, embedding cached / decoder call",
    "encoder_busy": "share of round 1 with the encoder at work",
    "memory_share": "share of the memory in a round's time",
}


def show_speed(document: Mapping[str, Any], console: Console) -> None:
    """Show a report (see `pipeline.evaluation.speed.report`): quotients, rows side by side, memory, what failed."""
    clip, hardware = document["clip"], document["machine"]
    console.print(
        f"{document['method']}, {document['segmenter']} ({document['weights']} weights), {clip['frames']} frames of "
        f"{clip['width_px']}x{clip['height_px']} ({clip['name']}), {hardware['device_name']}, "
        f"{hardware['torch_threads']} torch threads",
        highlight=False,
        markup=False,
    )
    console.print(_ratios_table(document))
    console.print(_side_by_side_table(document))
    console.print(_memory_table(document))
    for part, problem in document["problems"].items():
        console.print(f"{escape(part)}: [bold red]{escape(problem)}[/]", highlight=False)


def _ratios_table(document: Mapping[str, Any]) -> Table:
    table = _table("quotients", "measured", "target", "met")
    for name, ratio in document["ratios"].items():
        ((kind, limit),) = document["targets"][name].items()
        met = document["met"][name]
        table.add_row(
            TITLES[name].format(objects=document["objects"]),
            "-" if ratio is None else f"{ratio:.3f}",
            f"{'<=' if kind == 'at_most' else '>='} {limit:.2f}",
            "-" if met is None else "yes" if met else "no",
        )
    return table


def _side_by_side_table(document: Mapping[str, Any]) -> Table:
    table = _table("side by side", "objects", "frames", "s/frame", "per object", "weights")
    for row in document["side_by_side"]:
        seconds = row["seconds_per_frame"]
        shown = "-" if seconds is None else f"{seconds:.3f}"
        per_object = "-" if seconds is None else f"{seconds / row['objects']:.3f}"
        weights = row["weights"] if not row["problem"] else row["problem"]
        table.add_row(
            escape(row["name"]), str(row["objects"]), str(row["frames_timed"]), shown, per_object, escape(weights)
        )
    return table


def _memory_table(document: Mapping[str, Any]) -> Table:
    table = _table("memory and disk", "MiB")
    for name, mib in document["memory_mib"].items():
        table.add_row(name.replace("_", " "), f"{mib:.1f}")
    for name, mib in document["disk_mib"].items():
        table.add_row(f"disk: {name.replace('_', ' ')}", f"{mib:.1f}")
    return table


def _table(first: str, *others: str) -> Table:
    """Narrow enough for 80 columns."""
    table = Table(box=SIMPLE, padding=0)
    table.add_column(first)
    for column in others:
        table.add_column(column, justify="left" if column == "weights" else "right", no_wrap=column != "weights")
    return table
