"""The tables of `ivos bench` on screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SINGLE_FRAME_KINDS = {"box": "exact box", "box_clicks": "exact box, 8 + 1 clicks", "click": "one click"}


def show_tables(document: Mapping[str, Any], console: Console) -> None:
    """Show a report (see `pipeline.evaluation.report`): a row per clip, then the figures over all of them."""
    name = escape(f"{document['method']}, {document['segmenter']}, {document['machine']['device_name']}")
    if document["sequences"]:
        console.print(_clips_table(document, name))
        if document["before_aggregation"]:
            console.print(_aggregation_table(document))
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


def _aggregation_table(document: Mapping[str, Any]) -> Table:
    """Objects of clips with several: what settling who owns which pixel changed."""
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
    for column in ("masks", *SINGLE_FRAME_KINDS.values()):
        table.add_column(column, justify="right")
    for entry in single_frames["sequences"]:
        table.add_row(escape(entry["name"]), str(entry["masks"]), *(_share(entry[kind]) for kind in SINGLE_FRAME_KINDS))
    table.add_section()
    means = (_share(single_frames["mean_iou"][kind]) for kind in SINGLE_FRAME_KINDS)
    table.add_row("mean over masks", str(single_frames["masks"]), *means)
    return table


def _table(title: str | None) -> Table:
    """Narrow enough for 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE, padding=0)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
