"""The brush codec: round trips on random masks, other writers' images, damaged input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from label_studio_sdk.converter import brush as sdk

from ls_backend.protocol.regions import brush_rle_to_mask, mask_to_brush_rle
from pipeline.types import BoolMask

shapes = st_numpy.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=90)
masks = st_numpy.arrays(np.bool_, shapes)


@st.composite
def blocky_masks(draw: st.DrawFn) -> BoolMask:
    """Masks with long runs, as real objects have: a few rectangles, set or cut out."""
    height_px, width_px = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    mask = np.full((height_px, width_px), draw(st.booleans()))
    for _ in range(draw(st.integers(0, 5))):
        y0, y1 = sorted((draw(st.integers(0, height_px)), draw(st.integers(0, height_px))))
        x0, x1 = sorted((draw(st.integers(0, width_px)), draw(st.integers(0, width_px))))
        mask[y0:y1, x0:x1] = draw(st.booleans())
    return mask


@given(st.one_of(masks, blocky_masks()))
@settings(deadline=None)
def test_round_trip(mask: BoolMask) -> None:
    rle = mask_to_brush_rle(mask)
    assert all(isinstance(value, int) and 0 <= value <= 255 for value in rle)
    decoded = brush_rle_to_mask(rle, *mask.shape)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)


@given(st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(4))))
@settings(deadline=None)
def test_decodes_the_alpha_of_any_image_as_the_sdk_does(rgba: np.ndarray) -> None:
    rle = sdk.encode_rle(rgba.ravel())
    expected = sdk.decode_rle(rle).reshape(rgba.shape)[:, :, 3] > 0
    np.testing.assert_array_equal(brush_rle_to_mask(rle, *rgba.shape[:2]), expected)
    np.testing.assert_array_equal(expected, rgba[:, :, 3] > 0)


def test_rows_come_first() -> None:
    mask = np.zeros((2, 3), dtype=np.bool_)
    mask[0, 2] = True
    np.testing.assert_array_equal(brush_rle_to_mask(mask_to_brush_rle(mask), 2, 3), mask)
    np.testing.assert_array_equal(brush_rle_to_mask(mask_to_brush_rle(mask), 3, 2), mask.reshape(3, 2))


def test_all_zero_mask_is_small() -> None:
    rle = mask_to_brush_rle(np.zeros((480, 854), dtype=np.bool_))
    assert len(rle) == 95
    assert not brush_rle_to_mask(rle, 480, 854).any()


@given(blocky_masks(), st.data())
@settings(deadline=None)
def test_a_cut_off_rle_is_refused_or_still_whole(mask: BoolMask, data: st.DataObject) -> None:
    rle = mask_to_brush_rle(mask)
    kept = data.draw(st.integers(0, len(rle) - 1))
    try:
        # Only padding, or low bits of the last value, may be missing without harm.
        np.testing.assert_array_equal(brush_rle_to_mask(rle[:kept], *mask.shape), mask)
    except ValueError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either outcome is right
    if kept < len(rle) // 2:
        with pytest.raises(ValueError, match="damaged"):
            brush_rle_to_mask(rle[:kept], *mask.shape)


@given(st.lists(st.integers(0, 255), max_size=60), st.integers(1, 8), st.integers(1, 8))
def test_any_bytes_give_a_mask_or_a_value_error(noise: list[int], height_px: int, width_px: int) -> None:
    header = list((height_px * width_px * 4).to_bytes(4, "big"))
    for rle in (noise, [*header, *noise]):
        try:
            assert brush_rle_to_mask(rle, height_px, width_px).shape == (height_px, width_px)
        except ValueError as error:
            assert "brush RLE" in str(error)  # noqa: PT017 - either outcome is right


GOOD = mask_to_brush_rle(np.eye(4, dtype=np.bool_))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ([], "holds 0 values"),
        (mask_to_brush_rle(np.eye(5, dtype=np.bool_)), "holds 100 values, but an image of 4x4 px has 64"),
        ([255, 255, 255, 255, *GOOD[4:]], "holds 4294967295 values"),
        (GOOD[:8], "cut off"),
        ([*GOOD[:-1], 256], "integers in"),
        ([*GOOD[:-1], -1], "integers in"),
        ([*GOOD[:-1], "1"], "integers in"),
        ([*GOOD[:-1], 1.5], "integers in"),
    ],
)
def test_damaged_input_says_what_is_wrong(rle: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brush_rle_to_mask(rle, 4, 4)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_only_images_are_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        mask_to_brush_rle(np.zeros(shape, dtype=np.bool_))
