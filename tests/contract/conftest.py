"""The backend's WSGI app beside a stand-in for Label Studio's media that serves the recorded tasks' frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from ls_backend.app import create_app
from ls_backend.settings import Settings
from tests.colour_segmenter import use_it
from tests.contract.clip import TASK_FOLDERS, small_clip
from tests.contract.replay import ROUNDS, EditorModel, Json, Replayed, Replayer, replay_rounds
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer, media_server

CREDENTIALS = ("label-studio", "recorded")


@pytest.fixture(scope="session")
def media() -> Iterator[MediaServer]:
    """A running stand-in for Label Studio's media with the frames of all recorded tasks."""
    clip = small_clip()
    with media_server() as server:
        for folder in TASK_FOLDERS:
            for frame_index, frame in enumerate(clip.frames):
                server.put(f"{folder}/{frame_index:05d}.png", frame)
        yield server


@pytest.fixture(scope="session")
def new_replayer(media: MediaServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Replayer]:
    """Makes a backend that knows nothing yet but what the recorded /setup told it."""

    def make() -> Replayer:
        user, password = CREDENTIALS
        folder: Path = tmp_path_factory.mktemp("backend")
        with pytest.MonkeyPatch.context() as patch:
            use_it(patch)
            settings = Settings(
                basic_auth_user=user, basic_auth_pass=SecretStr(password), cache_dir=folder, fetch_retries=0
            )
            replayer = Replayer(create_app(settings), CREDENTIALS, media.url, LEGACY_TOKEN)
        assert replayer.post("/setup", replayer.body("setup")).status_code == 200
        return replayer

    return make


@pytest.fixture
def replayer(new_replayer: Callable[[], Replayer]) -> Replayer:
    """A fresh backend, as after a restart."""
    return new_replayer()


@pytest.fixture(scope="session")
def replayed(new_replayer: Callable[[], Replayer]) -> Replayed:
    """One backend through all recorded rounds in their order."""
    return replay_rounds(new_replayer())


@pytest.fixture(scope="session")
def answers(replayed: Replayed) -> dict[str, Json]:
    """The answers to the recorded rounds by name."""
    return replayed.answers


@pytest.fixture(scope="session")
def editor(replayed: Replayed) -> EditorModel:
    """What the annotator's editor holds before the first step back."""
    model = EditorModel()
    for name in ROUNDS:
        model.apply(replayed.answers[name]["result"])
    return model
