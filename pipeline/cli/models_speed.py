"""`ivos models speed`: how long each model takes per frame here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.cli.errors import failed


def speed(
    names: Annotated[list[str] | None, typer.Argument(help="Segmenters and trackers; all where none is named.")] = None,
    frames: Annotated[int, typer.Option(min=3, help="Frames of the rendered 854x480 clip.")] = 16,
    budget_s: Annotated[float, typer.Option(min=0, help="A segmenter takes fewer frames when they need longer.")] = 30,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the networks; 0: as the backend.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the figures into this file.")] = None,
) -> None:
    """Time segmenters and trackers on this machine; random weights stand in for those that are not here."""
    import torch

    from pipeline.evaluation.results import machine, write_json
    from pipeline.evaluation.speed.models import TASK_BY_NAME, ModelSpeed, SampleFrames, time_model
    from pipeline.methods import limit_torch_threads, resolve_device
    from pipeline.settings import ModelSettings

    unknown = sorted(set(names or ()) - set(TASK_BY_NAME))
    try:
        if unknown:
            raise ValueError(f"unknown model {', '.join(unknown)}; known are {', '.join(TASK_BY_NAME)}")
        used = resolve_device(device)
        store = ModelSettings().model_store
    except ValueError as error:
        raise failed(error) from error
    if threads:
        torch.set_num_threads(threads)
    else:
        limit_torch_threads()
    clip = SampleFrames.render(frames)
    rows: list[ModelSpeed] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    conditions: dict[str, Any] = {"machine": machine(used), "threads": torch.get_num_threads()}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name in names or TASK_BY_NAME:
            bar = progress.add_task(name, total=None)
            rows.append(time_model(name, clip, store, device=used, budget_s=budget_s))
            progress.remove_task(bar)
            if json is not None:  # After each, so that stopping a long run loses nothing.
                write_json(conditions | {"models": [row.document() for row in rows]}, json)
    Console().print(_table(rows))


def _table(rows: list[Any]) -> Table:
    table = Table("model", "task", "weights", "s per frame", "", box=None)
    for row in rows:
        shown = "" if row.seconds_per_frame is None else f"{row.seconds_per_frame:.3f}"
        table.add_row(row.name, row.task, row.weights, shown, row.problem)
    return table
