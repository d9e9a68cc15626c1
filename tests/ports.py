"""Ports for servers that tests start."""

from __future__ import annotations

import os
import random
import socket
from itertools import cycle

_FIRST, _LAST = 16_000, 32_000
"""Below the ports that the system hands out to outgoing connections, which could take one between two starts."""


def _own_ports() -> list[int]:
    """The ports of this process, in random order: each of the workers of a parallel run has a share of its own."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(_FIRST, _LAST))[worker % workers :: workers]
    random.Random(os.getpid()).shuffle(ports)
    return ports


_ports = cycle(_own_ports())


def free_port() -> int:
    """A port nobody listens on now, and that no other test of this run is given."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is always a next port")
