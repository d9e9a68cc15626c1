"""Tasks become clips: which annotations, which masks, object ids, and names from addresses."""

from __future__ import annotations

import base64
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_backend.export.tasks import AnnotationChoice, ExportContents, clip_names, read_tasks, unique_folders
from ls_backend.protocol.label_config import parse_label_config, recommended_label_config
from ls_backend.protocol.regions import mask_to_brush_rle
from pipeline.types import BoolMask
from tests.ls_backend.stored_tasks import Json, annotation, brush_region, task

LEFT = np.array([[1, 0, 0], [1, 0, 0]], dtype=np.bool_)
RIGHT = np.array([[0, 0, 1], [0, 0, 1]], dtype=np.bool_)
NOTHING = np.zeros((2, 3), dtype=np.bool_)
WIDE = np.ones((2, 5), dtype=np.bool_)


def notices(contents: ExportContents) -> dict[str, int]:
    return {notice.text: notice.count for notice in contents.notices}


def one_clip(result: list[Json], n_frames: int = 3) -> tuple[dict[tuple[int, int], BoolMask], dict[str, int]]:
    """(object id, frame index) -> mask, and the notices, of one annotation."""
    read = read_tasks([task([annotation(result)], n_frames)])
    masks = {
        (object_id, frame_index): mask.decode()
        for clip in read.clips
        for object_id, by_frame in clip.masks.items()
        for frame_index, mask in by_frame.items()
    }
    return masks, notices(read)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_stored_masks_are_read_to_the_pixel(n_frames: int, n_objects: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 30, 2))
    stored = {
        (object_id, t): rng.random(shape) < rng.random()
        for object_id in range(1, n_objects + 1)
        for t in range(n_frames)
    }
    result = [brush_region(f"obj{object_id}", t, mask) for (object_id, t), mask in stored.items()]
    kept = {key: mask for key, mask in stored.items() if mask.any()}
    labels = sorted({object_id for object_id, _ in kept})
    masks, _ = one_clip(result, n_frames)
    assert set(masks) == {(labels.index(object_id) + 1, t) for object_id, t in kept}
    for (object_id, t), mask in kept.items():
        np.testing.assert_array_equal(masks[labels.index(object_id) + 1, t], mask)


def test_a_region_without_item_index_is_on_the_first_frame() -> None:
    masks, left = one_clip([brush_region("obj1", None, LEFT), brush_region("obj2", 0, RIGHT, item_index=None)])
    assert set(masks) == {(1, 0), (2, 0)}
    assert not left


def test_masks_of_one_label_and_frame_are_united() -> None:
    masks, left = one_clip([brush_region("obj1", 1, LEFT), brush_region("obj1", 1, RIGHT, id="other")])
    assert set(masks) == {(1, 1)}
    np.testing.assert_array_equal(masks[1, 1], LEFT | RIGHT)
    assert not left


def test_a_mask_with_two_labels_counts_for_both() -> None:
    region = brush_region("obj1", 0, LEFT)
    region["value"]["brushlabels"] = ["obj1", "obj2"]
    masks, _ = one_clip([region])
    assert set(masks) == {(1, 0), (2, 0)}


CLICK = {"type": "keypointlabels", "item_index": 0, "value": {"x": 1, "y": 2, "keypointlabels": ["obj1"]}}
STROKE = brush_region("obj1", 0, LEFT, value={"format": "rle", "touches": [{}], "brushlabels": ["obj1"]})


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (brush_region("obj1", 1, NOTHING), "empty mask (the object is not visible there)"),
        (CLICK, "point or box (a prompt, not a mask)"),
        # Label Studio's "keep label selected" stores each mask a second time under the click's control.
        (
            CLICK | {"value": {"rle": mask_to_brush_rle(LEFT), "keypointlabels": ["obj1"]}},
            "point or box (a prompt, not a mask)",
        ),
        (CLICK | {"type": "rectanglelabels"}, "point or box (a prompt, not a mask)"),
        (STROKE, "damaged region: relativePoints"),
        ({"type": "polygonlabels", "value": {}}, "polygonlabels (only brush masks are exported)"),
        ({"type": "textarea", "value": {"text": ["a"]}}, "textarea (only brush masks are exported)"),
        (brush_region("obj1", 3, LEFT), "mask on a frame that the task does not have (it has 3)"),
        (brush_region("obj1", 1, LEFT, item_index=-1), "damaged region: item_index"),
        (brush_region("obj1", 1, LEFT, original_width=4), "damaged region: the brush RLE holds 24 values"),
        (brush_region("obj1", 1, LEFT, original_height=0), "damaged region: original_height"),
        (brush_region("obj1", 1, LEFT, value={"brushlabels": ["obj1"]}), "damaged region: a brush region without rle"),
        (
            brush_region("obj1", 1, LEFT, value={"rle": "AAAA", "brushlabels": ["obj1"]}),
            "damaged region: rle must be a",
        ),
        (brush_region("obj1", 1, LEFT, value={"rle": mask_to_brush_rle(LEFT)}), "mask without a label"),
        (
            brush_region("obj1", 1, LEFT, value={"format": "mask", "rle": [1], "brushlabels": ["obj1"]}),
            "mask in the format 'mask'",
        ),
        (brush_region("obj2", 2, WIDE), "mask of 5x2 px on a frame whose first mask is 3x2 px"),
        ("not a region", "damaged region: region"),
        ({"value": {}}, "damaged region: type"),
    ],
)
def test_what_is_not_a_mask_is_reported_and_harms_nothing(region: Json, expected: str) -> None:
    masks, left = one_clip([brush_region("obj1", 2, LEFT), region])
    assert set(masks) == {(1, 2)}
    np.testing.assert_array_equal(masks[1, 2], LEFT)
    assert len(left) == 1
    (text, count) = left.popitem()
    assert text.startswith(expected)
    assert count == 1


def test_frames_of_different_sizes_keep_theirs_and_are_reported() -> None:
    regions = [brush_region("obj1", 0, LEFT), brush_region("obj1", 1, LEFT), brush_region("obj1", 2, WIDE)]
    read = read_tasks([task([annotation(regions)], n_frames=4)])
    assert read.clips[0].frame_sizes_hw_px == ((2, 3), (2, 3), (2, 5), (2, 3))
    assert notices(read) == {"frames of different sizes, each keeps its own: 3x2 px on 2 frames, 5x2 px on 1 frames": 1}


OLD = annotation([brush_region("obj1", 0, LEFT)], 1, ground_truth=True, updated_at="2026-11-20T09:00:00Z")
NEW = annotation([brush_region("obj1", 1, LEFT)], 2, updated_at="2026-11-20T11:00:00.5+00:00")
NEWEST_CANCELLED = annotation([brush_region("obj1", 2, LEFT)], 3, updated_at="2026-11-20T12:00:00Z", was_cancelled=True)


@pytest.mark.parametrize(
    ("choice", "expected", "n_others"),
    [
        (AnnotationChoice.LATEST, {"clip": 1}, 1),
        (AnnotationChoice.ALL, {"clip-task1-annotation1": 0, "clip-task1-annotation2": 1}, 0),
        (AnnotationChoice.GROUND_TRUTH, {"clip": 0}, 1),
    ],
)
def test_which_annotation_is_taken(choice: AnnotationChoice, expected: dict[str, int], n_others: int) -> None:
    read = read_tasks([task([NEW, NEWEST_CANCELLED, OLD])], choice)
    assert {clip.name: next(iter(clip.masks[1])) for clip in read.clips} == expected
    assert notices(read) == ({"further annotation of a task (--annotation chooses)": 1} if n_others else {})
    assert all(notice.is_expected for notice in read.notices)


def test_of_two_equally_old_annotations_the_higher_id_is_taken() -> None:
    read = read_tasks([task([annotation([brush_region("obj1", t, LEFT)], t) for t in (2, 1)])])
    assert set(read.clips[0].masks[1]) == {2}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (task([]), "task without a submitted annotation"),
        (task([NEWEST_CANCELLED]), "task whose annotations were all skipped by the annotator"),
        (task([annotation([])]), "annotation without a mask"),
        (task([NEW], data={"video": "a.mp4"}), "task without a list of frames"),
        (task([NEW], data={"frames": [1, 2]}), "task without a list of frames"),
        (task([NEW], data={}), "task without a list of frames"),
    ],
)
def test_a_task_with_nothing_to_export_is_reported(body: Json, expected: str) -> None:
    read = read_tasks([body, task([NEW], task_id=2)])
    assert [clip.name for clip in read.clips] == ["clip"]
    assert {(notice.task_id, notice.text) for notice in read.notices} == {("1", expected)}
    assert read.n_tasks == 2


def test_ground_truth_only_where_there_is_one() -> None:
    read = read_tasks([task([NEW])], AnnotationChoice.GROUND_TRUTH)
    assert notices(read) == {"task without an annotation that is ground-truth": 1}


def test_drafts_are_not_exported_but_reported() -> None:
    draft = {"id": 5, "result": [brush_region("obj1", 0, LEFT), STROKE, STROKE, CLICK]}
    read = read_tasks([task([NEW], drafts=[draft, 6])])
    assert set(read.clips[0].masks[1]) == {1}
    assert notices(read) == {
        "mask in a draft that is not submitted (open the task and submit it)": 1,
        "brush stroke in a draft that is not submitted (open the task and submit it)": 2,
        "draft that is not submitted (open the task and submit it)": 1,
    }
    assert not any(notice.is_expected for notice in read.notices)


def test_object_ids_follow_the_config_then_the_names() -> None:
    config = parse_label_config(recommended_label_config(["swan", "dog"]))
    regions = [brush_region(label, 0, LEFT) for label in ("obj10", "dog", "obj2")]
    read = read_tasks([task([annotation(regions)])], config=config)
    assert read.categories == {1: "swan", 2: "dog", 3: "obj2", 4: "obj10"}
    assert set(read.clips[0].masks) == {2, 3, 4}
    assert read_tasks([task([annotation(regions)])]).categories == {1: "dog", 2: "obj2", 3: "obj10"}


def test_object_ids_are_the_same_in_all_clips() -> None:
    tasks = [
        task([annotation([brush_region("obj2", 0, LEFT)])], task_id=1, folder="first"),
        task([annotation([brush_region("obj1", 0, RIGHT)])], task_id=2, folder="second"),
    ]
    assert {clip.name: set(clip.masks) for clip in read_tasks(tasks).clips} == {"first": {2}, "second": {1}}


def test_the_frames_are_those_the_config_names() -> None:
    xml = recommended_label_config(["obj1"]).replace("$frames", "$images")
    data = {"thumbnails": ["x/9.jpg"], "images": ["x/1.jpg", "x/2.jpg"]}
    read = read_tasks([task([NEW], data=data)], config=parse_label_config(xml))
    assert read.clips[0].frame_names == ("1.jpg", "2.jpg")


@pytest.mark.parametrize("body", ["text", {"id": 1, "frames": []}, {"data": {}, "annotations": []}])
def test_other_kinds_of_export_are_refused(body: object) -> None:
    with pytest.raises(ValueError, match="task 2 of the list does not look like Label Studio's JSON export"):
        read_tasks([task([NEW]), body])  # type: ignore[list-item]


BUCKET_URI = base64.urlsafe_b64encode(b"s3://bucket/clips/swan lake/00007.jpg").decode()


@pytest.mark.parametrize(
    ("url", "folder", "name"),
    [
        ("/data/local-files/?d=clips/blackswan/00000.jpg", "blackswan", "00000.jpg"),
        ("/data/local-files/?d=clips%5Cblackswan%5C00000.jpg", "blackswan", "00000.jpg"),
        ("http://host/prefix/data/local-files/?d=a/b/c.png", "b", "c.png"),
        ("/data/upload/12/1a2b3c4d-00000.jpg", "", "00000.jpg"),
        ("/data/upload/12/1a2b3c4d-frame%20one.jpg", "", "frame one.jpg"),
        ("https://host/clips/dog/00010.jpg?X-Amz-Signature=abc", "dog", "00010.jpg"),
        ("s3://bucket/clips/dog/00010.jpg", "dog", "00010.jpg"),
        (f"/tasks/5/resolve/?fileuri={BUCKET_URI}", "swan lake", "00007.jpg"),
        ("/tasks/5/resolve/?fileuri=%%%", "", "00000"),
        ("https://host/clips/..%2F..%2Fetc/passwd", "etc", "passwd"),
        ("https://host/clips/a:b/c*d.jpg", "a_b", "c_d.jpg"),
        ("https://host/Schwäne/größe.jpg", "Schwäne", "größe.jpg"),
        ("", "", "00000"),
    ],
)
def test_names_from_one_address(url: str, folder: str, name: str) -> None:
    names = clip_names([url])
    assert (names.folder, names.frame_names) == (folder, (name,))


def test_frames_from_several_folders_have_no_common_one() -> None:
    assert clip_names(["http://host/a/1.jpg", "http://host/b/2.jpg"]).folder == ""


@pytest.mark.parametrize(
    "urls",
    [
        ["http://host/a/frame.jpg", "http://host/b/frame.jpg"],
        ["http://host/a/frame.jpg", "http://host/a/FRAME.jpg"],
        ["http://host/a/frame.jpg", "http://host/a/frame.png"],
    ],
)
def test_frames_whose_stems_repeat_are_numbered(urls: list[str]) -> None:
    names = clip_names(urls)
    assert names.numbered
    assert [PurePosixPath(name).stem for name in names.frame_names] == ["00000", "00001"]
    assert [PurePosixPath(name).suffix for name in names.frame_names] == [PurePosixPath(url).suffix for url in urls]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_no_address_leaves_its_folder(texts: list[str]) -> None:
    try:
        names = clip_names([f"http://host/{text}" for text in texts])
    except ValueError:
        return  # Not an address at all, by the standard library's judgement.
    for name in (*names.frame_names, names.folder or "folder"):
        assert name
        assert name not in (".", "..")
        assert not set(name) & set('/\\:*?"<>|\0\n')
    stems = [PurePosixPath(name).stem.casefold() for name in names.frame_names]
    assert len(set(stems)) == len(stems) == len(texts)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["dog", "swan"], ["dog", "swan"]),
        (["dog", "dog", "swan"], ["dog-task1", "dog-task2", "swan"]),
        (["dog", "DOG"], ["dog-task1", "DOG-task2"]),
        (["", ""], ["task1", "task2"]),
        (["dog", "dog", "dog-task2"], ["dog-task1", "dog-task2_", "dog-task2"]),
    ],
)
def test_folders_of_an_export_are_unique(folders: list[str], expected: list[str]) -> None:
    suffixes = [f"task{number}" for number in range(1, len(folders) + 1)]
    assert unique_folders(folders, suffixes) == expected
