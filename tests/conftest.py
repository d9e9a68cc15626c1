"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def models_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights come from nowhere and go below the run's own folder: no test downloads, or finds what the user has."""
    folder = tmp_path_factory.mktemp("models")
    mirror = tmp_path_factory.mktemp("empty_mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVOS_MODEL_DIR", str(folder))
        patch.setenv("IVOS_MODEL_MIRROR", str(mirror))
        yield folder
