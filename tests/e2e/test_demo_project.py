"""The demo's project in the real Label Studio: whatever is repeated finds what was made before."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ls_backend.demo.clips import DemoClip, clip_from_frames
from ls_backend.demo.local_server import DemoError
from ls_backend.demo.project import DEFAULT_LABELS, TITLE, prepare_project
from ls_backend.demo.servers import BackendServer, LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI
from ls_backend.protocol.label_config import parse_label_config
from tests.ports import free_port


@pytest.fixture(scope="module")
def backend(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    with BackendServer(
        tmp_path_factory.mktemp("backend"),
        free_port(),
        user="label-studio",
        password=secrets.token_urlsafe(16),
        label_studio_url=label_studio.url,
        label_studio_token=label_studio.token,
    ) as server:
        yield server


def clip(media_root: Path, folder: Path, grey: int) -> DemoClip:
    source = folder / f"grey-{grey}"
    source.mkdir()
    Image.new("RGB", (32, 24), (grey, grey, grey)).save(source / "0.png")
    return clip_from_frames(media_root, source)


def test_repeating_finds_everything_and_changes_only_what_is_asked_for(
    label_studio: LabelStudioServer, api: LabelStudioAPI, backend: BackendServer, tmp_path: Path
) -> None:
    media_root = label_studio.media_root
    one, two = (clip(media_root, tmp_path, grey) for grey in (10, 20))

    def labels() -> tuple[str, ...]:
        return parse_label_config(api.project(first.project_id)["label_config"]).labels

    first = prepare_project(api, backend, one, media_root, ())
    assert labels() == DEFAULT_LABELS
    assert first.address("http://host").endswith(f"/projects/{first.project_id}/data?task={first.task_id}")

    assert prepare_project(api, backend, one, media_root, ()) == first

    other_clip = prepare_project(api, backend, two, media_root, ("swan",))
    assert (other_clip.project_id, other_clip.backend_id) == (first.project_id, first.backend_id)
    assert other_clip.task_id != first.task_id
    assert labels() == ("swan",)

    assert prepare_project(api, backend, one, media_root, ()) == first
    assert labels() == ("swan",)

    assert [project["title"] for project in api.projects()].count(TITLE) == 1
    assert {task["id"] for task in api.tasks(first.project_id)} == {first.task_id, other_clip.task_id}
    assert len(api.local_storages(first.project_id)) == 1
    assert len(api.webhooks(first.project_id)) == 1
    (connected,) = api.backends(first.project_id)
    assert connected["state"] == "CO"
    assert connected["auth_method"] == "BASIC_AUTH"


def test_doubled_labels_are_refused(
    label_studio: LabelStudioServer, api: LabelStudioAPI, backend: BackendServer, tmp_path: Path
) -> None:
    media_root = label_studio.media_root
    with pytest.raises(DemoError, match=r"--label: .*\['car', 'car'\]"):
        prepare_project(api, backend, clip(media_root, tmp_path, 30), media_root, ("car", "car"))


def test_a_database_with_other_secrets_is_explained(
    label_studio: LabelStudioServer, backend: BackendServer, tmp_path: Path
) -> None:
    media_root = label_studio.media_root
    stranger = LabelStudioAPI(label_studio.url, "0" * 40)
    with pytest.raises(DemoError, match=r"does not know the demo's token.*secrets\.json"):
        prepare_project(stranger, backend, clip(media_root, tmp_path, 40), media_root, ())
