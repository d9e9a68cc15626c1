"""A real Label Studio for the end-to-end tests, installed and started by the same code as `ivos demo`."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ls_backend.demo.environment import label_studio_python
from ls_backend.demo.servers import LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI
from tests.clips import Clip
from tests.e2e.workplace import Workplace, small_clip, workplace
from tests.ports import free_port

_task_numbers = itertools.count()


@pytest.fixture(scope="package")
def label_studio_environment() -> Path:
    """The interpreter of Label Studio's environment, which the demo uses too; made once per user and lock."""
    return label_studio_python()


@pytest.fixture(scope="package")
def label_studio(
    label_studio_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """Label Studio with an empty database. Media go below ``media_root``, each clip in a folder of its own."""
    folder = tmp_path_factory.mktemp("label_studio")
    server = LabelStudioServer(
        folder / "data",
        free_port(),
        python=label_studio_environment,
        media_root=folder / "media",
        email="annotator@example.com",
        password=secrets.token_urlsafe(16),
        token=secrets.token_hex(20),
    )
    with server:
        yield server


@pytest.fixture(scope="package")
def api(label_studio: LabelStudioServer) -> LabelStudioAPI:
    """A client with the administrator's token."""
    return LabelStudioAPI(label_studio.url, label_studio.token)


@pytest.fixture(scope="package")
def personal_token(label_studio: LabelStudioServer) -> str:
    """The administrator's personal access token, made as the account page makes it. A user can have only one."""
    headers = {"Authorization": f"Token {label_studio.token}"}
    made = requests.post(f"{label_studio.url}/api/token/", headers=headers, timeout=30)
    made.raise_for_status()
    return str(made.json()["token"])


@pytest.fixture(scope="module")
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A clip of the module's ``N_FRAMES``, on which a round takes a second."""
    return small_clip(tmp_path_factory.mktemp("clip"), request.module.N_FRAMES)


@pytest.fixture(scope="package")
def place(
    label_studio: LabelStudioServer, api: LabelStudioAPI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """The project, the backend and the browser of all tests here; each test has a task of its own."""
    with workplace(label_studio, api, tmp_path_factory.mktemp("backend")) as place:
        yield place


@pytest.fixture
def task_id(place: Workplace, clip: Clip) -> int:
    """A task nobody has worked on."""
    return place.import_clip(f"small-{next(_task_numbers)}", clip.image_paths)
