"""The clip that speed is measured on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.evaluation.speed.clip import EncodedFrames, grid_boxes, speed_clip
from tests.pipeline.frame_sources import moving_square


def write_images(folder: Path, indices: list[int]) -> Path:
    frames, _ = moving_square(4)
    for position, index in enumerate(indices):
        cv2.imwrite(str(folder / f"{position}.jpg"), frames[index])
    return folder


def test_every_read_decodes_the_frame_anew() -> None:
    images, _ = moving_square(3)
    clip = EncodedFrames.of(images)
    assert (len(clip), clip.size_hw_px) == (3, (120, 160))
    again = [clip.frame(1), clip.frame(1)]
    assert again[0] is not again[1]
    assert np.abs(again[0].astype(int) - images[1]).mean() < 8
    assert 1000 < clip.encoded_bytes < 3 * images[0].nbytes
    assert [len(clip.first(2)), len(clip.first(9))] == [2, 3]
    with pytest.raises(IndexError, match="frame 3 of a video of 3 frames"):
        clip.frame(3)


def test_the_rendered_clip_is_the_same_everywhere() -> None:
    clip, name = speed_clip(3)
    assert (name, len(clip), clip.size_hw_px) == ("rendered", 3, (480, 854))
    assert (clip.frame(2) == speed_clip(3)[0].frame(2)).all()


def test_images_of_a_folder_are_brought_to_the_size(tmp_path: Path) -> None:
    clip, name = speed_clip(3, write_images(tmp_path, [0, 1, 2, 3]), (60, 80))
    assert (name, len(clip), clip.frame(2).shape) == (tmp_path.name, 3, (60, 80, 3))


@pytest.mark.parametrize(
    ("indices", "message"),
    [([0, 1], "has 2 images, but 3 frames were asked for"), ([0, 1, 0], "has images that look the same")],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        speed_clip(3, write_images(tmp_path, indices))


@pytest.mark.parametrize("n_objects", [1, 2, 10, 33])
def test_the_boxes_of_the_objects_lie_beside_each_other(n_objects: int) -> None:
    boxes = grid_boxes(n_objects, (480, 854))
    painted = np.zeros((480, 854), np.int64)
    for x0, y0, x1, y1 in boxes:
        painted[round(y0) : round(y1), round(x0) : round(x1)] += 1
        assert 0 <= x0 < x1 <= 854
        assert 0 <= y0 < y1 <= 480
    assert len(boxes) == n_objects
    assert painted.max() == 1
