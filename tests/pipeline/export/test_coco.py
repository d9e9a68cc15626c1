from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from pycocotools.coco import COCO

from pipeline.export.clip import ExportedClip
from pipeline.export.coco import coco_dataset
from pipeline.types import BoolMask, RunLengthMask
from tests.clips import real_or_rendered
from tests.pipeline.export.clips import exported, random_clips


def loaded(clips: list[ExportedClip], folder: Path) -> COCO:
    """The dataset written as JSON and read by pycocotools."""
    names = {object_id: f"object {object_id}" for clip in clips for object_id in clip.masks}
    path = folder / "annotations.json"
    path.write_text(json.dumps(coco_dataset(clips, names)))
    return COCO(str(path))


def masklets(coco: COCO) -> dict[tuple[str, int], dict[int, BoolMask]]:
    """(clip name, object id) -> frame index -> mask, rebuilt from the extra keys alone."""
    video_names = {video["id"]: video["name"] for video in coco.dataset["videos"]}
    tracks: dict[int, dict[int, BoolMask]] = defaultdict(dict)
    owners: dict[int, tuple[str, int]] = {}
    for annotation in coco.dataset["annotations"]:
        track_id = annotation["track_id"]
        frame_index = coco.imgs[annotation["image_id"]]["frame_index"]
        assert frame_index not in tracks[track_id]
        tracks[track_id][frame_index] = coco.annToMask(annotation).astype(bool)
        owners.setdefault(track_id, (video_names[annotation["video_id"]], annotation["category_id"]))
        assert owners[track_id] == (video_names[annotation["video_id"]], annotation["category_id"])
    assert len(set(owners.values())) == len(owners)
    return {owners[track_id]: by_frame for track_id, by_frame in tracks.items()}


def test_real_masks_come_back_to_the_pixel(tmp_path: Path) -> None:
    two_objects = real_or_rendered("comp-bear-lucia", tmp_path)
    clips = [exported(two_objects, "first"), exported(two_objects, "second")]
    coco = loaded(clips, tmp_path)
    rebuilt = masklets(coco)
    assert sorted(rebuilt) == [("first", 1), ("first", 2), ("second", 1), ("second", 2)]
    for (_, object_id), by_frame in rebuilt.items():
        for frame_index in range(len(two_objects.labels)):
            expected = two_objects.mask(frame_index, object_id)
            assert (frame_index in by_frame) == expected.any()
            if expected.any():
                np.testing.assert_array_equal(by_frame[frame_index], expected)
    assert [video["length"] for video in coco.dataset["videos"]] == [len(two_objects.labels)] * 2
    assert coco.dataset["images"][0]["file_name"] == f"first/{two_objects.image_paths[0].name}"


@given(clip=random_clips())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_clip_comes_back_with_overlaps(clip: ExportedClip, tmp_path: Path) -> None:
    coco = loaded([clip], tmp_path)
    rebuilt = masklets(coco)
    assert {key[1] for key in rebuilt} == {object_id for object_id, by_frame in clip.masks.items() if by_frame}
    for (_, object_id), by_frame in rebuilt.items():
        assert set(by_frame) == set(clip.masks[object_id])
        for frame_index, mask in by_frame.items():
            np.testing.assert_array_equal(mask, clip.masks[object_id][frame_index].decode())
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        width_px, height_px = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert annotation["bbox"] == [columns.min(), rows.min(), width_px, height_px]
        assert annotation["area"] == len(rows)
        assert annotation["iscrowd"] == 0


def test_every_object_needs_a_category() -> None:
    mask = RunLengthMask.encode(np.ones((2, 2), dtype=np.bool_))
    with pytest.raises(ValueError, match=r"no category for the object ids \[2\]"):
        coco_dataset([ExportedClip("clip", ("0.jpg",), ((2, 2),), {2: {0: mask}})], {1: "one"})
