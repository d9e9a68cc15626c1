"""What commands write on standard error: notes, errors in one line, and progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from model_zoo.download import Report
from pipeline.settings import settings_message

_LINE_STEP_PCT = 10
_LINE_STEP_BYTES = 100 * 2**20
"""Between two lines about a transfer whose size is not known."""


def print_note(text: str) -> None:
    """Print one line, unwrapped, so that it can be copied."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def print_error(error: BaseException) -> None:
    """Print an error in one line."""
    # pydantic's own text has several lines and shows the values of settings.
    text = "; ".join(settings_message(error).splitlines()) if isinstance(error, ValidationError) else str(error)
    Console(stderr=True).print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)


def error_exit(error: BaseException) -> typer.Exit:
    """Print an error in one line, and return the exit to raise."""
    print_error(error)
    return typer.Exit(1)


def progress_bar() -> Progress:
    """A bar with the number of finished steps, a description, the time so far and the time to go."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def spinner() -> Progress:
    """A sign of life with a description and the time so far, for steps of unknown length; it vanishes at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def transfer_progress() -> Iterator[Report]:
    """What a download reports to: bars on a terminal, and elsewhere a line at every tenth of the file."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _TransferLines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _TransferBars(progress)


class _TransferBars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total_bytes)
        self._progress.update(self._tasks[name], completed=done_bytes, total=total_bytes)


class _TransferLines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_step: dict[str, int] = {}

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        step = done_bytes * 100 // (total_bytes * _LINE_STEP_PCT) if total_bytes else done_bytes // _LINE_STEP_BYTES
        if self._last_step.get(name) == step:
            return
        self._last_step[name] = step
        total = f" of {total_bytes / 2**20:.1f}" if total_bytes else ""
        self._console.print(
            f"{name}: {done_bytes / 2**20:.1f}{total} MiB", markup=False, highlight=False, soft_wrap=True
        )
