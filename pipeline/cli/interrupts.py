"""Ctrl-C for commands that run long: what is done is kept, and it is heard wherever the program was started."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console

from pipeline.cli.errors import failed
from pipeline.cli.stopping import StopSignals

EXIT_INTERRUPTED = 130


class Interrupts(StopSignals):
    """Ctrl-C and SIGTERM end the run after the frame at hand; the second one ends it at once."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        super()._note(number, frame)


@contextmanager
def ctrl_c_heard() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the shell had it ignored, as for programs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def measure(
    run: Callable[[], None],
    show: Callable[[bool], object],
    kept: Callable[[], str],
    faults: tuple[type[Exception], ...],
) -> None:
    """Run a benchmark, and show what was measured also after Ctrl-C or an error.

    Args:
        run: measures.
        show: shows and writes everything; told whether it is complete.
        kept: what is kept of a stopped run, in words.
        faults: what `run` may raise that is said in one line.

    Raises:
        typer.Exit: it was stopped (130), or something went wrong (1).
    """
    ended: BaseException | None = None
    try:
        with ctrl_c_heard():
            run()
    except KeyboardInterrupt as error:
        ended = error
    except faults as error:
        ended = error
    show(ended is None)
    if isinstance(ended, KeyboardInterrupt):
        Console(stderr=True).print(f"stopped; {kept()}", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED)
    if ended is not None:
        raise failed(ended) from ended
