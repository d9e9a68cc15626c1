"""The environment that the demo's backend is started with."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from ls_backend.demo.local_server import DemoError
from ls_backend.demo.servers import BackendServer
from pipeline.settings import ModelSettings


def backend(folder: Path) -> BackendServer:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    login = {"user": "u", "password": "p"}
    return BackendServer(folder, port, **login, label_studio_url="http://127.0.0.1:1", label_studio_token="t")


def environment_of(server: BackendServer) -> dict[str, str]:
    """The environment of the started process."""
    server.launch()
    try:
        assert server.pid is not None
        return psutil.Process(server.pid).environ()
    finally:
        server.stop()


def test_it_finds_pulled_models_and_the_callers_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    monkeypatch.setenv("IVOS_SEGMENTER", "lite")
    environment = environment_of(backend(tmp_path / "data"))
    assert environment["IVOS_MODEL_DIR"] == str(ModelSettings().model_store.folder)
    assert environment["IVOS_CACHE_DIR"] == str(tmp_path / "data" / "cache")
    assert environment["HTTPS_PROXY"] == "http://127.0.0.1:9"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet.example,127.0.0.1,localhost"


def test_without_proxies_none_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    environment = environment_of(backend(tmp_path / "data"))
    assert not [name for name in environment if "proxy" in name.lower()]


def test_a_wrong_setting_of_the_caller_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IVOS_SEGMENTER", "magic")
    with pytest.raises(DemoError, match="unknown segmenter 'magic'"):
        backend(tmp_path / "data")
