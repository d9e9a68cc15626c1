"""How far a transfer of files is: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from model_zoo.download import Report

STEP_PCT = 10
STEP_BYTES = 100 * 2**20
"""Between two lines, where the size is not known."""


@contextmanager
def transfer_progress() -> Iterator[Report]:
    """What a download reports to, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total_bytes)
        self._progress.update(self._tasks[name], completed=done_bytes, total=total_bytes)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._step_of: dict[str, int] = {}

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        step = done_bytes * 100 // (total_bytes * STEP_PCT) if total_bytes else done_bytes // STEP_BYTES
        if self._step_of.get(name) == step:
            return
        self._step_of[name] = step
        of = f" of {total_bytes / 2**20:.1f}" if total_bytes else ""
        self._console.print(f"{name}: {done_bytes / 2**20:.1f}{of} MiB", markup=False, highlight=False, soft_wrap=True)
