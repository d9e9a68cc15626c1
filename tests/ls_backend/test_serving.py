"""The gunicorn command, the messages about wrong settings, and `ivos serve` itself."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
from pydantic import ValidationError
from typer.testing import CliRunner

from ls_backend.cli.main import app
from ls_backend.serving import gunicorn_command
from ls_backend.settings import Settings, current
from pipeline.settings import settings_message


@pytest.fixture(autouse=True)
def _fresh_settings() -> None:
    current.cache_clear()


def test_one_worker_with_the_threads_of_the_settings() -> None:
    command = gunicorn_command(Settings(host="::1", port=1234, threads=5, auth_disabled=True))
    pairs = dict(itertools.pairwise(command))
    assert pairs["--workers"] == "1"
    assert pairs["--threads"] == "5"
    assert pairs["--bind"] == "[::1]:1234"
    assert command[-1] == "ls_backend.wsgi:app"


def test_credentials_are_not_on_the_command_line() -> None:
    command = gunicorn_command(Settings(basic_auth_user="somebody", basic_auth_pass="sesame"))  # type: ignore[arg-type]
    assert not any("sesame" in word or "somebody" in word for word in command)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "IVOS_BASIC_AUTH_USER"),
        ({"IVOS_AUTH_DISABLED": "true", "IVOS_PORT": "sesame"}, "IVOS_PORT"),
        ({"IVOS_AUTH_DISABLED": "true", "IVOS_PROT": "9090"}, "IVOS_PROT"),
    ],
)
def test_wrong_settings_are_named_without_their_values(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    message = settings_message(caught.value)
    assert named in message
    assert "sesame" not in message

    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"SEGMENTER": "sam_vit_b"}, "ivos models pull sam_vit_b"),
        ({"BOX_TRACKER": "nanotrack_v2"}, "ivos models pull nanotrack_v2"),
        ({"METHOD": "sam2"}, "ivos models pull edgetam"),
        ({"METHOD": "sam2", "SEGMENTER": "lite"}, "method sam2 cannot use the segmenter lite; choose one of"),
        ({"SEGMENTER": "edgetam"}, "edgetam is a video model, which method i_pt cannot use"),
    ],
)
def test_missing_weights_and_wrong_parts_are_named_before_the_server_starts(
    own: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (own | {"AUTH_DISABLED": "true"}).items():
        monkeypatch.setenv(f"IVOS_{name}", value)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_ivos_serve_answers_requires_the_password_and_stops_on_sigterm(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    own = {"PORT": str(port), "BASIC_AUTH_USER": "u", "BASIC_AUTH_PASS": "p", "CACHE_DIR": str(tmp_path)}
    environment = {**os.environ, **{f"IVOS_{name}": value for name, value in own.items()}}
    command = [str(Path(sys.executable).with_name("ivos")), "serve"]
    log_path = tmp_path / "log.txt"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        base = f"http://127.0.0.1:{port}"
        _wait_for(f"{base}/health", process, log_path)
        assert requests.post(f"{base}/predict", json={"tasks": []}, timeout=10).status_code == 401
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert alive == []
    finally:
        process.kill()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log_path.read_text()
        try:
            if requests.get(address, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(f"{address} did not answer: {log_path.read_text()}")
