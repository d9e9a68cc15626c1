"""Signals are noted, and granted at the next check."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.cli.stopping import SIGNALS, Stopped, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_noted_and_granted_at_the_next_check(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped):
            stop.check()
    assert signal.getsignal(number) is before
