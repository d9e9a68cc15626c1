"""Frames embedded in the background, a few ahead of the thread that uses them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class EmbeddingPrefetcher(Generic[T]):
    """Makes the values of announced frames in their order, in one thread, at most ``n_ahead`` that nobody took yet.

    The thread ends when it has nothing to do, and is a daemon: it never keeps the process alive. One thread announces
    and takes; ``make`` is called by that thread too, for frames that were not announced.
    """

    def __init__(self, make: Callable[[int], T], n_ahead: int) -> None:
        """Nothing starts yet.

        Args:
            make: the value of a frame by its index; safe to call from two threads at once.
            n_ahead: how many values wait to be taken at most; 0 makes every value when it is asked for.

        Raises:
            ValueError: ``n_ahead`` is negative.
        """
        if n_ahead < 0:
            raise ValueError(f"frames can be embedded 0 or more ahead, but got {n_ahead}")
        self._make, self._n_ahead = make, n_ahead
        self._lock = threading.Lock()
        self._coming: list[int] = []
        self._futures: dict[int, Future[T]] = {}
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the background thread is at work."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def prefetch(self, frame_indices: Sequence[int]) -> None:
        """Announce frames in the order they will be taken, in place of those announced before.

        A value that is being made is finished, and serves if its frame is announced again; an empty sequence stops the
        thread after it.
        """
        with self._lock:
            self._coming = list(dict.fromkeys(frame_indices))
            wanted = set(self._coming)
            for frame_index, future in list(self._futures.items()):
                if frame_index not in wanted and (future.cancel() or future.done()):
                    del self._futures[frame_index]
            self._top_up()

    def take(self, frame_index: int) -> T:
        """The value of a frame, waiting for it if it was announced; frames announced before it are passed over.

        Raises:
            FrameError: whatever ``make`` raised.
        """
        with self._lock:
            if frame_index in self._coming:
                place = self._coming.index(frame_index)
                for passed in self._coming[:place]:
                    skipped = self._futures.pop(passed, None)
                    if skipped is not None:
                        skipped.cancel()
                self._coming = self._coming[place:]
                self._top_up()
            future = self._futures.get(frame_index)
        try:
            return self._make(frame_index) if future is None else future.result()
        finally:
            with self._lock:
                self._futures.pop(frame_index, None)
                if self._coming[:1] == [frame_index]:
                    self._coming = self._coming[1:]
                self._top_up()

    def _top_up(self) -> None:
        """Order the next values, and see that a thread makes them; the lock is held."""
        for frame_index in self._coming[: self._n_ahead]:
            if frame_index not in self._futures:
                self._futures[frame_index] = Future()
        if self._next_job() is not None and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="embedding-prefetcher", daemon=True)
            self._thread.start()

    def _next_job(self) -> tuple[int, Future[T]] | None:
        """The first ordered value that nobody makes yet; the lock is held."""
        return next(self._waiting(), None)

    def _waiting(self) -> Iterator[tuple[int, Future[T]]]:
        for frame_index in self._coming[: self._n_ahead]:
            future = self._futures.get(frame_index)
            if future is not None and not future.running() and not future.done():
                yield frame_index, future

    def _work(self) -> None:
        while True:
            with self._lock:
                job = self._next_job()
                if job is None:
                    self._thread = None
                    return
                frame_index, future = job
                future.set_running_or_notify_cancel()
            try:
                future.set_result(self._make(frame_index))
            except BaseException as error:
                future.set_exception(error)
            with self._lock:
                if frame_index not in self._coming:
                    self._futures.pop(frame_index, None)
