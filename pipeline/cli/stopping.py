"""Ctrl-C and termination as a wish that is granted between two steps, so that no half-started server is forgotten."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """The user asked to stop."""


class StopSignals:
    """While active, the signals that end a program are only noted. For the main thread.

    They are taken over even where the shell had them ignored, as it does for programs in the background.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Go on unless asked to stop.

        Raises:
            Stopped: a signal arrived.
        """
        if self.requested:
            raise Stopped

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
