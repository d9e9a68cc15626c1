"""Servers as child processes: real ones, small enough to start in a moment."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ls_backend.demo.local_server import LOG_MAX_MIB, DemoError, LocalServer, clean_environment, require_free_port

HEALTHY = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN_FAMILY = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(99)"
subprocess.Popen([sys.executable, "-c", child])
time.sleep(600)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def server(script: str, folder: Path, port: int, start_timeout_s: float = 20) -> LocalServer:
    command = [sys.executable, "-c", script, str(port)]
    return LocalServer("the server", port, command, clean_environment({}), folder / "log.txt", start_timeout_s)


def test_starts_answers_and_stops(tmp_path: Path, port: int) -> None:
    messages: list[str] = []
    process = server(HEALTHY, tmp_path, port)
    process.launch()
    process.wait(messages.append)
    process.require_running()
    assert process.pid is not None
    child = psutil.Process(process.pid)
    process.stop()
    assert messages
    assert not child.is_running()
    assert "up" in process.log_path.read_text()
    require_free_port(port, "--port")
    process.stop()


def test_a_server_that_ends_by_itself_is_reported_with_the_end_of_its_log(tmp_path: Path, port: int) -> None:
    script = "import sys; print('\\n'.join(f'line {k}' for k in range(99))); sys.exit('no disk left')"
    with pytest.raises(DemoError) as caught, server(script, tmp_path, port):
        pass
    assert "the server ended by itself with exit code 1" in str(caught.value)
    assert "no disk left" in str(caught.value)
    assert "line 98" in str(caught.value)
    assert "line 5\n" not in str(caught.value)


def test_a_server_that_never_answers_is_reported_after_the_time_limit_and_stopped(tmp_path: Path, port: int) -> None:
    process = server("import time; time.sleep(60)", tmp_path, port, start_timeout_s=1)
    with pytest.raises(DemoError, match="in 1 s"):
        process.start()
    assert process.pid is None


def test_stopping_ends_grandchildren_even_those_that_ignore_sigterm(tmp_path: Path, port: int) -> None:
    process = server(STUBBORN_FAMILY, tmp_path, port)
    process.launch()
    deadline_s = time.monotonic() + 20
    while "ready" not in process.log_path.read_text() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert process.pid is not None
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len(family) == 2
    process.stop(grace_s=0.5)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = LocalServer("the server", 1, ["/nowhere/at-all"], {}, tmp_path / "log.txt", 1)
    with pytest.raises(DemoError, match="/nowhere/at-all"):
        process.launch()
    process.stop()


def test_a_large_log_is_renamed(tmp_path: Path, port: int) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"x" * (LOG_MAX_MIB * 2**20 + 1))
    process = server("import time; time.sleep(60)", tmp_path, port)
    process.launch()
    process.stop()
    assert log.stat().st_size < 1000
    assert log.with_name("log.txt.1").stat().st_size > LOG_MAX_MIB * 2**20


def test_a_taken_port_is_named_with_the_option_to_change_it(taken_port: int) -> None:
    with pytest.raises(DemoError) as caught:
        require_free_port(taken_port, "--backend-port")
    assert f"port {taken_port}" in str(caught.value)
    assert "--backend-port" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_free_port_passes(port: int) -> None:
    require_free_port(port, "--port")


def test_servers_do_not_inherit_what_they_would_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEBUG", "HOST", "CI", "LABEL_STUDIO_HOST", "PYTHONPATH", "GUNICORN_CMD_ARGS"):
        monkeypatch.setenv(name, "1")
    environment = clean_environment({"EXTRA": "yes"})
    assert environment["EXTRA"] == "yes"
    assert "PATH" in environment
    assert not {"DEBUG", "HOST", "CI", "LABEL_STUDIO_HOST", "PYTHONPATH", "GUNICORN_CMD_ARGS"} & set(environment)
