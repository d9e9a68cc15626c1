"""Answers as lines, from standard input, a named pipe or a file that somebody writes on."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline.batch.options import SegmentError

_POLL_S = 0.1
_READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 16


def open_answers(path: Path) -> tuple[int, bool]:
    """A file or named pipe of answers: its descriptor, and whether it is a file that is followed as it grows.

    A named pipe stays open when a writer closes it, so that writers may come and go.

    Raises:
        SegmentError: it cannot be opened.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise SegmentError(f"{path} is a folder; --answers needs a file or a named pipe")
        return os.open(path, os.O_RDWR if stat.S_ISFIFO(kind) else os.O_RDONLY), stat.S_ISREG(kind)
    except OSError as error:
        raise SegmentError(
            f"{path} cannot be read: {error.strerror}; --answers needs a file, or a pipe made by mkfifo"
        ) from error


def in_background_of_terminal(descriptor: int) -> bool:
    """Whether reading would stop this process, as a terminal does to programs in its background."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:
        return False


class AnswerLines:
    """The lines of a descriptor as they come, without their ends; empty ones are left out.

    Of a line longer than `MAX_LINE_BYTES` only so much comes, which is no JSON any more.

    Args:
        descriptor: to read from; not closed.
        follow: its end is not the end of the answers.
        stopping: set when nobody wants more lines.
    """

    def __init__(self, descriptor: int, *, follow: bool, stopping: threading.Event) -> None:
        self._descriptor, self._follow, self._stopping = descriptor, follow, stopping
        self._caught_up = threading.Event()

    @property
    def is_behind(self) -> bool:
        """Whether a file holds lines that were not read yet, so that they are not late."""
        return not self._caught_up.is_set() and stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def __iter__(self) -> Iterator[bytes]:
        rest, too_long = b"", False
        try:
            for data in self._pieces():
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    if line.strip() and not too_long:
                        yield line[:MAX_LINE_BYTES]
                    too_long = False
                if len(rest) > MAX_LINE_BYTES:
                    if not too_long:
                        yield rest[:MAX_LINE_BYTES]
                    rest, too_long = b"", True
            if rest.strip() and not too_long:
                yield rest
        finally:
            self._caught_up.set()

    def _pieces(self) -> Iterator[bytes]:
        while not self._stopping.is_set():
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except OSError:
                return
            if data:
                yield data
            elif not self._follow:
                return
            else:
                self._caught_up.set()
                self._stopping.wait(_POLL_S)
