"""Frames embedded in the background, a few ahead of the thread that uses them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class EmbeddingPrefetcher(Generic[T]):
    """Makes the embeddings of announced frames in their order, in a background thread.

    At most ``n_ahead`` embeddings that nobody took yet are held. The background thread ends when it has nothing to do,
    and never keeps the process alive. All methods are for one thread; for frames that were not announced, ``make`` runs
    in that thread.
    """

    def __init__(self, make: Callable[[int], T], n_ahead: int) -> None:
        """Nothing starts yet.

        Args:
            make: the embedding of a frame by its index; safe to call from two threads at once.
            n_ahead: how many embeddings are made ahead at most; 0 makes each when it is taken.

        Raises:
            ValueError: ``n_ahead`` is negative.
        """
        if n_ahead < 0:
            raise ValueError(f"frames can be embedded 0 or more ahead, but got {n_ahead}")
        self._make, self._n_ahead = make, n_ahead
        self._lock = threading.Lock()
        self._announced: list[int] = []
        self._futures: dict[int, Future[T]] = {}
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the background thread is at work."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def prefetch(self, frame_indices: Sequence[int]) -> None:
        """Announce frames in the order in which they will be taken; replaces those announced before.

        An embedding that is in progress is finished, and used if its frame is announced again. An empty sequence stops
        the background thread after it.
        """
        with self._lock:
            self._announced = list(dict.fromkeys(frame_indices))
            wanted = set(self._announced)
            for frame_index, future in list(self._futures.items()):
                if frame_index not in wanted and (future.cancel() or future.done()):
                    del self._futures[frame_index]
            self._request_next()

    def take(self, frame_index: int) -> T:
        """The embedding of a frame; waits for it if it was announced. Frames announced before it are skipped.

        Raises:
            FrameError: whatever ``make`` raised.
        """
        with self._lock:
            if frame_index in self._announced:
                position = self._announced.index(frame_index)
                for skipped_index in self._announced[:position]:
                    skipped = self._futures.pop(skipped_index, None)
                    if skipped is not None:
                        skipped.cancel()
                self._announced = self._announced[position:]
                self._request_next()
            future = self._futures.get(frame_index)
        try:
            return self._make(frame_index) if future is None else future.result()
        finally:
            with self._lock:
                self._futures.pop(frame_index, None)
                if self._announced[:1] == [frame_index]:
                    self._announced = self._announced[1:]
                self._request_next()

    def _request_next(self) -> None:
        """Request the next embeddings, and start the thread if needed. The caller holds the lock."""
        for frame_index in self._announced[: self._n_ahead]:
            if frame_index not in self._futures:
                self._futures[frame_index] = Future()
        if self._next_job() is not None and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="embedding-prefetcher", daemon=True)
            self._thread.start()

    def _next_job(self) -> tuple[int, Future[T]] | None:
        """The first requested embedding that is not in progress. The caller holds the lock."""
        return next(self._pending(), None)

    def _pending(self) -> Iterator[tuple[int, Future[T]]]:
        for frame_index in self._announced[: self._n_ahead]:
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
                if frame_index not in self._announced:
                    self._futures.pop(frame_index, None)
