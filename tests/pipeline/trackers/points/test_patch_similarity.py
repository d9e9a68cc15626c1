"""Points whose surroundings changed become invisible; nothing else changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.trackers.points.base import PointTracks
from pipeline.trackers.points.patch_similarity import PatchSimilarity, patches_at, similarity
from tests.pipeline.frame_sources import ArrayFrames, moving_square

N_FRAMES, STEP_PX = 5, 3


def tracks() -> PointTracks:
    """On `moving_square`: one point that follows the square, one that stays where the square was, one on the ground."""
    following = [(25.0 + STEP_PX * index, 60.0) for index in range(N_FRAMES)]
    positions = np.array([[at, (21.0, 60.0), (120.0, 20.0)] for at in following], np.float32)
    return PointTracks(range(N_FRAMES), positions, np.ones((N_FRAMES, 3), np.bool_))


def test_a_point_that_left_the_object_is_found_out() -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    visible = PatchSimilarity().check(ArrayFrames(frames), tracks())
    assert visible.tolist() == [[True, True, True]] + [[True, False, True]] * (N_FRAMES - 1)


def test_the_order_of_frames_does_not_matter() -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    backward = PointTracks(range(N_FRAMES - 1, -1, -1), tracks().tracks_xy_px, np.ones((N_FRAMES, 3), np.bool_))
    visible = PatchSimilarity().check(ArrayFrames(frames[::-1]), backward)
    assert visible.tolist() == [[True, True, True]] + [[True, False, True]] * (N_FRAMES - 1)


def test_a_reduced_frame_has_the_same_points() -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    large = [np.asarray(cv2.resize(frame, None, fx=4, fy=4), np.uint8) for frame in frames]
    scaled = PointTracks(range(N_FRAMES), tracks().tracks_xy_px * 4 + 1.5, tracks().visible)
    visible = PatchSimilarity(long_side_px=160).check(ArrayFrames(large), scaled)
    assert visible.tolist() == [[True, True, True]] + [[True, False, True]] * (N_FRAMES - 1)


def test_no_threshold_no_filter() -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    assert PatchSimilarity(threshold=0).check(ArrayFrames(frames), tracks()).all()


def test_an_occluded_point_stays_occluded_even_without_a_place() -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    given = tracks()
    given.tracks_xy_px[2, 0] = np.nan
    given.visible[2, 0] = False
    visible = PatchSimilarity().check(ArrayFrames(frames), given)
    assert visible[:, 0].tolist() == [True, True, False, True, True]
    assert given.visible[1, 1], "the tracks themselves must stay as they are"


def test_a_rejected_point_stays_rejected_though_it_looks_right_again() -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    given = tracks()
    given.tracks_xy_px[2, 0] = (120.0, 20.0)
    visible = PatchSimilarity().check(ArrayFrames(frames), given)
    assert visible[:, 0].tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("broken", [0, 2])
def test_what_cannot_be_read_is_left_alone(broken: int) -> None:
    frames, _ = moving_square(N_FRAMES, step_px=STEP_PX)
    visible = PatchSimilarity().check(ArrayFrames(frames, frozenset({broken})), tracks())
    assert visible[broken, [0, 2]].all()
    assert visible[3, 1] == (broken == 0)


def test_patches_are_interpolated_and_repeat_the_border() -> None:
    image = np.arange(30, dtype=np.uint8).reshape(5, 6)
    patches = patches_at(image, np.array([[2.0, 1.0], [2.5, 1.5], [0.0, 0.0], [np.nan, 1.0]], np.float32), 3)
    assert patches.shape == (4, 3, 3, 1)
    assert patches[0, ..., 0].tolist() == [[1, 2, 3], [7, 8, 9], [13, 14, 15]]
    np.testing.assert_allclose(patches[1, ..., 0], patches[0, ..., 0] + 3.5, atol=0.1)
    assert patches[2, ..., 0].tolist() == [[0, 0, 1], [0, 0, 1], [6, 6, 7]]


def test_no_points_no_patches() -> None:
    patches = patches_at(np.zeros((5, 6, 3), np.uint8), np.zeros((0, 2), np.float32), 3)
    assert patches.shape == (0, 3, 3, 3)
    assert similarity(patches, patches).shape == (0,)


def test_similarity_falls_with_the_distance_in_lightness() -> None:
    """Grey 119 has lightness 50, and grey 94 has 40: nine pixels 10 apart are at a distance of 30."""
    patches = np.full((2, 3, 3, 3), 119, np.float32)
    np.testing.assert_allclose(similarity(patches, patches), 1.0)
    np.testing.assert_allclose(similarity(patches, np.full_like(patches, 94)), np.exp(-30 / 18), rtol=0.05)
