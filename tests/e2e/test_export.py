"""`ivos export` against the real Label Studio: what was stored through its API comes out to the pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from ls_backend.cli.main import app
from ls_backend.demo.servers import LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI
from ls_backend.protocol.label_config import recommended_label_config
from tests.clips import Clip, real_or_rendered
from tests.ls_backend.stored_tasks import brush_region

EXTRA = {"meta": {"prompt": {"pos": True}}, "type": "keypointlabels", "from_name": "pos"}


def regions(clip: Clip) -> list[dict[str, object]]:
    """The ground truth of all objects, empty masks too, and an echoed click."""
    masks = [
        brush_region(f"obj{object_id}", t, clip.mask(t, object_id))
        for object_id in range(1, int(clip.labels.max()) + 1)
        for t in range(len(clip.labels))
    ]
    click = {"x": 50.0, "y": 50.0, "width": 0.3, "keypointlabels": ["obj1"]}
    return [*masks, masks[0] | EXTRA | {"id": "click", "value": click}]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return real_or_rendered("comp-bear-lucia", tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def project_id(label_studio: LabelStudioServer, api: LabelStudioAPI, clip: Clip) -> int:
    """A project with one annotated task, one that a draft alone belongs to, and one nobody touched."""
    n_objects = int(clip.labels.max())
    # The labels stand in the config in the opposite order of their names, so that the order of the ids shows.
    labels = [f"obj{object_id}" for object_id in range(n_objects, 0, -1)]
    project_id = api.create_project("export", recommended_label_config(labels))
    frames = [f"/data/local-files/?d={clip.name}/{path.name}" for path in clip.image_paths]
    task_ids = api.import_tasks(project_id, [{"data": {"frames": frames}}] * 3)
    api.create_annotation(task_ids[0], [brush_region("obj1", 0, ~clip.mask(0))])
    api.create_annotation(task_ids[0], regions(clip))
    draft = {"result": regions(clip)[:2], "lead_time": 1}
    login = {"Authorization": f"Token {label_studio.token}"}
    address = f"{label_studio.url}/api/tasks/{task_ids[1]}/drafts"
    requests.post(address, json=draft, headers=login, timeout=30).raise_for_status()
    return project_id


def test_exported_equals_stored(label_studio: LabelStudioServer, project_id: int, clip: Clip, tmp_path: Path) -> None:
    output = tmp_path / "out"
    server = ["--url", label_studio.url, "--token", label_studio.token]
    arguments = ["export", "--project", str(project_id), "--output", str(output), *server]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output

    n_objects = int(clip.labels.max())
    config_ids = {f"obj{object_id}": n_objects + 1 - object_id for object_id in range(1, n_objects + 1)}
    assert json.loads((output / "davis" / "objects.json").read_text()) == {
        str(object_id): label for label, object_id in config_ids.items()
    }
    for t, path in enumerate(clip.image_paths):
        expected = np.zeros_like(clip.labels[t])
        for object_id in range(1, n_objects + 1):
            expected[clip.mask(t, object_id)] = config_ids[f"obj{object_id}"]
        with Image.open(output / "davis" / "Annotations" / clip.name / f"{path.stem}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), expected)

    coco = COCO(str(output / "coco" / "annotations.json"))
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    decoded = {
        (names[entry["category_id"]], coco.imgs[entry["image_id"]]["frame_index"]): coco.annToMask(entry)
        for entry in coco.dataset["annotations"]
    }
    for object_id in range(1, n_objects + 1):
        for t in range(len(clip.labels)):
            expected = clip.mask(t, object_id)
            assert ((f"obj{object_id}", t) in decoded) == expected.any()
            if expected.any():
                np.testing.assert_array_equal(decoded[f"obj{object_id}", t], expected)

    assert "1 of 3 tasks" in result.output
    for words in (
        "mask in a draft that is not submitted",
        "task without a submitted annotation",
        "point or box (a prompt, not a mask)",
        "further annotation of a task",
    ):
        assert words in result.output, words


def test_label_studios_own_json_export_reads_the_same(
    label_studio: LabelStudioServer, project_id: int, clip: Clip, tmp_path: Path
) -> None:
    address = f"{label_studio.url}/api/projects/{project_id}/export?exportType=JSON"
    answer = requests.get(address, headers={"Authorization": f"Token {label_studio.token}"}, timeout=60)
    file = tmp_path / "export.json"
    file.write_bytes(answer.content)
    output = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", "--from-json", str(file), "-o", str(output)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    # Without the config, ids follow the names, as the ground truth's do.
    for path, labels in zip(clip.image_paths, clip.labels, strict=True):
        with Image.open(output / "davis" / "Annotations" / clip.name / f"{path.stem}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), labels)


@pytest.mark.parametrize(("token", "project", "message"), [("0" * 40, None, "401"), (None, 987654, "404")])
def test_refusals_are_explained(
    label_studio: LabelStudioServer,
    project_id: int,
    token: str | None,
    project: int | None,
    message: str,
    tmp_path: Path,
) -> None:
    server = ["--url", label_studio.url, "--token", token or label_studio.token]
    arguments = ["export", "--project", str(project or project_id), "-o", str(tmp_path / "out"), *server]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert f"Label Studio answered {message}" in result.output
    assert not (tmp_path / "out").exists()
