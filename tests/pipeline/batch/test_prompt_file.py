"""The prompts file: its schema, its errors, and the prompts it becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.batch.prompt_file import PromptFile, PromptFileError, json_schema, pipeline_prompts, read_prompt_file
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt

SIZE_HW_PX = (24, 32)
N_FRAMES = 10
POINT = {"frame_index": 0, "point_xy_px": [4, 5.5]}
BOX = {"frame_index": 3, "box_xyxy_px": [1, 2, 30, 20]}
SCRIBBLE = {"frame_index": 4, "scribble_xy_px": [[3, 4], [10.5, 6]], "width_px": 3, "positive": False}


def body(*prompts: Any, **of_object: Any) -> dict[str, Any]:
    """A file with one object."""
    return {"version": 1, "objects": [{"object_id": 1, "prompts": list(prompts), **of_object}]}


def written(folder: Path, content: Any) -> Path:
    path = folder / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(folder: Path, content: Any) -> tuple[Prompt, ...]:
    """Through both steps."""
    path = written(folder, content)
    return pipeline_prompts(read_prompt_file(path), path, n_frames=N_FRAMES, size_hw_px=SIZE_HW_PX)


def labels_png(path: Path, labels: np.ndarray, mode: str | None = None) -> str:
    image = Image.fromarray(labels)
    (image.convert(mode) if mode else image).save(path)
    return path.name


def test_all_kinds_become_pipeline_prompts(tmp_path: Path) -> None:
    labels = np.zeros(SIZE_HW_PX, np.uint8)
    labels[5:9, 6:12] = 1
    name = labels_png(tmp_path / "mask.png", labels)
    negative = {"frame_index": 9, "point_xy_px": [32, 24], "positive": False}
    dot = {"frame_index": 5, "scribble_xy_px": [[3, 4]]}
    mask_entry = {"frame_index": 2, "mask_png": name}
    prompts = read(tmp_path, body(POINT, BOX, negative, SCRIBBLE, dot, mask_entry, name="swan"))
    assert prompts[:5] == (
        PointPrompt(1, 0, 4.0, 5.5, True),
        BoxPrompt(1, 3, (1.0, 2.0, 30.0, 20.0)),
        PointPrompt(1, 9, 32.0, 24.0, False),
        ScribblePrompt(1, 4, ((3.0, 4.0), (10.5, 6.0)), 3.0, False),
        ScribblePrompt(1, 5, ((3.0, 4.0),), 10.0, True),
    )
    mask = prompts[5]
    assert isinstance(mask, MaskPrompt)
    assert (mask.object_id, mask.frame_index) == (1, 2)
    np.testing.assert_array_equal(mask.mask.decode(), labels == 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([], "expected an object"),
        ({"objects": body(POINT)["objects"]}, "version: missing"),
        ({**body(POINT), "version": 2}, "version: expected 1, but got 2"),
        ({**body(POINT), "fps": 25}, "fps: unknown key"),
        ({"version": 1, "objects": []}, "objects: expected at least one entry"),
        (body(), r"objects\[0\]\.prompts: expected at least one entry"),
        (body(POINT, object_id=0), r"objects\[0\]\.object_id: expected greater than or equal to 1, but got 0"),
        (body(POINT, object_id=256), r"objects\[0\]\.object_id: expected less than or equal to 255, but got 256"),
        (body(POINT, object_id="1"), r"objects\[0\]\.object_id: expected a valid integer, but got '1'"),
        (body(POINT, colour="red"), r"objects\[0\]\.colour: unknown key"),
        (
            {"version": 1, "objects": body(POINT)["objects"] * 2},
            r"objects\[1\]: object_id 1 is taken; expected every id once",
        ),
        (body(POINT, 7), r"objects\[0\]\.prompts\[1\]: expected an object with frame_index and exactly one of .*got 7"),
        (
            body({"frame_index": 0}),
            r"prompts\[0\]: .*exactly one of point_xy_px, box_xyxy_px, scribble_xy_px, mask_png",
        ),
        (body({**POINT, **BOX}), r"prompts\[0\]: .*exactly one of point_xy_px, box_xyxy_px, scribble_xy_px, mask_png"),
        (body({"point_xy_px": [1, 2]}), r"prompts\[0\]\.frame_index: missing"),
        (body({**POINT, "frame_index": -1}), r"prompts\[0\]\.frame_index: expected greater than or equal to 0.* -1"),
        (body({**POINT, "frame_index": 0.5}), r"prompts\[0\]\.frame_index: expected a valid integer.* 0\.5"),
        (body(POINT, {**POINT, "positve": True}), r"prompts\[1\]\.positve: unknown key"),
        (body({**POINT, "positive": 1}), r"prompts\[0\]\.positive: expected a valid boolean, but got 1"),
        (body({**BOX, "positive": True}), r"prompts\[0\]\.positive: unknown key"),
        (body({**POINT, "point_xy_px": [1]}), r"prompts\[0\]\.point_xy_px\[1\]: missing"),
        (body({**POINT, "point_xy_px": [1, "2"]}), r"prompts\[0\]\.point_xy_px\[1\]: .*valid number, but got '2'"),
        (body({**BOX, "box_xyxy_px": [1, 2, 3, float("nan")]}), r"box_xyxy_px\[3\]: expected a finite number"),
        (body({**SCRIBBLE, "scribble_xy_px": []}), r"prompts\[0\]\.scribble_xy_px: expected at least one entry"),
        (body({**SCRIBBLE, "scribble_xy_px": [[1, 2], [3]]}), r"scribble_xy_px\[1\]\[1\]: missing"),
        (body({**SCRIBBLE, "scribble_xy_px": [[1, None]]}), r"scribble_xy_px\[0\]\[1\]: .*valid number, but got None"),
        (body({**SCRIBBLE, "width_px": 0}), r"prompts\[0\]\.width_px: expected greater than 0, but got 0"),
        (body({**POINT, "width_px": 3}), r"prompts\[0\]\.width_px: unknown key"),
    ],
)
def test_errors_name_file_and_place(content: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(PromptFileError, match=message) as caught:
        read_prompt_file(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert "more)" not in said, "one fault is one fault"


def test_further_errors_are_counted(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=r"version: expected 1, but got 2 \(and 1 more\)"):
        read_prompt_file(written(tmp_path, {**body(POINT), "version": 2, "fps": 3}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=r"absent\.json cannot be read: No such file"):
        read_prompt_file(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([POINT, {**POINT, "frame_index": 10}], r"prompts\[1\]: .*frame 10, but the clip has frames 0 to 9"),
        ([{**POINT, "point_xy_px": [33, 5]}], r"prompts\[0\]: .*outside the image; x must be in \[0, 32\]"),
        ([{**BOX, "box_xyxy_px": [5, 2, 5, 20]}], r"prompts\[0\]: .*0 <= x0 < x1 <= 32"),
        ([{**BOX, "box_xyxy_px": [5, 2, 9, 25]}], r"prompts\[0\]: .*0 <= y0 < y1 <= 24"),
        ([{**SCRIBBLE, "scribble_xy_px": [[1, 2], [1, 25]]}], r"prompts\[0\]: .*outside the image; .* y in \[0, 24\]"),
        (
            [{**POINT, "positive": False}, SCRIBBLE],
            "nothing says where object 1 is; expected a positive point or scrib",
        ),
    ],
)
def test_prompts_outside_the_clip_are_refused(prompts: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=r"prompts\.json: objects\[0\]" + ".*" + message):
        read(tmp_path, body(*prompts))


VALUES = np.zeros(SIZE_HW_PX, np.uint8)
VALUES[2:6, 2:6] = 1
VALUES[8:12, 8:12] = 2


@pytest.mark.parametrize(
    ("labels", "mode", "expected"),
    [
        (VALUES, None, VALUES == 1),
        (VALUES, "P", VALUES == 1),
        (VALUES.astype(np.uint16), None, VALUES == 1),
        (VALUES * 127, None, r"has the values 127, 254; expected 1, the object_id"),
        (np.where(VALUES > 0, 255, 0).astype(np.uint8), None, VALUES > 0),
        (np.where(VALUES > 0, 255, 0).astype(np.uint8), "1", VALUES > 0),
        (np.where(VALUES == 2, 2, 0).astype(np.uint8), None, r"has the values 2; expected 1, the object_id"),
        (VALUES * 0, None, VALUES > 2),
        (VALUES, "RGB", "has the colour mode RGB; expected a palette, grey or black-and-white PNG"),
        (VALUES[:-1], None, r"the mask prompt of object 1 on frame 0 is 32x23 px, but the video is 32x24 px"),
    ],
)
def test_which_pixels_of_a_png_are_the_object(
    labels: np.ndarray, mode: str | None, expected: np.ndarray | str, tmp_path: Path
) -> None:
    name = labels_png(tmp_path / "mask.png", labels, mode)
    content = body({"frame_index": 0, "mask_png": name}, BOX)
    content["objects"].append({"object_id": 2, "prompts": [POINT]})
    if isinstance(expected, str):
        with pytest.raises(PromptFileError, match=r"objects\[0\]\.prompts\[0\]: .*" + expected):
            read(tmp_path, content)
        return
    found = read(tmp_path, content)[0]
    assert isinstance(found, MaskPrompt)
    np.testing.assert_array_equal(found.mask.decode(), expected)


def test_invalid_masks(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "mask.jpg")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    labels_png(tmp_path / "good.png", VALUES)
    labels_png(tmp_path / "empty.png", VALUES * 0)
    for names, message in {
        ("absent.png",): "absent.png: No such file or directory",
        ("mask.jpg",): "mask.jpg: not a readable PNG",
        ("damaged.png",): "damaged.png: not a readable PNG",
        (".",): "Is a directory",
        ("good.png", "good.png"): r"prompts\[1\]: a second mask on frame 0; expected one at most",
        ("empty.png",): "nothing says where object 1 is",
    }.items():
        with pytest.raises(PromptFileError, match=message):
            read(tmp_path, body(*({"frame_index": 0, "mask_png": name} for name in names)))


numbers = st.floats(0, 24, allow_nan=False)
frame_indices = st.integers(0, N_FRAMES - 1)
points = st.fixed_dictionaries(
    {"frame_index": frame_indices, "point_xy_px": st.tuples(numbers, numbers).map(list)},
    optional={"positive": st.booleans()},
)
boxes = st.fixed_dictionaries(
    {
        "frame_index": frame_indices,
        "box_xyxy_px": st.tuples(st.floats(0, 9), st.floats(0, 9), st.floats(10, 24), st.floats(10, 24)).map(list),
    }
)
scribbles = st.fixed_dictionaries(
    {
        "frame_index": frame_indices,
        "scribble_xy_px": st.lists(st.tuples(numbers, numbers).map(list), min_size=1, max_size=5),
    },
    optional={"positive": st.booleans(), "width_px": st.floats(0.5, 50)},
)
files = st.lists(
    st.fixed_dictionaries(
        {
            "object_id": st.integers(1, 255),
            "prompts": st.tuples(boxes, st.lists(st.one_of(points, boxes, scribbles), max_size=4)).map(
                lambda t: [t[0], *t[1]]
            ),
        },
        optional={"name": st.text(max_size=5)},
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda entry: entry["object_id"],
).map(lambda objects: {"version": 1, "objects": objects})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files)
def test_valid_files_survive_a_round_trip(tmp_path: Path, content: dict[str, Any]) -> None:
    path = written(tmp_path, content)
    file = read_prompt_file(path)
    assert PromptFile.model_validate_json(file.model_dump_json()) == file
    prompts = pipeline_prompts(file, path, n_frames=N_FRAMES, size_hw_px=SIZE_HW_PX)
    expected = [
        (entry["object_id"], given["frame_index"]) for entry in content["objects"] for given in entry["prompts"]
    ]
    assert [(prompt.object_id, prompt.frame_index) for prompt in prompts] == expected


def test_the_schema_names_every_key_and_forbids_others() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {"version", "objects"}
    assert set(schema["$defs"]) == {"FileObject", "FilePoint", "FileBox", "FileScribble", "FileMask"}
    assert all(part["additionalProperties"] is False for part in [schema, *schema["$defs"].values()])
