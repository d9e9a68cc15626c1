"""Masks that are moved to where a person clicked, and probabilities that are kept small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.masks import SoftMask, moved_to, probabilities

HEIGHT_PX, WIDTH_PX = 40, 60


@given(
    top=st.integers(0, 30),
    left=st.integers(0, 50),
    height=st.integers(1, 10),
    width=st.integers(1, 10),
    x_px=st.floats(0.0, WIDTH_PX - 0.01),
    y_px=st.floats(0.0, HEIGHT_PX - 0.01),
)
def test_the_middle_of_a_moved_mask_is_where_it_was_moved(
    top: int, left: int, height: int, width: int, x_px: float, y_px: float
) -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_)
    mask[top : top + height, left : left + width] = True
    moved = moved_to(mask, x_px, y_px)
    assert moved.shape == mask.shape
    assert moved.any()
    ys, xs = np.nonzero(moved)
    if len(xs) == mask.sum():
        assert abs(ys.mean() + 0.5 - y_px) <= 1.0 + 1e-9
        assert abs(xs.mean() + 0.5 - x_px) <= 1.0 + 1e-9
    else:
        assert min(ys.min(), xs.min()) == 0 or ys.max() == HEIGHT_PX - 1 or xs.max() == WIDTH_PX - 1, (
            "it left the image"
        )


def test_a_mask_moved_to_its_own_middle_stays() -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_)
    mask[3:8, 10:21] = True
    assert (moved_to(mask, 15.5, 5.5) == mask).all()


@pytest.mark.parametrize("size_hw_px", [(1, 1), (7, 12), (64, 80)])
def test_packed_probabilities_come_back_at_full_size_and_nearly_the_same(size_hw_px: tuple[int, int]) -> None:
    ys, xs = np.mgrid[: size_hw_px[0], : size_hw_px[1]]
    logits = (np.hypot(ys - size_hw_px[0] / 2, xs - size_hw_px[1] / 2) * 0.2 - 3.0).astype(np.float32)
    unpacked = SoftMask.pack(logits).probabilities()
    assert unpacked.shape == size_hw_px
    assert unpacked.dtype == np.float32
    assert np.abs(unpacked - probabilities(logits)).max() < 0.12
    assert len(SoftMask.pack(logits).data) < logits.nbytes or logits.size < 100
