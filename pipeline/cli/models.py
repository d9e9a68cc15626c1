"""`ivos models`: which weights exist, which are on this machine, how to download them, and how fast they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from model_zoo.download import DownloadError
from model_zoo.registry import SHA256_DIGITS, UNVERIFIED, Model, find, load_registry
from model_zoo.store import ModelStore, Pulled
from pipeline.cli.console import error_exit, print_error, spinner, transfer_progress
from pipeline.cli.options import DeviceName
from pipeline.cli.stopping import EXIT_INTERRUPTED
from pipeline.settings import ModelSettings

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    add_completion=False,
    help="Weights of segmenters and trackers: list, download, check and time them.",
)


@models.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False) -> None:
    """List every model of the registry, and whether it is on this machine."""
    store = _store()
    known = load_registry().values()
    if as_json:
        typer.echo(json.dumps([_entry(model, store) for model in known], indent=2))
        return
    Console().print(_table(list(known), store))
    typer.echo("* no commercial use")
    typer.echo(f"Folder: {store.folder}" + (f"; mirror: {store.mirror}" if store.mirror else ""))


@models.command()
def pull(names: Annotated[list[str], typer.Argument(help="Names of models, see `ivos models list`.")]) -> None:
    """Download models. An interrupted download continues where it stopped; every file is checked."""
    store = _store()
    with _one_line_errors():
        wanted = [find(name) for name in names]
    error = None
    for model in wanted:
        try:
            _pull(model, store)
        except DownloadError as exception:
            error = error_exit(exception)
    if error is not None:
        raise error


@models.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of models; by default those on this machine.")
    ] = None,
) -> None:
    """Compare size and SHA-256 of the models on this machine with the registry."""
    store = _store()
    with _one_line_errors():
        wanted = [find(name) for name in names or []]
    chosen = wanted or [model for model in load_registry().values() if _anything_here(model, store)]
    if not chosen:
        typer.echo(f"No models in {store.folder}.")
    bad = False
    for model in chosen:
        problems = store.verify(model)
        bad = bad or bool(problems)
        for problem in problems:
            print_error(ValueError(f"{model.name}: {problem}; get it again with: ivos models pull {model.name}"))
        if not problems:
            typer.echo(f"{model.name}: {_as_wanted(model)}")
    if bad:
        raise typer.Exit(1)


@models.command()
def where(name: Annotated[str, typer.Argument(help="A model; by default the folder of all.")] = "") -> None:
    """Print the folder of all models, or of one."""
    store = _store()
    if not name:
        typer.echo(str(store.folder))
        return
    with _one_line_errors():
        model = find(name)
    typer.echo(str(store.folder_of(model)))
    if not store.has(model):
        typer.echo(f"It is not (all) here; get it with: ivos models pull {model.name}", err=True)


@models.command()
def speed(
    names: Annotated[list[str] | None, typer.Argument(help="Segmenters and trackers; by default all.")] = None,
    frames: Annotated[int, typer.Option(min=3, help="Frames of the rendered 854x480 clip.")] = 16,
    budget_s: Annotated[float, typer.Option(min=0, help="A segmenter gets fewer frames if they take longer.")] = 30,
    device: DeviceName = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the networks; 0: like the backend.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the figures into this file.")] = None,
) -> None:
    """Time segmenters and trackers on this machine, with random weights for models that are not here."""
    import torch

    from pipeline.evaluation.results import machine, write_json
    from pipeline.evaluation.speed.models import TASK_BY_NAME, ModelSpeed, SampleFrames, time_model
    from pipeline.parts.device import limit_torch_threads, resolve_device

    unknown = sorted(set(names or ()) - set(TASK_BY_NAME))
    try:
        if unknown:
            raise ValueError(f"unknown model {', '.join(unknown)}; known are {', '.join(TASK_BY_NAME)}")
        used = resolve_device(device)
        store = ModelSettings().model_store
    except ValueError as error:
        raise error_exit(error) from error
    if threads:
        torch.set_num_threads(threads)
    else:
        limit_torch_threads()
    clip = SampleFrames.render(frames)
    rows: list[ModelSpeed] = []
    conditions: dict[str, Any] = {"machine": machine(used), "threads": torch.get_num_threads()}
    with spinner() as progress:
        for name in names or TASK_BY_NAME:
            bar = progress.add_task(name, total=None)
            rows.append(time_model(name, clip, store, device=used, budget_s=budget_s))
            progress.remove_task(bar)
            if json is not None:  # After each, so that stopping a long run loses nothing.
                write_json(conditions | {"models": [row.document() for row in rows]}, json)
    Console().print(_speed_table(rows))


def _pull(model: Model, store: ModelStore) -> None:
    if not store.verify(model):
        typer.echo(f"{model.name} is here already: {_as_wanted(model)}")
        return
    if model.licence_note:
        typer.echo(f"{model.name}: {model.licence}: {model.licence_note}.", err=True)
    try:
        with transfer_progress() as report:
            pulled = store.pull(model, report, waiting=lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("interrupted: what was downloaded is kept, and the next pull continues from there", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for file in pulled:
        typer.echo(_outcome(file))


def _outcome(file: Pulled) -> str:
    if file.checked:
        return f"{file.path}: sha256 {file.sha256}, as the registry states"
    return (
        f"{file.path}: sha256 {file.sha256}, computed here; no public source of a checksum is known, so "
        "this file cannot be verified"
    )


def _as_wanted(model: Model) -> str:
    if model.verified:
        return "as the registry states"
    files = [file.name for file in model.files if file.sha256 is None]
    return f"as it was pulled, {UNVERIFIED}: {', '.join(files)}"


def _checksum(model: Model) -> str:
    if not model.verified:
        return UNVERIFIED
    n_digits = min(len(file.sha256 or "") for file in model.files)
    return "known" if n_digits == SHA256_DIGITS else f"{n_digits} digits"


def _anything_here(model: Model, store: ModelStore) -> bool:
    folder = store.folder_of(model)
    return any((folder / file.name).is_file() for file in model.files) or (folder / "code").is_dir()


def _table(known: list[Model], store: ModelStore) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("name", "size", "licence", "here", "extra", "checksum"):
        table.add_column(column, no_wrap=column != "licence", justify="right" if column == "size" else "left")
    task = ""
    for model in known:
        if model.task != task:
            task = model.task
            table.add_row(f"[italic]{task}s[/]")
        licence = model.licence + ("" if model.commercial else " *")
        here = "yes" if store.has(model) else "no"
        table.add_row(f"  {model.name}", _size(model), licence, here, model.extra or "-", _checksum(model))
    return table


def _size(model: Model) -> str:
    known_bytes = sum(file.size_bytes or 0 for file in model.files)
    if not known_bytes:
        return "?"
    return ("" if model.size_bytes else "> ") + f"{known_bytes / 2**20:,.0f} MiB"


def _speed_table(rows: list[Any]) -> Table:
    table = Table("model", "task", "weights", "s per frame", "", box=None)
    for row in rows:
        shown = "" if row.seconds_per_frame is None else f"{row.seconds_per_frame:.3f}"
        table.add_row(row.name, row.task, row.weights, shown, row.problem)
    return table


def _entry(model: Model, store: ModelStore) -> dict[str, Any]:
    return {
        "name": model.name,
        "task": model.task,
        "title": model.title,
        "here": store.has(model),
        "folder": str(store.folder_of(model)),
        "size_bytes": model.size_bytes,
        "verified": model.verified,
        "licence": model.licence,
        "licence_note": model.licence_note,
        "commercial": model.commercial,
        "paper": model.paper,
        "package": model.package,
        "extra": model.extra,
        "manual_page": model.manual_page,
        "code": None if model.code is None else {"url": model.code.url, "commit": model.code.commit},
        "files": [
            {
                "name": file.name,
                "url": file.url,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256 or UNVERIFIED,
                "source": file.source,
            }
            for file in model.files
        ],
    }


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise error_exit(error) from error


def _store() -> ModelStore:
    with _one_line_errors():
        return ModelSettings().model_store
