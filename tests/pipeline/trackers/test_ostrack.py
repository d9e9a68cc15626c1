"""OSTrack's crops and boxes, with a stand-in for its network that finds red things exactly where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model_zoo.box_trackers import load_ostrack
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks
from pipeline.trackers.boxes.ostrack import OsTrack, centre_window, cropped
from pipeline.types import FrameRGB
from tests.pipeline.frame_sources import ArrayFrames

CODE = Path(__file__).parents[2] / "stand_ins" / "ostrack"
SIZE_HW_PX = (240, 400)


def frame_with(*box_xyxy_px: int) -> FrameRGB:
    image = np.full((*SIZE_HW_PX, 3), 128, np.uint8)
    if box_xyxy_px:
        x0, y0, x1, y1 = box_xyxy_px
        cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), (230, 20, 20), -1)
    return image


def followed(boxes: list[tuple[int, ...]], frame_range: range, broken: frozenset[int] = frozenset()) -> BoxTracks:
    frames = ArrayFrames([frame_with(*box) for box in boxes], broken)
    x0, y0, x1, y1 = (float(v) for v in boxes[frame_range[0]])
    return OsTrack(load_ostrack(CODE, None)).track(frames, BoxQuery(frame_range[0], (x0, y0, x1, y1)), frame_range)


# A wide thing that moves more to the right than down, and grows more in width than in height.
PATH = [(60 + 9 * k, 50 + 4 * k, 124 + 11 * k, 84 + 5 * k) for k in range(10)]


@pytest.mark.parametrize("frame_range", [range(10), range(9, -1, -1)], ids=["forward", "backward"])
def test_it_follows_place_and_size_along_both_axes(frame_range: range) -> None:
    tracks = followed(PATH, frame_range)
    assert tracks.boxes_xyxy_px == pytest.approx(np.array([PATH[index] for index in frame_range]), abs=1.6)
    assert tracks.scores == pytest.approx([1.0] + [0.9] * 9, abs=1e-6)


def test_it_follows_over_the_border() -> None:
    boxes = [(320 + 8 * k, 180 + 5 * k, min(400, 370 + 8 * k), min(240, 210 + 5 * k)) for k in range(8)]
    assert followed(boxes, range(8)).boxes_xyxy_px == pytest.approx(np.array(boxes), abs=2.5)


def test_an_object_that_is_gone_scores_next_to_nothing() -> None:
    assert followed([*PATH[:3], (), ()], range(5)).scores[3:] == pytest.approx([1e-4, 1e-4])


def test_an_unreadable_frame_keeps_the_last_box_with_score_zero() -> None:
    tracks = followed(PATH[:5], range(5), frozenset({2}))
    assert tracks.scores[2] == 0.0
    assert tracks.boxes_xyxy_px[2].tolist() == tracks.boxes_xyxy_px[1].tolist()
    assert tracks.boxes_xyxy_px[4] == pytest.approx(np.array(PATH[4]), abs=1.6)


@pytest.mark.parametrize(
    "box", [(0, 0, 400, 240), (200, 100, 201, 101), (50, 50, 50, 50), (-30, -30, 10, 10), (900, 900, 950, 950)]
)
@pytest.mark.parametrize("size_hw_px", [SIZE_HW_PX, (7, 9)])
def test_odd_boxes_and_frames_do_no_harm(box: tuple[int, int, int, int], size_hw_px: tuple[int, int]) -> None:
    frames = ArrayFrames([frame_with(*PATH[0])[: size_hw_px[0], : size_hw_px[1]]] * 3)
    tracks = OsTrack(load_ostrack(CODE, None)).track(frames, BoxQuery(0, box), range(3))
    assert np.isfinite(tracks.boxes_xyxy_px).all()
    assert (tracks.boxes_xyxy_px[1:, 2:] > tracks.boxes_xyxy_px[1:, :2]).all()


def test_a_crop_is_square_around_the_box_and_black_outside_the_image() -> None:
    image = np.random.default_rng(0).integers(1, 255, (*SIZE_HW_PX, 3), dtype=np.uint8)
    crop, scale = cropped(image, np.array([100.0, 60.0, 32.0, 32.0]), 4.0, 128)
    assert scale == 1.0
    assert np.array_equal(crop, image[12:140, 52:180])
    crop, _ = cropped(image, np.array([-16.0, -16.0, 32.0, 32.0]), 4.0, 128)
    assert not crop[:64].any()
    assert not crop[:, :64].any()
    assert np.array_equal(crop[64:, 64:], image[:64, :64])
    crop, _ = cropped(image, np.array([384.0, 224.0, 32.0, 32.0]), 4.0, 128)
    assert np.array_equal(crop[:63, :63], image[176:239, 336:399])
    assert not crop[63:].any()


def test_the_window_prefers_the_centre_and_excludes_nothing() -> None:
    window = centre_window(16)
    assert window.min() > 0.0
    assert np.unravel_index(int(window.argmax()), window.shape) in {(7, 7), (7, 8), (8, 7), (8, 8)}
    assert np.array_equal(window, window.T)
    assert window[0, 8] == pytest.approx(0.5 * (1 - np.cos(2 * np.pi / 17)) * 0.5 * (1 - np.cos(18 * np.pi / 17)))
