from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ls_backend.sessions.rounds import RoundJob
from pipeline.types import FrameResult, RunLengthMask

MASK = RunLengthMask.encode(np.zeros((4, 4), np.bool_))


def rounds(n_frames: int, gate: threading.Event | None = None) -> Callable[[Callable[[], bool]], Iterator[FrameResult]]:
    """A round over ``n_frames`` that waits at ``gate`` before each frame but the first."""

    def run(cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        for frame_index in range(n_frames):
            if frame_index and gate is not None:
                gate.wait(5)
            if cancelled():
                return
            yield FrameResult(1, frame_index, MASK, 1.0, False)

    return run


def test_budget_ends_the_waiting_not_the_round() -> None:
    gate = threading.Event()
    job = RoundJob("test", rounds(5, gate), threading.Semaphore(1))
    job.start()
    started = time.monotonic()
    assert not job.wait(0.1)
    assert time.monotonic() - started < 2
    assert job.is_running
    gate.set()
    assert job.wait(5)
    assert job.masks_done == 5


def test_cancel_keeps_what_is_done() -> None:
    gate = threading.Event()
    job = RoundJob("test", rounds(5, gate), threading.Semaphore(1))
    job.start()
    while job.masks_done == 0:
        time.sleep(0.005)
    job.cancel()
    gate.set()
    assert job.wait(5)
    assert job.masks_done == 1


def test_the_waiting_request_gets_the_error(caplog: pytest.LogCaptureFixture) -> None:
    def run(_cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        raise RuntimeError("out of luck")
        yield

    job = RoundJob("task 5 round 1", run, threading.Semaphore(1))
    job.start()
    with pytest.raises(RuntimeError, match="out of luck"):
        job.wait(5)
    assert not job.is_running
    assert "task 5 round 1 failed" in caplog.text
    assert "Traceback" in caplog.text


def test_slots_bound_the_rounds_that_compute() -> None:
    slots, gate = threading.Semaphore(1), threading.Event()
    first, second = (RoundJob(name, rounds(2, gate), slots) for name in ("first", "second"))
    first.start()
    while first.masks_done == 0:
        time.sleep(0.005)
    second.start()
    assert not second.wait(0.1)
    assert second.masks_done == 0
    gate.set()
    assert first.wait(5)
    assert second.wait(5)
