"""The lines of `ivos segment --online` on their way out: to whoever listens, and into the run's folder."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pipeline.cli.console import print_note
from pipeline.streaming.protocol import Event, ObjectOnFrame
from pipeline.streaming.run_folder import OnlineRunFolder

if TYPE_CHECKING:
    from pipeline.streaming.session import OnlineFrame


class EventWriter:
    """Writes every event as one line on standard output and in ``events.jsonl``.

    A listener that goes away does not end the run.
    """

    def __init__(self, folder: OnlineRunFolder) -> None:
        self._folder, self._listened = folder, True

    def emit(self, event: Event) -> None:
        """Write one event.

        Raises:
            RunFolderError: ``events.jsonl`` cannot be written.
        """
        line = event.model_dump_json()
        self._folder.log(line)
        if not self._listened:
            return
        try:
            sys.stdout.buffer.write(line.encode() + b"\n")
            sys.stdout.buffer.flush()
        except OSError as error:
            self._listened = False
            # What is still buffered would fail again when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print_note(f"note: standard output: {error.strerror}; the events go on in the output folder")


def in_numbers(frame: OnlineFrame) -> list[ObjectOnFrame]:
    """The masks of a frame as events say them."""
    return [
        ObjectOnFrame(
            object_id=result.object_id,
            area_px=result.mask.area_px,
            score=round(float(result.score), 4),
            uncertainty=None if result.uncertainty is None else round(float(result.uncertainty), 4),
        )
        for result in frame.results
    ]
