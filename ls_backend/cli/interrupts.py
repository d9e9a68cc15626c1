"""Ctrl-C between two frames, also where the shell had it ignored, as for programs in the background."""

from __future__ import annotations

from types import FrameType

from ls_backend.demo.stopping import StopSignals


class Interrupts(StopSignals):
    """Ctrl-C and SIGTERM end the run after the frame at hand; the second one ends it at once."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        super()._note(number, frame)
