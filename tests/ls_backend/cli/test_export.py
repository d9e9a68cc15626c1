"""`ivos export` as a user runs it, from a JSON export and from the API."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner, Result

from ls_backend.cli.main import app
from tests.clips import Clip, real_or_rendered
from tests.ls_backend.stored_tasks import Json, annotation, brush_region, task

LEFT = np.array([[1, 1, 0], [1, 0, 0]], dtype=np.bool_)
ALL_SET = np.ones((2, 3), dtype=np.bool_)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IVOS_")]:
        monkeypatch.delenv(name)


def export(*arguments: str | Path) -> Result:
    """Run the command with a screen wide enough that no message is wrapped."""
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "200"})


def stored(clip: Clip, task_id: int = 1) -> Json:
    """A test clip's ground truth as an annotated task, one region per object and frame, empty ones too."""
    regions = [
        brush_region(f"obj{object_id}", t, clip.mask(t, object_id))
        for object_id in range(1, int(clip.labels.max()) + 1)
        for t in range(len(clip.labels))
    ]
    frames = [f"/data/local-files/?d={clip.name}/{path.name}" for path in clip.image_paths]
    return task([annotation(regions)], task_id=task_id, data={"frames": frames})


def written(folder: Path, body: object) -> Path:
    """A JSON export."""
    file = folder / "export.json"
    file.write_text(json.dumps(body))
    return file


def assert_equal_to_the_pixel(output: Path, clip: Clip) -> None:
    """Both formats hold what the clip's ground truth says."""
    for path, labels in zip(clip.image_paths, clip.labels, strict=True):
        with Image.open(output / "davis" / "Annotations" / clip.name / f"{path.stem}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), labels)
    coco = COCO(str(output / "coco" / "annotations.json"))
    seen = 0
    for image in coco.dataset["images"]:
        for entry in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            expected = clip.mask(image["frame_index"], entry["category_id"])
            np.testing.assert_array_equal(coco.annToMask(entry), expected)
            seen += 1
    n_visible = sum(
        int(np.any(clip.labels[t] == k)) for k in range(1, clip.labels.max() + 1) for t in range(len(clip.labels))
    )
    assert seen == n_visible


@pytest.mark.parametrize("name", ["comp-camel-dog-scooter", "libby"])
def test_real_masks_come_out_to_the_pixel(name: str, tmp_path: Path) -> None:
    whole = real_or_rendered(name, tmp_path)
    clip = Clip(whole.name, whole.image_paths[3::4], whole.labels[3::4])
    output = tmp_path / "out"
    result = export("--from-json", written(tmp_path, [stored(clip)]), "--output", output)
    assert result.exit_code == 0, result.output
    assert_equal_to_the_pixel(output, clip)
    n_objects = int(clip.labels.max())
    names = {str(object_id): f"obj{object_id}" for object_id in range(1, n_objects + 1)}
    assert json.loads((output / "davis" / "objects.json").read_text()) == names
    assert "1 of 1 tasks" in result.output
    assert sorted(path.name for path in output.iterdir()) == ["coco", "davis"]


def test_overlaps_are_warned_about_and_coco_keeps_them(tmp_path: Path) -> None:
    regions = [brush_region("obj1", 0, ALL_SET), brush_region("obj2", 0, LEFT)]
    result = export("--from-json", written(tmp_path, [task([annotation(regions)])]), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "3 pixels belong to several masks" in result.output
    coco = COCO(str(tmp_path / "out" / "coco" / "annotations.json"))
    areas = {entry["category_id"]: entry["area"] for entry in coco.dataset["annotations"]}
    assert areas == {1: 6, 2: 3}


@pytest.mark.parametrize("name", ["davis", "coco"])
def test_one_format_alone(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, [task([annotation([brush_region("obj1", 0, LEFT)])])])
    assert export("--from-json", file, "-o", tmp_path / "out", "--format", name).exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_what_is_not_exported_is_shown(tmp_path: Path) -> None:
    stroke = brush_region("obj1", 1, LEFT, value={"touches": [{}], "brushlabels": ["obj1"]})
    tasks = [task([annotation([brush_region("obj1", 0, LEFT), stroke])]), *(task([], task_id=n) for n in range(2, 10))]
    result = export("--from-json", written(tmp_path, tasks), "-o", tmp_path / "out")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert any({"damaged", "region:", "relativePoints:"} <= set(line) for line in lines)
    assert any("submitted" in line and "8" in line and "2," in line and "more" in line for line in lines)
    assert "1 of 9 tasks" in result.output


def test_an_earlier_export_is_kept_unless_overwriting(tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = written(tmp_path, [task([annotation([brush_region("obj1", 0, LEFT)])], folder="first")])
    assert export("--from-json", first, "-o", output).exit_code == 0
    (output / "mine.txt").write_text("kept")
    second = written(tmp_path, [task([annotation([brush_region("obj1", 0, LEFT)])], folder="second")])
    refused = export("--from-json", second, "-o", output)
    assert refused.exit_code == 1
    assert "is not empty" in refused.output
    assert [path.name for path in (output / "davis" / "Annotations").iterdir()] == ["first"]
    assert export("--from-json", second, "-o", output, "--overwrite").exit_code == 0
    assert [path.name for path in (output / "davis" / "Annotations").iterdir()] == ["second"]
    assert sorted(path.name for path in output.iterdir()) == ["coco", "davis", "mine.txt"]


def test_a_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    output = tmp_path / "out"
    good = [brush_region("obj0", 0, LEFT)]
    assert export("--from-json", written(tmp_path, [task([annotation(good)])]), "-o", output).exit_code == 0
    before = sorted(path.relative_to(output) for path in output.rglob("*"))
    too_many = [brush_region(f"obj{number}", 0, LEFT) for number in range(256)]
    failed = export("--from-json", written(tmp_path, [task([annotation(too_many)])]), "-o", output, "--overwrite")
    assert failed.exit_code == 1
    assert "up to 255" in failed.output
    assert sorted(path.relative_to(output) for path in output.rglob("*")) == before


ADDRESS = ("--project", "1", "--url", "http://127.0.0.1:8399", "--token", "0" * 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --project ID"),
        (("--project", "1"), "address (--url or IVOS_LABEL_STUDIO_URL) is not given"),
        (ADDRESS[:4], "token (--token or IVOS_LABEL_STUDIO_TOKEN) is not given"),
        (ADDRESS, "Label Studio does not answer"),
        (("--from-json", "absent.json"), "absent.json cannot be read: No such file or directory"),
        (("--from-json", __file__), "is not JSON"),
        (("--from-json", __file__, "--project", "1"), "give one of them"),
    ],
)
def test_errors_say_what_to_do(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = export(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tasks": []}, "expected Label Studio's JSON export, a list"),
        ([{"id": 1, "frames": []}], "does not look like Label Studio's JSON export"),
        ([], "none of the 0 tasks has a submitted mask"),
        ([task([])], "none of the 1 tasks has a submitted mask"),
    ],
)
def test_files_with_nothing_to_export(body: object, message: str, tmp_path: Path) -> None:
    result = export("--from-json", written(tmp_path, body), "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_the_output_must_be_a_folder(tmp_path: Path) -> None:
    result = export("--from-json", written(tmp_path, []), "-o", tmp_path / "export.json")
    assert result.exit_code == 1
    assert "is a file" in result.output


def test_settings_are_read_without_the_backends_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IVOS_LABEL_STUDIO_URL", "http://127.0.0.1:8399")
    monkeypatch.setenv("IVOS_LABEL_STUDIO_TOKEN", "0" * 40)
    monkeypatch.setenv("IVOS_PORT", "9399")
    assert "http://127.0.0.1:8399" in export("--project", "1", "-o", tmp_path / "out").output
    monkeypatch.setenv("IVOS_LABEL_STUDIO_ULR", "typo")
    assert "unknown setting IVOS_LABEL_STUDIO_ULR" in export("--project", "1", "-o", tmp_path / "out").output
