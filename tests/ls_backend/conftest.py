"""Fixtures of the backend's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ls_backend.settings import Settings
from tests.colour_segmenter import use_it
from tests.ls_backend.label_studio.media_server import MediaServer, media_server
from tests.ls_backend.postgres_server import postgres_server

PASSWORD = "correct horse"


@pytest.fixture
def media() -> Iterator[MediaServer]:
    """A running stand-in for Label Studio's media."""
    with media_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database for all tests of a run."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a backend with credentials, its caches below the test's folder, and a segmenter that is quick."""
    use_it(monkeypatch)
    for name, value in {
        "IVOS_BASIC_AUTH_USER": "ivos",
        "IVOS_BASIC_AUTH_PASS": PASSWORD,
        "IVOS_CACHE_DIR": str(tmp_path / "cache"),
        "IVOS_FETCH_RETRIES": "2",
        "IVOS_FETCH_TIMEOUT_S": "5",
    }.items():
        monkeypatch.setenv(name, value)
    return Settings()
