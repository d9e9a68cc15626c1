"""The REST client against the real Label Studio."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from ls_backend.demo.servers import LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI, LabelStudioError
from ls_backend.protocol.label_config import recommended_label_config
from tests.ports import free_port

REGION: dict[str, Any] = {
    "id": "obj1-00003",
    "from_name": "brush",
    "to_name": "video",
    "type": "brushlabels",
    "origin": "prediction",
    "item_index": 3,
    "original_width": 2,
    "original_height": 2,
    "value": {"format": "rle", "rle": [0, 1, 2], "brushlabels": ["obj1"]},
}


def frames(*names: str) -> dict[str, Any]:
    return {"data": {"frames": [f"/data/local-files/?d=api/{name}" for name in names]}}


@pytest.fixture(scope="module")
def project_id(api: LabelStudioAPI) -> int:
    return api.create_project("Calls of the client", recommended_label_config(["obj1"]))


def test_a_project_has_what_it_was_made_with(api: LabelStudioAPI, project_id: int) -> None:
    project = api.project(project_id)
    assert project["title"] == "Calls of the client"
    assert project["label_config"] == recommended_label_config(["obj1"])
    assert project["show_collab_predictions"] is False
    assert project_id in [known["id"] for known in api.projects()]
    changed = api.update_project(project_id, {"label_config": recommended_label_config(["obj1", "obj2"])})
    assert 'value="obj2"' in changed["label_config"]


def test_a_storage_serves_the_files_below_it(
    label_studio: LabelStudioServer, api: LabelStudioAPI, project_id: int
) -> None:
    folder = label_studio.media_root / "api"
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").write_bytes(b"not really an image")
    address = f"{label_studio.url}/data/local-files/?d=api/a.jpg"
    headers = {"Authorization": f"Token {label_studio.token}"}
    assert requests.get(address, headers=headers, timeout=10).status_code == 404
    storage_id = api.add_local_storage(project_id, folder)
    assert [(storage["id"], storage["path"]) for storage in api.local_storages(project_id)] == [
        (storage_id, str(folder))
    ]
    assert requests.get(address, headers=headers, timeout=10).content == b"not really an image"


def test_every_task_and_annotation_comes_once_over_many_pages(api: LabelStudioAPI) -> None:
    project_id = api.create_project("Many tasks", recommended_label_config(["obj1"]))
    assert list(api.tasks(project_id)) == []
    task_ids = api.import_tasks(project_id, [frames(f"{number}.jpg") for number in range(101)])
    assert len(set(task_ids)) == 101
    assert sorted(task["id"] for task in api.tasks(project_id)) == sorted(task_ids)
    annotated = {task_ids[0]: [REGION], task_ids[50]: [], task_ids[100]: [REGION, {**REGION, "id": "obj1-00004"}]}
    for task_id, result in annotated.items():
        api.create_annotation(task_id, result)
    read = {int(task["id"]): annotations for task, annotations in api.iter_project_annotations(project_id)}
    assert set(read) == set(task_ids)
    assert {task_id for task_id, annotations in read.items() if annotations} == set(annotated)
    for task_id, result in annotated.items():
        (annotation,) = read[task_id]
        assert annotation["result"] == result
        assert api.annotations(task_id)[0]["result"] == result


def test_a_prediction_is_kept_with_its_frame_number(api: LabelStudioAPI, project_id: int) -> None:
    (task_id,) = api.import_tasks(project_id, [frames("a.jpg")])
    prediction_id = api.create_prediction(task_id, [REGION], score=0.5, model_version="v1")
    (prediction,) = api.predictions(task_id)
    assert prediction["id"] == prediction_id
    assert prediction["result"] == [REGION]
    assert prediction["score"] == 0.5
    assert api.task(task_id)["data"] == frames("a.jpg")["data"]


def test_a_personal_access_token_works_like_a_legacy_one(
    label_studio: LabelStudioServer, api: LabelStudioAPI, personal_token: str
) -> None:
    personal = LabelStudioAPI(label_studio.url, personal_token)
    assert personal.whoami()["email"] == api.whoami()["email"] == label_studio.email


def test_refusals_say_what_happened_where_and_what_to_do(
    label_studio: LabelStudioServer, api: LabelStudioAPI, project_id: int
) -> None:
    with pytest.raises(
        LabelStudioError, match=r"/api/projects/999999/: Label Studio answered 404.*check the id"
    ) as caught:
        api.project(999_999)
    assert caught.value.status == 404
    with pytest.raises(LabelStudioError, match=r"answered 401.*check the token") as caught:
        LabelStudioAPI(label_studio.url, "0" * 40).whoami()
    assert caught.value.status == 401
    with pytest.raises(LabelStudioError, match="personal access token was refused"):
        LabelStudioAPI(label_studio.url, "a.b.c").whoami()
    with pytest.raises(LabelStudioError, match="at least 3 characters"):
        api.create_project("x", recommended_label_config(["obj1"]))
    with pytest.raises(LabelStudioError, match="health check failed"):
        api.connect_backend(project_id, f"http://127.0.0.1:{free_port()}", "user", "password")
    assert api.backends(project_id) == []


def test_where_nothing_listens_the_message_asks_whether_it_runs() -> None:
    nobody = LabelStudioAPI(f"http://127.0.0.1:{free_port()}", "0" * 40)
    with pytest.raises(LabelStudioError, match="is it running at") as caught:
        nobody.whoami()
    assert caught.value.status is None
