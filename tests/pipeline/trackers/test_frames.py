"""Frames and points go to the size a network works at, and come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.trackers.frames import WorkingSize
from tests.pipeline.frame_sources import ArrayFrames


@given(
    frame_hw_px=st.tuples(st.integers(16, 4000), st.integers(16, 4000)),
    long_side_px=st.integers(128, 1024),
)
def test_a_fitting_size_is_bounded_in_multiples_and_in_proportion(
    frame_hw_px: tuple[int, int], long_side_px: int
) -> None:
    size = WorkingSize.fitting(frame_hw_px, long_side_px)
    assert all(side % 8 == 0 and side >= 128 for side in size.working_hw_px)
    assert max(size.working_hw_px) <= max(128, long_side_px + 4)
    scale = min(1.0, long_side_px / max(frame_hw_px))
    for side, original in zip(size.working_hw_px, frame_hw_px, strict=True):
        assert side == 128 or abs(side - original * scale) <= 4


@given(
    frame_hw_px=st.tuples(st.integers(16, 4000), st.integers(16, 4000)),
    working_hw_px=st.tuples(st.integers(16, 1024), st.integers(16, 1024)),
    x=st.floats(-50, 4050, width=32),
    y=st.floats(-50, 4050, width=32),
)
def test_points_come_back(frame_hw_px: tuple[int, int], working_hw_px: tuple[int, int], x: float, y: float) -> None:
    size, point = WorkingSize(frame_hw_px, working_hw_px), np.array([[x, y]], np.float32)
    np.testing.assert_allclose(size.to_original(size.to_working(point)), point, atol=0.02)


@pytest.mark.parametrize("working_hw_px", [(30, 60), (120, 80), (60, 120), (90, 240)])
def test_a_point_stays_on_what_it_marks(working_hw_px: tuple[int, int]) -> None:
    """The middle of a light block in the frame is the middle of the block in the resized frame."""
    image = np.zeros((60, 120, 3), np.uint8)
    image[12:24, 72:96] = 200
    size = WorkingSize((60, 120), working_hw_px)
    resized = size.frame(ArrayFrames([image]), 0)
    assert resized is not None
    assert resized.shape == (*working_hw_px, 3)
    weights = resized[..., 0].astype(float)
    y, x = np.indices(weights.shape)
    middle = (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()
    np.testing.assert_allclose(size.to_working(np.array([83.5, 17.5], np.float32)), middle, atol=0.05)


def test_an_unreadable_frame_is_none() -> None:
    frames = ArrayFrames([np.zeros((20, 30, 3), np.uint8)], frozenset({0}))
    assert WorkingSize((20, 30), (16, 16)).frame(frames, 0) is None
