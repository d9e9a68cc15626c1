"""Ctrl-C and termination signals stop a command between two steps, so that finished work is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

import typer

from pipeline.cli.console import error_exit, print_note

EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A stop was requested."""


class StopRequest:
    """While active, signals that end a program only set ``requested``. Use it in the main thread.

    The handlers are installed even where the shell had the signals ignored, as it does for programs in the background.

    Args:
        repeat_aborts: a second signal raises `KeyboardInterrupt` at once.
    """

    def __init__(self, *, repeat_aborts: bool = False) -> None:
        self.requested = False
        self._repeat_aborts = repeat_aborts
        self._previous_handlers: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Return unless a stop was requested.

        Raises:
            Stopped: a signal arrived.
        """
        if self.requested:
            raise Stopped

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested and self._repeat_aborts:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def keyboard_interrupt_enabled() -> Iterator[None]:
    """Ctrl-C raises `KeyboardInterrupt`, even where the shell had it ignored, as for programs in the background."""
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)


def run_and_report(
    run: Callable[[], None],
    report: Callable[[bool], object],
    kept: Callable[[], str],
    errors: tuple[type[Exception], ...],
) -> None:
    """Run a long measurement and report its results, also after Ctrl-C or an error.

    Args:
        run: measures.
        report: shows and writes all results so far; its argument says whether they are complete.
        kept: says what an interrupted run keeps.
        errors: the exceptions of ``run`` that end the command with one line.

    Raises:
        typer.Exit: the run was interrupted (130), or one of ``errors`` was raised (1).
    """
    failure: BaseException | None = None
    try:
        with keyboard_interrupt_enabled():
            run()
    except KeyboardInterrupt as error:
        failure = error
    except errors as error:
        failure = error
    report(failure is None)
    if isinstance(failure, KeyboardInterrupt):
        print_note(f"stopped; {kept()}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if failure is not None:
        raise error_exit(failure) from failure
