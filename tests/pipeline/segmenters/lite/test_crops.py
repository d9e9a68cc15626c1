"""Crops map pixels of a frame to pixels of the network and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.lite.decoder import N_PLANES, Plane
from pipeline.segmenters.lite.crops import OUTSIDE_LOGIT, Crop

FRAME = np.zeros((120, 200, 3), np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-20, 220), st.floats(-20, 140), st.floats(1, 400), st.sampled_from([64, 192, 256])
)  # centre, shown, side
def test_a_crop_has_planes_of_its_size_and_shows_its_centre(x: float, y: float, shown: float, side: int) -> None:
    crop = Crop.of(FRAME, (x, y), shown, side)
    assert crop.picture_rgb.shape == (side, side, 3)
    assert crop.planes.shape == (N_PLANES, side, side)
    np.testing.assert_allclose(crop.matrix @ [x, y, 1], [side / 2, side / 2], atol=1e-6)
    assert set(np.unique(crop.planes[Plane.VALID])) <= {0.0, 1.0}


def test_a_mask_comes_back_to_where_it_was() -> None:
    mask = np.zeros((120, 200), np.float32)
    mask[40:80, 60:130] = 1
    crop = Crop.around(FRAME, (60, 40, 130, 80), 1.5, 128)
    crop.put_previous(mask)
    back = crop.to_frame(crop.planes[Plane.PREVIOUS], mask.shape)
    assert ((back > 0) != (mask > 0.5)).mean() < 0.01
    assert back[0, 0] == OUTSIDE_LOGIT


def test_points_and_boxes_are_drawn_where_they_lie() -> None:
    crop = Crop.around(FRAME, (60, 40, 130, 80), 1.5, 128)
    crop.put_points(np.array([[95, 60], [1000, 60]], np.float32), np.array([True, False]))
    assert crop.planes[Plane.POSITIVE, 64, 64] == 1
    assert not crop.planes[Plane.NEGATIVE].any()
    crop.put_box((60, 40, 130, 80))
    assert crop.planes[Plane.BOX, 64, 64] == 1
    assert crop.planes[Plane.BOX, 0, 0] == -1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_evidence_is_spread_over_the_frame_alone(value: float) -> None:
    crop = Crop.of(FRAME, (0, 0), 100, 64)
    crop.put_evidence(np.full((8, 8), value, np.float32))
    valid = crop.planes[Plane.VALID] > 0
    np.testing.assert_allclose(crop.planes[Plane.EVIDENCE][valid], 2 * value - 1)
    assert not crop.planes[Plane.EVIDENCE][~valid].any()
