"""Signals become stop requests."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.cli.stopping import SIGNALS, Stopped, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_at_the_next_check(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped):
            stop.check()
    assert signal.getsignal(number) is before


def test_a_second_signal_may_abort() -> None:
    with StopRequest(repeat_aborts=True) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
