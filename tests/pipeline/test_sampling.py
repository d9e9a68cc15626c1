"""Query points lie in the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pipeline import sampling

GREY = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, (40, 50)), st.integers(0, 60))
def test_points_lie_in_the_mask_and_are_not_too_many(mask: NDArray[np.bool_], n_points: int) -> None:
    for points in (sampling.grid(mask, n_points), sampling.mixed(GREY, mask, n_points)):
        assert points.dtype == np.float32
        assert points.shape[1] == 2
        assert len(points) <= n_points
        assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()


@pytest.mark.parametrize("area", [1, 2, 500])
def test_no_mask_is_too_small_for_a_point(area: int) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask.ravel()[700 : 700 + area] = True
    assert len(sampling.grid(mask, 10)) >= 1
