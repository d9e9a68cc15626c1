"""The rendered clip, which the demo shows first, and on which tests score masks where there is no real clip."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.video.sample_clip import render_sample_clip


@pytest.mark.parametrize(
    ("n_frames", "size_hw_px"), [(2, (32, 32)), (12, (120, 214)), (40, (96, 160)), (9, (200, 120))]
)
def test_shapes_types_and_both_objects_on_every_frame(n_frames: int, size_hw_px: tuple[int, int]) -> None:
    clip = render_sample_clip(n_frames, size_hw_px)
    assert clip.frames.shape == (n_frames, *size_hw_px, 3)
    assert clip.labels.shape == (n_frames, *size_hw_px)
    assert clip.frames.dtype == clip.labels.dtype == np.uint8
    assert set(np.unique(clip.labels)) == {0, 1, 2}
    for labels in clip.labels:
        assert (labels == 1).any()
        assert (labels == 2).any()


def test_same_arguments_same_pixels_and_another_seed_other_pixels() -> None:
    first, again, other = (render_sample_clip(5, (64, 96), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.frames != other.frames).mean() > 0.5
    np.testing.assert_array_equal(first.labels, other.labels)


@pytest.mark.parametrize("n_frames", [12, 60])
def test_object_1_hides_object_2_for_a_while_and_not_at_the_ends(n_frames: int) -> None:
    labels = render_sample_clip(n_frames, (120, 214)).labels
    front_px, back_px = ((labels == object_id).sum(axis=(1, 2)) for object_id in (1, 2))
    assert front_px.min() > 0.9 * front_px.max()
    hidden = back_px < 0.7 * back_px.max()
    assert hidden.sum() >= n_frames // 6
    assert back_px.min() > 0.2 * back_px.max()
    assert not hidden[0]
    assert not hidden[-1]


def test_the_objects_change_sides_in_small_steps() -> None:
    labels = render_sample_clip(60, (120, 214)).labels
    front_x_px, back_x_px = (
        np.array([np.nonzero(frame == object_id)[1].mean() for frame in labels]) for object_id in (1, 2)
    )
    assert front_x_px[0] < back_x_px[0]
    assert front_x_px[-1] > back_x_px[-1]
    assert np.abs(np.diff(front_x_px)).max() < 0.02 * 214


def test_the_camera_drifts_and_noise_lies_over_everything() -> None:
    frames = render_sample_clip(60, (120, 214)).frames.astype(np.int16)
    corner = frames[:, :20, :20]
    assert np.abs(corner[30] - corner[0]).mean() > np.abs(corner[1] - corner[0]).mean() > 0


def test_objects_are_told_apart_by_colour() -> None:
    clip = render_sample_clip(3, (120, 214))
    means = [clip.frames[clip.labels == label].mean(axis=0) for label in (0, 1, 2)]
    for left in range(3):
        for right in range(left):
            assert np.abs(means[left] - means[right]).max() > 40


@pytest.mark.parametrize(("n_frames", "size_hw_px"), [(1, (64, 64)), (5, (16, 64))])
def test_too_small_is_refused_with_what_arrived(n_frames: int, size_hw_px: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {n_frames} of"):
        render_sample_clip(n_frames, size_hw_px)
