"""What the demo shows while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from ls_backend.demo.processes import Progress


class Screen:
    """Steps with a spinner in a terminal, and with plain lines elsewhere.

    Args:
        console: where to write.
        checkpoint: called at every sign of progress; may raise to end the step.
    """

    def __init__(self, console: Console, checkpoint: Callable[[], None]) -> None:
        self.console = console
        self._checkpoint = checkpoint

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """Show a step until it is done; yields what the step's work reports to."""
        self._checkpoint()
        started_s = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(escape(title)) as status:

                def show(words: str) -> None:
                    self._checkpoint()
                    status.update(f"{escape(title)} [dim]{escape(words)}[/dim]")

                yield show
        else:
            self.line(f"  ... {title}")
            yield lambda _: self._checkpoint()
        self.line(f"  ok  {title} ({time.monotonic() - started_s:.1f} s)")

    def line(self, text: str = "") -> None:
        """One line as it is: no markup, no wrapping, so that addresses can be copied."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
