"""Options that several benchmarks share, and checks before hours are spent on a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.console import error_exit
from pipeline.embeddings.cache import EmbeddingCache, embedding_cache

DEFAULT_DATA = Path("../shared/data/davis")
ROUNDS_EMBEDDING_RAM_MIB = 1024
"""Bound of the embeddings in memory where rounds come back to all frames."""
SINGLE_PASS_EMBEDDING_RAM_MIB = 256
"""Bound of the embeddings in memory where every frame is met once."""

DataFolder = Annotated[
    Path | None,
    typer.Option(help="Folder in the layout of DAVIS.", show_default=f"{DEFAULT_DATA}, where it is there"),
]
LongSequences = Annotated[
    str, typer.Option(help="The clip whose objects count, then those shown in between, separated by commas.")
]
EmbeddingDiskMib = Annotated[
    int, typer.Option(min=0, help="Bound of image embeddings on disk, for later passes; 0: none.")
]
BenchEmbeddingFolder = Annotated[
    Path | None,
    typer.Option(help="Where they lie, until the run ends.", show_default="the temporary folder"),
]


class BenchError(Exception):
    """The benchmark cannot run. The message says what was expected, what arrived and what to do."""


def is_on_command_line(context: typer.Context, option: str) -> bool:
    """Whether an option (its parameter's name) was written on the command line."""
    return str(context.get_parameter_source(option)).endswith("COMMANDLINE")


def option_flags(options: list[str]) -> str:
    """Parameters' names as they are written on the command line."""
    return ", ".join(f"--{option.replace('_', '-')}" for option in options)


def refuse_options(context: typer.Context) -> None:
    """Refuse options of `ivos bench` in front of a sub-command, which would not see them.

    Raises:
        typer.Exit: there is one.
    """
    misplaced = [option for option in context.params if is_on_command_line(context, option)]
    if misplaced:
        command = context.invoked_subcommand
        message = f"{option_flags(misplaced)} must not come before {command}; its options are those after its name"
        raise error_exit(BenchError(message))


def comma_separated(text: str) -> list[str]:
    """The words between commas, without blanks and empty ones."""
    return [word.strip() for word in text.split(",") if word.strip()]


def data_folder(data: Path | None) -> Path:
    """The folder to measure on.

    Raises:
        BenchError: ``data`` is None and the default is not there.
    """
    if data is None and not DEFAULT_DATA.is_dir():
        raise BenchError(f"no clips to measure on: {DEFAULT_DATA} is not here; give --data DIR in the layout of DAVIS")
    return data or DEFAULT_DATA


@contextmanager
def rounds_embeddings(disk_mib: int, folder: Path | None) -> Iterator[EmbeddingCache[Any]]:
    """The embeddings of a run, in memory and on disk. The disk is emptied with the run: no figure depends on others.

    Args:
        disk_mib: bound on disk; 0 keeps none there.
        folder: gets a folder for this run; None: the temporary folder.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the bound is too small.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ivos_bench_", dir=folder, ignore_cleanup_errors=True) as own:
        embeddings = embedding_cache(ROUNDS_EMBEDDING_RAM_MIB, disk_mib, Path(own))
        try:
            yield embeddings
        finally:
            embeddings.close()


def check_files(json: Path | None, plot: Path | None = None, masks: Path | None = None) -> None:
    """Refuse now what could not be written after hours.

    Raises:
        BenchError: a file's folder is not there, its ending is unknown, or the folder for masks is a file.
    """
    for option, path in (("--json", json), ("--plot", plot)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise BenchError(f"{option} {path} cannot be written: it needs the name of a file in a folder that exists")
    if plot is not None and plot.suffix.lstrip(".").lower() not in _plot_suffixes():
        raise BenchError(f"--plot {plot} must end in one of {', '.join(_plot_suffixes())}")
    if masks is not None and masks.exists() and not masks.is_dir():
        raise BenchError(f"--masks {masks} is a file; it needs a folder")


def _plot_suffixes() -> tuple[str, ...]:
    """Endings of the files that matplotlib can write, without the dot."""
    from matplotlib.figure import Figure

    return tuple(sorted(Figure().canvas.get_supported_filetypes()))
