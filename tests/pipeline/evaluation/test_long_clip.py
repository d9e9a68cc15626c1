"""Clips played forth and back: every frame with its own truth, objects told apart, interludes without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.datasets import ClipFiles, find_clips
from pipeline.evaluation.long_clip import LongClip
from pipeline.video.frames import frame_identity
from tests.pipeline.evaluation.davis_folder import write_clip


@pytest.fixture
def clips(tmp_path: Path) -> list[ClipFiles]:
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


def shown(clip: LongClip) -> list[tuple[int, int]]:
    """The clip and frame behind every frame."""
    return [(each.clip_index, each.frame_index) for each in clip.shown]


def test_one_clip_forth_and_back_without_standing_still(clips: list[ClipFiles]) -> None:
    clip = LongClip.of(clips[:1], 11)
    assert shown(clip) == [(0, k) for k in (0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2)]
    assert len(clip) == len(clip.frames) == 11


def test_clips_in_turn(clips: list[ClipFiles]) -> None:
    a, b = [(0, k) for k in (0, 1, 2, 3, 2, 1, 0)], [(1, k) for k in (0, 1, 2, 1, 0)]
    assert shown(LongClip.of(clips, 20)) == [*a, *b, *a, *b][:20]


def test_frames_and_truth_belong_together(clips: list[ClipFiles]) -> None:
    clip = LongClip.of(clips, 24)
    assert clip.object_ids == (1, 2, 3), "object 1 of b is another one than object 1 of a"
    assert clip.size_hw_px == clip.frames.size_hw_px == (32, 48)
    for frame_index, (clip_index, k) in enumerate(shown(clip)):
        assert abs(int(clip.frames.frame(frame_index).mean()) - (100 * clip_index + 10 * k)) <= 2
        for object_id in clip.object_ids:
            absent = (object_id == 3) != (clip_index == 1)
            assert clip.is_absent(frame_index, object_id) == absent
            mask = clip.mask(frame_index, object_id)
            assert mask.sum() == (0 if absent else 24)
            assert absent or mask[8 if object_id == 3 else 8 * object_id, 4 * k]


def test_one_clip_counts_and_the_other_is_an_interlude(clips: list[ClipFiles]) -> None:
    clip = LongClip.of(clips, 24, counted="b")
    assert clip.object_ids == (1,)
    assert [clip.mask(k, 1).any() for k in range(12)] == [False] * 7 + [True] * 5
    assert clip.name == "a+b"


def test_a_frame_that_comes_again_is_a_new_one(clips: list[ClipFiles]) -> None:
    """A long video has no frames in common with itself: a cache that knew them would flatter it."""
    frames = LongClip.of(clips, 20).frames
    assert [frame_identity(frames, k) for k in range(20)] == [None] * 20
    assert frame_identity(clips[0].frames, 0) is not None


def test_a_clip_of_one_frame(clips: list[ClipFiles]) -> None:
    single = ClipFiles("one", clips[0].image_paths[:1], clips[0].mask_paths[:1], clips[0].size_hw_px)
    assert shown(LongClip.of([single], 3)) == [(0, 0)] * 3


def test_what_does_not_fit_is_said(clips: list[ClipFiles], tmp_path: Path) -> None:
    write_clip(tmp_path, "c", np.ones((2, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="need one size, but got a 48x32 px, c 16x16 px"):
        LongClip.of([clips[0], *find_clips(tmp_path, ["c"])], 9)
    with pytest.raises(ValueError, match="must be one of a, b, but got c"):
        LongClip.of(clips, 9, counted="c")
    for none in ([], clips):
        with pytest.raises(ValueError, match="a clip and a frame at least"):
            LongClip.of(none, 0)
