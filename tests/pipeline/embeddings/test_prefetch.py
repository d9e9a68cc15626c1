"""Frames are embedded ahead in their order, a few at most; errors and cancelled rounds end where they should."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pipeline.embeddings.prefetch import EmbeddingPrefetcher
from pipeline.video.frames import FrameError

PATIENCE_S = 10.0


class Maker:
    """Makes values, each only when `gate` lets it where ``held``, and records the thread in which each was made."""

    def __init__(self, broken: frozenset[int] = frozenset(), *, held: bool = False) -> None:
        self.broken, self.made, self.threads = broken, [], set[str]()
        self.gate = threading.Semaphore(0 if held else 10_000)
        self.made: list[int] = []

    def __call__(self, frame_index: int) -> str:
        assert self.gate.acquire(timeout=PATIENCE_S)
        self.made.append(frame_index)
        self.threads.add(threading.current_thread().name)
        if frame_index in self.broken:
            raise FrameError(frame_index, "is broken on purpose")
        return f"embedding {frame_index}"


def wait_until(true: object) -> None:
    assert callable(true)
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_announced_frames_are_made_once_in_order_and_in_the_background() -> None:
    make = Maker()
    prefetcher = EmbeddingPrefetcher(make, 2)
    order = [5, 4, 6, 3, 7, 5]
    prefetcher.prefetch(order)
    assert [prefetcher.take(frame) for frame in order[:5]] == [f"embedding {frame}" for frame in order[:5]]
    assert make.made == order[:5]
    assert make.threads == {"embedding-prefetcher"}


def test_no_more_than_the_given_number_are_made_ahead() -> None:
    make = Maker()
    prefetcher = EmbeddingPrefetcher(make, 3)
    prefetcher.prefetch(range(10))
    wait_until(lambda: not prefetcher.is_busy)
    assert make.made == [0, 1, 2]
    prefetcher.take(0)
    wait_until(lambda: not prefetcher.is_busy)
    assert make.made == [0, 1, 2, 3]


def test_an_unreadable_frame_is_an_error_where_it_is_taken_and_only_there() -> None:
    prefetcher = EmbeddingPrefetcher(Maker(frozenset({1})), 2)
    prefetcher.prefetch(range(4))
    assert prefetcher.take(0) == "embedding 0"
    with pytest.raises(FrameError, match="broken on purpose"):
        prefetcher.take(1)
    assert prefetcher.take(2) == "embedding 2"


def test_frames_that_were_not_announced_are_made_at_once() -> None:
    make = Maker()
    prefetcher = EmbeddingPrefetcher(make, 2)
    assert prefetcher.take(8) == "embedding 8"
    assert not prefetcher.is_busy
    assert EmbeddingPrefetcher(make, 0).take(1) == "embedding 1"
    assert make.threads == {threading.current_thread().name}


def test_skipped_frames_are_not_waited_for() -> None:
    make = Maker()
    prefetcher = EmbeddingPrefetcher(make, 1)
    prefetcher.prefetch(range(10))
    assert prefetcher.take(7) == "embedding 7"
    wait_until(lambda: not prefetcher.is_busy)
    assert make.made in ([7, 8], [0, 7, 8])


def test_a_cancelled_round_ends_after_the_frame_in_progress() -> None:
    make = Maker(held=True)
    prefetcher = EmbeddingPrefetcher(make, 4)
    prefetcher.prefetch(range(10))
    prefetcher.prefetch(())
    make.gate.release(20)
    wait_until(lambda: not prefetcher.is_busy)
    assert make.made in ([], [0])


def test_a_frame_in_progress_is_used_by_a_new_round_that_wants_it() -> None:
    make = Maker(held=True)
    prefetcher = EmbeddingPrefetcher(make, 2)
    prefetcher.prefetch(range(10))
    wait_until(lambda: prefetcher.is_busy)
    prefetcher.prefetch([3, 0, 2])
    make.gate.release(20)
    assert [prefetcher.take(frame) for frame in (3, 0, 2)] == ["embedding 3", "embedding 0", "embedding 2"]
    assert sorted(make.made) == [0, 2, 3]


def test_the_background_thread_never_keeps_the_process_alive() -> None:
    code = (
        "import time\n"
        "from pipeline.embeddings.prefetch import EmbeddingPrefetcher\n"
        "prefetcher = EmbeddingPrefetcher(lambda frame: time.sleep(600), 2)\n"
        "prefetcher.prefetch(range(5))\n"
        "assert prefetcher.is_busy\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more ahead, but got -1"):
        EmbeddingPrefetcher(Maker(), -1)
