"""What tests here share: one method, as in a process, and a place for decoded frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pipeline.methods.base import Method
from tests.built_methods import built


@pytest.fixture(scope="package")
def method() -> Method:
    return built()


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where decoded frames are kept."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
