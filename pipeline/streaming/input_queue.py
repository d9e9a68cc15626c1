"""A bounded queue of frames and answer lines, between the threads that read them and the one that segments."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable

from pipeline.streaming.sources import SourceFrame

FRAMES_MIB = 64
"""Bound of the frames that wait; at least one may wait, whatever its size."""
MAX_LINES = 1000


class _Closed(Exception):
    """The queue was closed while a reader waited."""


class InputQueue:
    """Reader threads put frames and lines in, and the run takes them out.

    Args:
        drop_late: called for every frame: whether it replaces the frames that wait.
        never_dropped: indices of frames that always wait, because they have prompts.
        frames_mib: bound of the frames that wait.
    """

    def __init__(
        self, drop_late: Callable[[], bool], never_dropped: Collection[int] = (), *, frames_mib: float = FRAMES_MIB
    ) -> None:
        self._drop_late, self._never_dropped = drop_late, frozenset(never_dropped)
        self._limit_bytes = int(frames_mib * 2**20)
        self._changed = threading.Condition()
        self._frames: deque[SourceFrame] = deque()
        self._lines: deque[bytes] = deque()
        self._frames_ended, self._lines_ended = False, False
        self._failure: BaseException | None = None
        self._closed = False

    def read_frames(self, frames: Iterable[SourceFrame]) -> None:
        """Put all frames in. Runs in the reader's own thread."""
        try:
            for frame in frames:
                self._put_frame(frame)
        except _Closed:
            pass
        except BaseException as error:
            with self._changed:
                self._failure = error
        with self._changed:
            self._frames_ended = True
            self._changed.notify_all()

    def read_lines(self, lines: Iterable[bytes]) -> None:
        """Put all lines in. Runs in the reader's own thread."""
        try:
            for line in lines:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._lines) < MAX_LINES)
                    if self._closed:
                        break
                    self._lines.append(line)
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._lines_ended = True
                self._changed.notify_all()

    def next_frame(self) -> SourceFrame | None:
        """Take out the oldest frame; None if there is none.

        Raises:
            SegmentError: there is none because the source failed.
        """
        with self._changed:
            if self._frames:
                self._changed.notify_all()
                return self._frames.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def next_line(self) -> bytes | None:
        """Take out the oldest line; None if there is none."""
        with self._changed:
            if not self._lines:
                return None
            self._changed.notify_all()
            return self._lines.popleft()

    @property
    def frames_ended(self) -> bool:
        """Whether all frames were taken out and the source has ended."""
        with self._changed:
            return self._frames_ended and not self._frames

    @property
    def lines_ended(self) -> bool:
        """Whether all lines were taken out and the input has ended."""
        with self._changed:
            return self._lines_ended and not self._lines

    def wait_for_line(self, timeout_s: float) -> None:
        """Wait until there is a line, the lines have ended, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._lines) or self._lines_ended, timeout_s)

    def wait_for_input(self, timeout_s: float) -> None:
        """Wait until there is a frame or a line, the frames have ended, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._frames or self._lines) or self._frames_ended, timeout_s)

    def close(self) -> None:
        """Make the reader threads return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put_frame(self, frame: SourceFrame) -> None:
        with self._changed:
            if self._drop_late():
                self._frames = deque(waiting for waiting in self._frames if waiting.frame_index in self._never_dropped)
            self._changed.wait_for(lambda: self._closed or self._has_room(frame))
            if self._closed:
                raise _Closed
            self._frames.append(frame)
            self._changed.notify_all()

    def _has_room(self, frame: SourceFrame) -> bool:
        waiting_bytes = sum(_bytes(waiting) for waiting in self._frames)
        return not self._frames or waiting_bytes + _bytes(frame) <= self._limit_bytes


def _bytes(frame: SourceFrame) -> int:
    return 1024 + (0 if frame.image is None else frame.image.nbytes)
