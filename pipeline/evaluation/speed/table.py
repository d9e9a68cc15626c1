"""The tables of `ivos bench speed` on screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

TITLES = {
    "round1_vs_encoder": "round 1, one object, per frame / image encoder",
    "ten_objects_vs_one": "round 1, {objects} objects / one",
    "later_round_vs_round1": "later round / round 1, per frame",
    "first_mask_vs_decoder": "first mask, embedding cached / decoder call",
    "encoder_busy": "share of round 1 with the encoder at work",
}


def show_speed(document: Mapping[str, Any], console: Console) -> None:
    """Show a report (see `pipeline.evaluation.speed.report`): quotients, rows side by side, memory, what failed."""
    clip, machine = document["clip"], document["machine"]
    console.print(
        f"{document['method']}, {document['segmenter']} ({document['weights']} weights), {clip['frames']} frames of "
        f"{clip['width_px']}x{clip['height_px']} ({clip['name']}), {machine['device_name']}, "
        f"{machine['torch_threads']} torch threads",
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
