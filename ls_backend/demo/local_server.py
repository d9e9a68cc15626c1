"""A server of the demo as a child process on a port of this machine.

It runs in its own process group, writes to a log file, and leaves no process behind when it is stopped.
"""

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
from typing_extensions import Self

Progress: TypeAlias = Callable[[str], None]
"""Called with a few words about what is being done."""

HOST = "127.0.0.1"
POLL_S = 0.1
HEALTH_TIMEOUT_S = 2.0
LOG_MAX_MIB = 10
"""A larger log is renamed at the next start and replaces the one renamed before."""
_LOG_TAIL_LINES = 25
_VARIABLES_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
)


class DemoError(Exception):
    """The demo cannot go on, and the user can fix it. The message says what was expected, what arrived, what to do."""


def silent(_: str) -> None:
    """Ignore the progress."""


def local_url(port: int) -> str:
    """Address of a server on this machine, without a slash at the end."""
    return f"http://{HOST}:{port}"


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server: the few variables every program needs, and ``extra``.

    Nothing else of the caller's environment is passed on, because Label Studio reads even variables as common as
    ``DEBUG``, ``HOST`` and ``CI``.
    """
    kept = {k: v for k, v in os.environ.items() if k in _VARIABLES_KEPT or k.startswith(("LC_", "XDG_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def require_free_port(port: int, option: str) -> None:
    """Check that a server can listen on a port of this machine.

    Args:
        port: the port.
        option: the command line option that chooses another port, for the message.

    Raises:
        DemoError: another program listens there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too: a port counts as free although old connections to it are still closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = f"port {port} on {HOST} cannot be used ({error.strerror}); is another program or demo using it? "
            raise DemoError(reason + f"Stop that one, or choose another port with {option}") from error


class LocalServer:
    """A server on 127.0.0.1 that answers 200 at ``/health``. As a context manager it runs inside the block.

    Args:
        name: its name in messages.
        port: where it listens.
        command: program and arguments.
        environment: the whole environment of the process.
        log_path: receives its output; a new start appends.
        start_timeout_s: how long it may take until it answers.
    """

    def __init__(
        self,
        name: str,
        port: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        start_timeout_s: float,
    ) -> None:
        self.name = name
        self.port = port
        self.log_path = log_path
        self._command = list(command)
        self._environment = dict(environment)
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address without a slash at the end."""
        return local_url(self.port)

    @property
    def pid(self) -> int | None:
        """Process id, which is its process group's id too; None unless it was started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            DemoError: it ended or did not answer in time; the message shows the end of its log.
        """
        self.launch()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the process without waiting for it.

        Raises:
            DemoError: the program cannot be started.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.is_file() and self.log_path.stat().st_size > LOG_MAX_MIB * 2**20:
            self.log_path.replace(self.log_path.with_name(f"{self.log_path.name}.1"))
        with self.log_path.open("ab") as log:
            try:
                # In its own process group: Ctrl-C reaches only the demo, which then stops the servers in order.
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

    def wait(self, on_progress: Progress = silent) -> None:
        """Wait until it answers.

        Raises:
            DemoError: it ended or did not answer in time; the message shows the end of its log.
        """
        started_s = time.monotonic()
        while True:
            self.require_running()
            if self._is_healthy():
                return
            waited_s = time.monotonic() - started_s
            if waited_s > self._start_timeout_s:
                limit = f"{self._start_timeout_s:.0f} s"
                raise DemoError(f"{self.name} did not answer at {self.url}/health in {limit}.{self._log_end()}")
            on_progress(f"waiting for {self.name} ({waited_s:.0f} s)")
            time.sleep(POLL_S)

    def _is_healthy(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False  # A proxy cannot reach this machine's loopback address.
            try:
                return session.get(f"{self.url}/health", timeout=HEALTH_TIMEOUT_S).status_code == 200
            except requests.RequestException:
                return False

    def require_running(self) -> None:
        """Check that the process has not ended.

        Raises:
            DemoError: it ended by itself; the message shows the end of its log.
        """
        if self._process is None:
            raise DemoError(f"{self.name} was not started")
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"{self.name} ended by itself with exit code {code}.{self._log_end()}")

    def stop(self, grace_s: float = 10.0) -> None:
        """End the process and all it started, with SIGTERM, after ``grace_s`` with SIGKILL. Safe to call again."""
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
            self._process.poll()  # Without this, an ended leader still counts as alive.
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        return True

    def _log_end(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.is_file() else []
        tail = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])
        return f" The end of {self.log_path}:\n{tail or '  (empty)'}"


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
