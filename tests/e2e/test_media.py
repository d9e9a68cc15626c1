"""Frames from a real Label Studio: both kinds of files it serves, both kinds of tokens it gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from pydantic import SecretStr

from ls_backend.demo.servers import LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI
from ls_backend.label_studio.connections import Connections
from ls_backend.label_studio.media import MediaFetcher, TaskFrames
from ls_backend.protocol.label_config import recommended_label_config
from ls_backend.settings import Settings
from pipeline.video.frames import FrameError

N_FRAMES = 3


def images() -> list[np.ndarray]:
    """Frames of noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(7)
    return list(rng.integers(0, 256, (N_FRAMES, 48, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def addresses(label_studio: LabelStudioServer, api: LabelStudioAPI) -> dict[str, list[str]]:
    """The same frames as files of a local storage and as uploads."""
    project_id = api.create_project("media", recommended_label_config(["obj1"]))
    folder = label_studio.media_root / "media-test"
    folder.mkdir(parents=True)
    found: dict[str, list[str]] = {"local files": [], "uploads": []}
    headers = {"Authorization": f"Token {label_studio.token}"}
    for index, image in enumerate(images()):
        path = folder / f"{index:05d}.png"
        Image.fromarray(image).save(path)
        found["local files"].append(f"/data/local-files/?d=media-test/{path.name}")
        with path.open("rb") as file:
            uploaded = requests.post(
                f"{label_studio.url}/api/projects/{project_id}/import?commit_to_project=false",
                files={"file": (path.name, file, "image/png")},
                headers=headers,
                timeout=30,
            )
        uploaded.raise_for_status()
        (upload_id,) = uploaded.json()["file_upload_ids"]
        about = requests.get(f"{label_studio.url}/api/import/file-upload/{upload_id}", headers=headers, timeout=30)
        about.raise_for_status()
        found["uploads"].append(f"/data/{about.json()['file']}")
    api.add_local_storage(project_id, folder)
    return found


@pytest.fixture
def settings(tmp_path: Path, label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("IVOS_AUTH_DISABLED", "true")
    return Settings(cache_dir=tmp_path, label_studio_url=label_studio.url, fetch_retries=0)


@pytest.fixture
def fetcher(settings: Settings) -> Iterator[MediaFetcher]:
    fetcher = MediaFetcher(settings, settings.cache_dir / "frames")
    yield fetcher
    fetcher.close()


def frames_with(token: str, urls: list[str], settings: Settings, fetcher: MediaFetcher) -> TaskFrames:
    """The frames as a backend with this token in its settings reads them."""
    with_token = settings.model_copy(update={"label_studio_token": SecretStr(token)})
    connections = Connections(with_token, settings.cache_dir / "connections.json")
    return TaskFrames(urls, fetcher, connections.auth("1"))


@pytest.mark.parametrize("kind", ["local files", "uploads"])
@pytest.mark.parametrize("token", ["legacy", "personal"])
def test_frames_arrive_exactly(
    kind: str,
    token: str,
    addresses: dict[str, list[str]],
    label_studio: LabelStudioServer,
    personal_token: str,
    settings: Settings,
    fetcher: MediaFetcher,
) -> None:
    value = personal_token if token == "personal" else label_studio.token
    assert value.count(".") == (2 if token == "personal" else 0)
    frames = frames_with(value, addresses[kind], settings, fetcher)
    for index, image in enumerate(images()):
        np.testing.assert_array_equal(frames.frame(index), image)


@pytest.mark.parametrize("kind", ["local files", "uploads"])
@pytest.mark.parametrize("token", ["0" * 40, ""])
def test_a_wrong_token_says_what_to_do(
    kind: str, token: str, addresses: dict[str, list[str]], settings: Settings, fetcher: MediaFetcher
) -> None:
    frames = frames_with(token, addresses[kind], settings, fetcher)
    with pytest.raises(FrameError, match="IVOS_LABEL_STUDIO_TOKEN"):
        frames.frame(0)
