"""Answers to help requests: read as lines, then applied, kept for a later frame, or refused."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pipeline.batch.run import SegmentError
from pipeline.streaming.input_queue import MAX_LINES, InputQueue
from pipeline.streaming.protocol import (
    Answer,
    AnswerRefusedEvent,
    AnswerTakenEvent,
    BoxAnswer,
    Event,
    ObjectOnFrame,
    PointAnswer,
    kind_of,
    prompt_of,
    read_answer,
    shortened,
)
from pipeline.streaming.session import OnlineFrame, OnlineSession

_POLL_S = 0.1
_READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 16
MAX_KEPT = 10_000
"""Bound of the answers kept for frames that have not arrived yet."""
_KEPT_BYTES = 256
"""Of each one's line, to show it if it is refused."""


def open_answers(path: Path) -> tuple[int, bool]:
    """Open a file or named pipe of answers.

    A named pipe stays open when a writer closes it, so that several writers may follow each other.

    Returns:
        Its descriptor, and whether it is a regular file, which is followed as it grows.

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
    """Whether reading would suspend this process, as a terminal does to background processes."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:
        return False


class AnswerLines:
    """The lines of a descriptor as they arrive, without line ends and empty lines.

    A line longer than `MAX_LINE_BYTES` is cut there, so it is no valid JSON.

    Args:
        descriptor: to read from; not closed.
        follow: continue at the end of the file, since it may grow.
        stopping: set to stop reading.
    """

    def __init__(self, descriptor: int, *, follow: bool, stopping: threading.Event) -> None:
        self._descriptor, self._follow, self._stopping = descriptor, follow, stopping
        self._end_reached = threading.Event()

    @property
    def has_unread_lines(self) -> bool:
        """Whether this is a regular file that has not been read to its current end."""
        return not self._end_reached.is_set() and stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def __iter__(self) -> Iterator[bytes]:
        rest, too_long = b"", False
        try:
            for data in self._chunks():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
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
            self._end_reached.set()

    def _chunks(self) -> Iterator[bytes]:
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
                self._end_reached.set()
                self._stopping.wait(_POLL_S)


class AnswerHandler:
    """Applies answers to a session: those about the newest frame at once, those about a later frame when it arrives.

    Args:
        input_queue: the lines.
        session: corrected by the answers.
        emit: called with one event per line, which says whether the answer was applied or refused.
        rewrite: writes the newest frame's masks again and returns their numbers.
    """

    def __init__(
        self,
        input_queue: InputQueue,
        session: OnlineSession,
        emit: Callable[[Event], None],
        rewrite: Callable[[OnlineFrame], list[ObjectOnFrame]],
    ) -> None:
        self._input_queue, self._session, self._emit, self._rewrite = input_queue, session, emit, rewrite
        self._kept: dict[int, list[tuple[Answer, bytes]]] = {}
        self.n_taken, self.n_refused = 0, 0

    def process(self) -> set[int]:
        """Process all answers that have arrived.

        Returns:
            The objects for which an answer about the newest frame was applied.
        """
        answered: set[int] = set()
        newest = self._session.n_frames - 1
        for frame_index in sorted(k for k in self._kept if k <= newest):
            for answer, line in self._kept.pop(frame_index):
                if frame_index == newest:
                    answered |= self._apply(answer, line)
                else:
                    self._refuse(line, f"frame {frame_index} was dropped")
        for _ in range(MAX_LINES):
            line_or_none = self._input_queue.next_line()
            if line_or_none is None:
                break
            answered |= self._process_line(line_or_none)
        return answered

    def wait(self, object_ids: Collection[int], timeout_s: float, stopped: Callable[[], bool]) -> None:
        """Process answers until each of some objects has one, the time is over, or the input has ended."""
        deadline_s = time.monotonic() + timeout_s
        waiting = set(object_ids) - self.process()
        while waiting and not stopped() and not self._input_queue.lines_ended:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            self._input_queue.wait_for_line(min(left_s, _POLL_S))
            waiting -= self.process()

    def close(self) -> None:
        """Process all answers that have arrived, and refuse those about frames that never came."""
        self.process()
        for frame_index, entries in sorted(self._kept.items()):
            for _, line in entries:
                self._refuse(line, f"the video ended before frame {frame_index}")
        self._kept = {}

    def _process_line(self, line: bytes) -> set[int]:
        try:
            answer = read_answer(line)
        except ValueError as error:
            return self._refuse(line, str(error))
        newest = self._session.n_frames - 1
        if answer.frame_index < newest:
            return self._refuse(
                line, f"frame {answer.frame_index} is past; only the newest frame, {newest}, can be corrected"
            )
        if answer.frame_index == newest:
            return self._apply(answer, line)
        if sum(map(len, self._kept.values())) >= MAX_KEPT:
            return self._refuse(line, f"{MAX_KEPT} answers wait for later frames already; send this one later")
        self._kept.setdefault(answer.frame_index, []).append((answer, line[:_KEPT_BYTES]))
        return set()

    def _apply(self, answer: Answer, line: bytes) -> set[int]:
        prompt, objects = prompt_of(answer), []
        shows_object = isinstance(answer, BoxAnswer) or (isinstance(answer, PointAnswer) and answer.positive)
        if prompt is not None:
            if not shows_object and answer.object_id not in self._session.object_ids:
                known = ", ".join(map(str, self._session.object_ids)) or "none"
                return self._refuse(
                    line,
                    f"object {answer.object_id} is not known (known: {known}); "
                    "expected a positive click or a box to start it",
                )
            try:
                objects = self._rewrite(self._session.correct([prompt]))
            except ValueError as error:
                return self._refuse(line, str(error))
        self.n_taken += 1
        self._emit(
            AnswerTakenEvent(
                frame_index=answer.frame_index, object_id=answer.object_id, kind=kind_of(answer), objects=objects
            )
        )
        return {answer.object_id}

    def _refuse(self, line: bytes, reason: str) -> set[int]:
        self.n_refused += 1
        newest = self._session.n_frames - 1
        self._emit(
            AnswerRefusedEvent(
                line=shortened(line.decode(errors="replace")),
                reason=reason,
                newest_frame_index=newest if newest >= 0 else None,
            )
        )
        return set()
