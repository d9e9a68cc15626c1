"""Clips and ground truth from folders in the layout of DAVIS; long clips made of short ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.evaluation.datasets import ClipFiles, DatasetError, LongClip, Objects, find_clips, read_truth
from pipeline.video.frames import frame_identity
from tests.clips import DAVIS, davis, has_shared_clips
from tests.pipeline.evaluation.davis_folder import write_clip


def labels_with(*values: int) -> NDArray[np.uint8]:
    """Two frames of 40x20 px: background, and a stripe of each value on the first one."""
    labels = np.zeros((2, 20, 40), np.uint8)
    for row, value in enumerate(values):
        labels[0, 2 * row : 2 * row + 2] = value
    return labels


@pytest.mark.parametrize(
    ("values", "palette", "objects", "object_ids"),
    [
        ((255,), False, Objects.AUTO, (1,)),
        ((255,), True, Objects.AUTO, (1,)),
        ((1,), True, Objects.AUTO, (1,)),
        ((1, 2, 3), True, Objects.AUTO, (1, 2, 3)),
        ((1, 2), False, Objects.AUTO, (1, 2)),
        ((1, 2, 255), True, Objects.AUTO, (1, 2)),
        ((2, 5), True, Objects.AUTO, (2, 5)),
        ((38, 75, 255), False, Objects.AUTO, (1,)),
        ((1, 2, 3), True, Objects.SINGLE, (1,)),
        ((38, 75), False, Objects.INDEXED, (38, 75)),
    ],
)
def test_what_the_values_mean(
    tmp_path: Path, values: tuple[int, ...], palette: bool, objects: Objects, object_ids: tuple[int, ...]
) -> None:
    labels = labels_with(*values)
    write_clip(tmp_path, "clip", labels, palette=palette)
    truth = read_truth(find_clips(tmp_path)[0], objects)
    assert truth.object_ids == object_ids
    if len(object_ids) > 1 or object_ids == (labels.max(),):
        for object_id in object_ids:
            assert (truth.mask(0, object_id) == (labels[0] == object_id)).all()
        assert not np.isin(truth.labels, (0, *object_ids), invert=True).any()
    else:
        assert (truth.mask(0, 1) == (labels[0] > 0)).all()
    assert truth.areas_px().shape == (2, len(object_ids))
    assert truth.areas_px()[1].sum() == 0


def test_real_clips_are_read_as_the_tests_know_them(tmp_path: Path) -> None:
    data, names = DAVIS, ["blackswan", "comp-camel-dog-scooter"]
    if not has_shared_clips():
        data, names = tmp_path, ["a"]
        write_clip(data, "a", labels_with(1, 2))
    for clip in find_clips(data, names):
        truth = read_truth(clip)
        if data == DAVIS:
            known = davis(clip.name)
            assert (truth.labels == known.labels).all()
            assert clip.image_paths == known.image_paths
        assert clip.size_hw_px == truth.labels.shape[1:]
        assert truth.object_ids == tuple(range(1, int(truth.labels.max()) + 1))
        assert clip.frames.frame(1).shape[:2] == clip.size_hw_px


def test_clips_come_in_the_order_asked_for_or_by_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_clip(tmp_path, name, labels_with(1))
    assert [clip.name for clip in find_clips(tmp_path)] == ["a", "b", "c"]
    assert [clip.name for clip in find_clips(tmp_path, ["c", "a", "c"])] == ["c", "a"]


@pytest.mark.parametrize("resolution", ["", "480p", "Full-Resolution"])
def test_any_single_resolution_will_do(tmp_path: Path, resolution: str) -> None:
    write_clip(tmp_path, "clip", labels_with(1), resolution=resolution)
    assert [clip.name for clip in find_clips(tmp_path)] == ["clip"]


def test_of_several_resolutions_480p_is_taken(tmp_path: Path) -> None:
    for resolution in ("Full-Resolution", "480p"):
        write_clip(tmp_path, resolution, labels_with(1), resolution=resolution)
    assert [clip.name for clip in find_clips(tmp_path)] == ["480p"]


def spoil_missing_mask(data: Path) -> None:
    (data / "Annotations" / "480p" / "clip" / "00001.png").unlink()


def spoil_size(data: Path) -> None:
    Image.new("L", (40, 21)).save(data / "Annotations" / "480p" / "clip" / "00001.png")


def spoil_image(data: Path) -> None:
    (data / "JPEGImages" / "480p" / "clip" / "00001.jpg").write_bytes(b"no image")


def spoil_images_folder(data: Path) -> None:
    (data / "JPEGImages").rename(data / "images")


def spoil_masks(data: Path) -> None:
    for path in (data / "Annotations" / "480p" / "clip").iterdir():
        Image.new("P", (40, 20)).save(path)


def spoil_resolutions(data: Path) -> None:
    write_clip(data, "clip", labels_with(1), resolution="1080p")
    (data / "JPEGImages" / "480p").rename(data / "JPEGImages" / "720p")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing_mask, r"clip clip: expected a mask for every frame, but 2 frames and 1 masks .* 00001"),
        (spoil_size, r"00001.png is 40x21 px, but the clip's first frame is 40x20 px"),
        (spoil_image, r"00001.jpg is not a readable image"),
        (spoil_images_folder, r"has no folder JPEGImages; expected the layout of DAVIS"),
        (spoil_masks, r"clip clip: no mask shows an object"),
        (spoil_resolutions, r"holds 1080p, 720p; expected one resolution, or 480p"),
    ],
)
def test_a_broken_folder_is_refused(tmp_path: Path, spoil: object, message: str) -> None:
    write_clip(tmp_path, "clip", labels_with(1))
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(DatasetError, match=message):
        read_truth(find_clips(tmp_path)[0])


def test_an_unknown_sequence_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    for index in range(14):
        write_clip(tmp_path, f"clip{index:02d}", labels_with(1))
    with pytest.raises(DatasetError, match=r"no sequence swan in .*; there are clip00, .*clip11 and 2 more"):
        find_clips(tmp_path, ["clip03", "swan"])


@pytest.fixture
def short_clips(tmp_path: Path) -> list[ClipFiles]:
    """Clip a has objects 1 and 2 on 4 frames, b object 1 on 3; frame k of a is grey 10 * k, of b 100 + 10 * k."""
    for name, n_frames, n_objects, grey in (("a", 4, 2, 0), ("b", 3, 1, 100)):
        labels = np.zeros((n_frames, 32, 48), np.uint8)
        frames = np.zeros((n_frames, 32, 48, 3), np.uint8)
        for k in range(n_frames):
            frames[k] = grey + 10 * k
            for object_id in range(1, n_objects + 1):
                labels[k, 8 * object_id : 8 * object_id + 4, 4 * k : 4 * k + 6] = object_id
        write_clip(tmp_path, name, labels, frames)
    return find_clips(tmp_path)


def sources(clip: LongClip) -> list[tuple[int, int]]:
    """The clip and frame behind every frame."""
    return [(each.clip_index, each.frame_index) for each in clip.sources]


def test_one_clip_forth_and_back_without_standing_still(short_clips: list[ClipFiles]) -> None:
    clip = LongClip.from_clips(short_clips[:1], 11)
    assert sources(clip) == [(0, k) for k in (0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2)]
    assert len(clip) == len(clip.frames) == 11


def test_clips_in_turn(short_clips: list[ClipFiles]) -> None:
    a, b = [(0, k) for k in (0, 1, 2, 3, 2, 1, 0)], [(1, k) for k in (0, 1, 2, 1, 0)]
    assert sources(LongClip.from_clips(short_clips, 20)) == [*a, *b, *a, *b][:20]


def test_frames_and_truth_belong_together(short_clips: list[ClipFiles]) -> None:
    clip = LongClip.from_clips(short_clips, 24)
    assert clip.object_ids == (1, 2, 3), "object 1 of b is another one than object 1 of a"
    assert clip.size_hw_px == clip.frames.size_hw_px == (32, 48)
    for frame_index, (clip_index, k) in enumerate(sources(clip)):
        assert abs(int(clip.frames.frame(frame_index).mean()) - (100 * clip_index + 10 * k)) <= 2
        for object_id in clip.object_ids:
            absent = (object_id == 3) != (clip_index == 1)
            assert clip.is_absent(frame_index, object_id) == absent
            mask = clip.mask(frame_index, object_id)
            assert mask.sum() == (0 if absent else 24)
            assert absent or mask[8 if object_id == 3 else 8 * object_id, 4 * k]


def test_one_clip_counts_and_the_other_is_an_interlude(short_clips: list[ClipFiles]) -> None:
    clip = LongClip.from_clips(short_clips, 24, counted="b")
    assert clip.object_ids == (1,)
    assert [clip.mask(k, 1).any() for k in range(12)] == [False] * 7 + [True] * 5
    assert clip.name == "a+b"


def test_a_frame_that_comes_again_is_a_new_one(short_clips: list[ClipFiles]) -> None:
    """A long video has no frames in common with itself: a cache that knew them would flatter it."""
    frames = LongClip.from_clips(short_clips, 20).frames
    assert [frame_identity(frames, k) for k in range(20)] == [None] * 20
    assert frame_identity(short_clips[0].frames, 0) is not None


def test_a_clip_of_one_frame(short_clips: list[ClipFiles]) -> None:
    single = ClipFiles("one", short_clips[0].image_paths[:1], short_clips[0].mask_paths[:1], short_clips[0].size_hw_px)
    assert sources(LongClip.from_clips([single], 3)) == [(0, 0)] * 3


def test_clips_that_make_no_long_one_are_refused(short_clips: list[ClipFiles], tmp_path: Path) -> None:
    write_clip(tmp_path, "c", np.ones((2, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="need one size, but got a 48x32 px, c 16x16 px"):
        LongClip.from_clips([short_clips[0], *find_clips(tmp_path, ["c"])], 9)
    with pytest.raises(ValueError, match="must be one of a, b, but got c"):
        LongClip.from_clips(short_clips, 9, counted="c")
    for none in ([], short_clips):
        with pytest.raises(ValueError, match="a clip and a frame at least"):
            LongClip.from_clips(none, 0)
