"""Servers as child processes: each in a process group of its own, with a log file, and stopped without leftovers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import requests

from ls_backend.demo.errors import DemoError

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is going on."""

POLL_S = 0.1
LOG_MAX_MIB = 10
"""A log larger than this is put aside at the next start, replacing the one before."""
_LOG_TAIL_LINES = 25
_ENVIRONMENT_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
)


def silent(_: str) -> None:
    """Progress that nobody watches."""


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """An environment for a server: what programs need to run at all, and ``extra``.

    Label Studio reads even variables as common as ``DEBUG``, ``HOST`` and ``CI``, so nothing else of the caller's
    environment goes through.
    """
    kept = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT_KEPT or k.startswith(("LC_", "XDG_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def require_free_port(port: int, option: str, host: str = "127.0.0.1") -> None:
    """Make sure that a server can listen on the port.

    Args:
        port: the port wanted.
        option: the command line option that chooses another one, for the message.
        host: the address the server will listen on.

    Raises:
        DemoError: something else listens there already.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: a port whose last connections are only fading away counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"port {port} on {host} cannot be used ({error.strerror}); is another program or demo using it? "
            raise DemoError(reason + f"Stop that one, or choose another port with {option}") from error


class ServerProcess:
    """One server: started, waited for, watched and stopped.

    Args:
        name: how messages call it.
        command: program and arguments.
        environment: the whole environment of the process.
        log_path: receives its output; a new start appends.
        health_url: answers 200 as soon as the server is ready.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log_path: Path, health_url: str
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = list(command)
        self._environment = dict(environment)
        self._health_url = health_url
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id, which is its process group's id too; None unless it was started."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process was started and is still there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; returns at once.

        Raises:
            DemoError: the program cannot be started.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.is_file() and self.log_path.stat().st_size > LOG_MAX_MIB * 2**20:
            self.log_path.replace(self.log_path.with_name(f"{self.log_path.name}.1"))
        with self.log_path.open("ab") as log:
            try:
                # A group of its own: Ctrl-C reaches only the demo, which then stops the servers in order.
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.log_path.parent,
                    start_new_session=True,
                )
            except OSError as error:
                raise DemoError(f"{self.name} cannot be started: {self._command[0]}: {error.strerror}") from error

    def wait_until_healthy(self, timeout_s: float, on_progress: Progress = silent) -> None:
        """Wait until the health address answers 200.

        Raises:
            DemoError: the process ended, or did not answer in time; the message shows the end of its log.
        """
        started_s = time.monotonic()
        while True:
            self.require_running()
            if self.healthy():
                return
            waited_s = time.monotonic() - started_s
            if waited_s > timeout_s:
                raise DemoError(f"{self.name} did not answer at {self._health_url} in {timeout_s:.0f} s.{self._tail()}")
            on_progress(f"waiting for {self.name} ({waited_s:.0f} s)")
            time.sleep(POLL_S)

    def healthy(self, timeout_s: float = 2.0) -> bool:
        """Whether the health address answers 200 now."""
        with requests.Session() as session:
            session.trust_env = False  # A proxy cannot reach this machine's loopback.
            try:
                return session.get(self._health_url, timeout=timeout_s).status_code == 200
            except requests.RequestException:
                return False

    def require_running(self) -> None:
        """Check on the process.

        Raises:
            DemoError: it ended by itself; the message shows the end of its log.
        """
        if self._process is None:
            raise DemoError(f"{self.name} was not started")
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"{self.name} ended by itself with exit code {code}.{self._tail()}")

    def stop(self, grace_s: float = 10.0) -> None:
        """End the process and everything it started: politely, and after ``grace_s`` by force. Safe to call again."""
        if self._process is None:
            return
        group = self._process.pid
        _signal_group(group, signal.SIGTERM)
        deadline_s = time.monotonic() + grace_s
        while self._group_alive(group) and time.monotonic() < deadline_s:
            time.sleep(POLL_S / 2)
        if self._group_alive(group):
            _signal_group(group, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _group_alive(self, group: int) -> bool:
        if self._process is not None:
            self._process.poll()  # Reap the leader, or its remains would count as alive.
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        return True

    def _tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.is_file() else []
        tail = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])
        return f" The end of {self.log_path}:\n{tail or '  (empty)'}"


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
