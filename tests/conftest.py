"""What holds for every test."""

from __future__ import annotations

import os

# `make test` runs several workers beside each other: in each of them, and in what it starts, numbers are crunched by
# one thread. Read when the libraries are loaded, so set before.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(_name, "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOGETHER = ("tests/e2e/",)
"""Folders whose tests share a worker, because they share a Label Studio, a backend and a browser."""
LONGEST_FIRST = ("tests/e2e/", "tests/contract/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST_FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the workers of a parallel run whole files, so that fixtures of a module are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            together = [folder for folder in TOGETHER if nodeid.startswith(folder)]
            return together[0] if together else nodeid.split("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(autouse=True, scope="session")
def models_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights come from nowhere and go below the run's own folder: no test downloads, or finds what the user has."""
    folder = tmp_path_factory.mktemp("models")
    mirror = tmp_path_factory.mktemp("empty_mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVOS_MODEL_DIR", str(folder))
        patch.setenv("IVOS_MODEL_MIRROR", str(mirror))
        yield folder
