"""Which side a pixel's colour belongs to, by what boxes, masks, evidence and clicks mark."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.lite.decoder import N_PLANES, Plane
from pipeline.segmenters.lite.likeness import put_likeness

SIDE_PX = 64
INSIDE = slice(20, 44), slice(20, 44)


def scene(own: tuple[int, int, int], ground: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A crop (R, R, 3) with a square of one colour on another one, with some noise."""
    noise = np.random.default_rng(seed).normal(0, 4, (SIDE_PX, SIDE_PX, 3))
    picture = np.full((SIDE_PX, SIDE_PX, 3), ground, np.float64)
    picture[INSIDE] = own
    return np.asarray((picture + noise).clip(0, 255), np.uint8)


def planes(**drawn: np.ndarray | float) -> np.ndarray:
    """Planes of a crop that shows only the frame."""
    found = np.zeros((N_PLANES, SIDE_PX, SIDE_PX), np.float32)
    found[Plane.VALID] = 1
    for name, plane in drawn.items():
        found[Plane[name.upper()]] = plane
    return found


def region(value_inside: float = 1.0, value_outside: float = -1.0, grow_px: int = 0) -> np.ndarray:
    """A plane that marks the square, or a larger one."""
    plane = np.full((SIDE_PX, SIDE_PX), value_outside, np.float32)
    plane[20 - grow_px : 44 + grow_px, 20 - grow_px : 44 + grow_px] = value_inside
    return plane


@pytest.mark.parametrize(("own", "ground"), [((15, 15, 18), (90, 110, 80)), ((240, 240, 235), (60, 60, 70))])
@pytest.mark.parametrize("plane", ["box", "previous", "evidence"])
def test_a_loose_mark_tells_dark_and_bright_objects_from_the_ground(
    own: tuple[int, int, int], ground: tuple[int, int, int], plane: str
) -> None:
    given_planes = planes(**{plane: region(grow_px=8)})
    put_likeness(given_planes, scene(own, ground))
    found = given_planes[Plane.REGION_COLOURS]
    assert found[INSIDE].mean() > 0.7
    beside = region(grow_px=8) > 0
    beside[INSIDE] = False
    assert found[beside].mean() < -0.1
    assert not given_planes[Plane.CLICK_COLOURS].any()


def test_clicks_mark_their_colour() -> None:
    discs = region(value_outside=0)
    discs[:] = 0
    discs[30:34, 30:34] = 1
    given_planes = planes(positive=discs)
    put_likeness(given_planes, scene((200, 40, 40), (40, 120, 60)))
    found = given_planes[Plane.CLICK_COLOURS]
    assert found[INSIDE].mean() > 0.3
    assert found[:10].mean() < -0.5
    assert not given_planes[Plane.REGION_COLOURS].any()


def test_what_nothing_marks_stays_empty() -> None:
    given_planes = planes()
    put_likeness(given_planes, scene((10, 10, 10), (200, 200, 200)))
    assert not given_planes[Plane.REGION_COLOURS].any()
    assert not given_planes[Plane.CLICK_COLOURS].any()


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(["box", "previous", "evidence", "positive"]), unique=True))
@settings(max_examples=30, deadline=None)
def test_likeness_is_between_minus_one_and_one_and_only_on_the_frame(seed: int, names: list[str]) -> None:
    rng = np.random.default_rng(seed)
    given_planes = planes(**{name: rng.uniform(-1, 1, (SIDE_PX, SIDE_PX)) for name in names})
    given_planes[Plane.POSITIVE] = given_planes[Plane.POSITIVE] > 0.5
    given_planes[Plane.VALID, :, : int(rng.integers(1, SIDE_PX))] = 0
    put_likeness(given_planes, rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8))
    for plane in (Plane.REGION_COLOURS, Plane.CLICK_COLOURS):
        assert np.isfinite(given_planes[plane]).all()
        assert np.abs(given_planes[plane]).max() <= 1
        assert not given_planes[plane][given_planes[Plane.VALID] == 0].any()
