"""The tables of `ivos bench --protocol zivos` on screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table


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
