"""Run lengths lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from pipeline.types import RunLengthMask


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_decode_gives_back_what_was_encoded(mask: NDArray[np.bool_]) -> None:
    encoded = RunLengthMask.encode(mask)
    decoded = encoded.decode()
    assert decoded.dtype == np.bool_
    assert decoded.shape == mask.shape
    assert np.array_equal(decoded, mask)
    assert encoded.area_px == mask.sum()
    assert encoded == RunLengthMask.encode(decoded)


@given(st.sampled_from([(3,), (2, 3, 4), (1, 2, 3, 4)]))
def test_only_planes_are_masks(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        RunLengthMask.encode(np.zeros(shape, np.bool_))
