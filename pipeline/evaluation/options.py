"""What is asked of `ivos bench`, checked before hours are spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import error_exit
from pipeline.evaluation.annotator import AnnotatorSettings, Start
from pipeline.evaluation.report import supported_suffixes

DEFAULT_DATA = Path("../shared/data/davis")
DataFolder = Annotated[
    Path | None,
    typer.Option(help="Folder in the layout of DAVIS.", show_default=f"{DEFAULT_DATA}, where it is there"),
]

LongSequences = Annotated[
    str, typer.Option(help="The clip whose objects count, then those shown in between, separated by commas.")
]


class BenchError(Exception):
    """The benchmark cannot run. The message says what was expected, what arrived and what to do."""


def refuse_options(context: typer.Context) -> None:
    """Refuse options of `ivos bench` in front of a sub-command, which would not see them.

    Raises:
        typer.Exit: there is one.
    """
    named = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if named:
        options, command = ", ".join(f"--{name.replace('_', '-')}" for name in named), context.invoked_subcommand
        raise error_exit(BenchError(f"{options} must not come before {command}; its options are those after its name"))


def data_folder(given: Path | None) -> Path:
    """The folder to measure on.

    Raises:
        BenchError: none is given and the default is not there.
    """
    if given is None and not DEFAULT_DATA.is_dir():
        raise BenchError(f"no clips to measure on: {DEFAULT_DATA} is not here; give --data DIR in the layout of DAVIS")
    return given or DEFAULT_DATA


def frame_numbers(text: str) -> tuple[int, ...]:
    """Frame indices from a comma-separated list.

    Raises:
        BenchError: it is something else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise BenchError(f"--single-frames needs frame numbers from 0 such as 0,20,40, but got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def check_request(annotator: AnnotatorSettings, n_rounds: int, single_frames: tuple[int, ...]) -> None:
    """Refuse what cannot be meant.

    Raises:
        BenchError: options contradict each other.
    """
    if annotator.start is Start.MASK and annotator.first_frame is not None:
        raise BenchError("--start mask begins on frame 0; leave out --first-frame, or use --start prompts")
    if n_rounds == 0 and not single_frames:
        raise BenchError("--rounds 0 measures nothing by itself; give --single-frames 0,20,40, or at least one round")


def check_files(json: Path | None, plot: Path | None, masks: Path | None) -> None:
    """Refuse now what could not be written after hours.

    Raises:
        BenchError: a file's folder is not there, its ending is unknown, or the folder for masks is a file.
    """
    for option, path in (("--json", json), ("--plot", plot)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise BenchError(f"{option} {path} cannot be written: it needs the name of a file in a folder that exists")
    if plot is not None and plot.suffix.lstrip(".").lower() not in supported_suffixes():
        raise BenchError(f"--plot {plot} must end in one of {', '.join(supported_suffixes())}")
    if masks is not None and masks.exists() and not masks.is_dir():
        raise BenchError(f"--masks {masks} is a file; it needs a folder")


def names_in(text: str) -> list[str]:
    """What is separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
