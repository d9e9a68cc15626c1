"""Strokes as pixels: lines of a width, erased and painted over."""

from __future__ import annotations

import numpy as np
import pytest

from ls_backend.protocol.brush_regions import distance_to_path, draw_touches, stroke_path_px, stroke_width_px
from ls_backend.protocol.payloads import Touch

SIZE_HW_PX = (60, 200)


def touch(*xy_pct: float, width_pct: float = 5.0, kind: str = "add") -> Touch:
    return Touch.model_validate({"type": kind, "relativePoints": list(xy_pct), "relativeStrokeWidth": width_pct})


def drawn(*touches: Touch, base: bool = False) -> np.ndarray:
    return draw_touches(np.full(SIZE_HW_PX, base), touches)


def test_a_stroke_is_a_line_with_round_ends() -> None:
    mask = drawn(touch(25, 50, 75, 50))
    ys, xs = np.nonzero(mask)
    # 10 px wide about row 30, from column 50 to 150, with half a circle at either end.
    assert (ys.min(), ys.max()) == (25, 34)
    assert (xs.min(), xs.max()) == (45, 154)
    assert mask[25:35, 50:150].all()
    assert not mask[25, 45]
    assert mask.sum() == pytest.approx(10 * 100 + np.pi * 25, rel=0.02)


def test_an_eraser_clears_what_it_covers_wholly() -> None:
    mask = drawn(touch(25, 50, 75, 50, kind="eraser"), base=True)
    ys, xs = np.nonzero(~mask)
    assert (ys.min(), ys.max()) == (25, 34)
    assert xs.min() >= 45
    assert xs.max() <= 154


def test_the_last_stroke_is_on_top() -> None:
    line = (25.0, 50.0, 75.0, 50.0)
    wide = touch(*line, width_pct=10.0)
    assert not drawn(touch(*line), touch(*line, width_pct=10.0, kind="eraser")).any()
    assert drawn(touch(*line, kind="eraser"), wide).sum() == drawn(wide).sum()


@pytest.mark.parametrize(
    ("strokes", "n_px"),
    [((touch(50, 50, 50, 50),), 0), ((touch(50, 50),), 0), ((touch(-30, -30, -20, -20),), 0), ((), 0)],
    ids=["a click", "one place", "beside the image", "nothing"],
)
def test_what_paints_nothing(strokes: tuple[Touch, ...], n_px: int) -> None:
    assert drawn(*strokes).sum() == n_px


def test_a_stroke_across_the_edge_is_cut_off() -> None:
    mask = drawn(touch(-20, 50, 10, 50))
    assert mask[30, :20].all()
    assert not mask[:, 30:].any()


def test_the_mask_below_is_left_as_it_is() -> None:
    base = np.zeros(SIZE_HW_PX, np.bool_)
    draw_touches(base, [touch(25, 50, 75, 50)])
    assert not base.any()


def test_percent_become_pixels() -> None:
    stroke = touch(50, 25, 100, 100)
    np.testing.assert_allclose(stroke_path_px(stroke, SIZE_HW_PX), [[100, 15], [200, 60]])
    assert stroke_width_px(stroke, SIZE_HW_PX) == 10.0


def test_distances_from_a_path() -> None:
    path = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    places = np.array([[5.0, 3.0], [-3.0, 4.0], [13.0, 5.0], [10.0, 10.0]])
    np.testing.assert_allclose(distance_to_path(places, path), [3.0, 5.0, 3.0, 0.0])
    np.testing.assert_allclose(distance_to_path(places[:1], path[:1]), [np.hypot(5, 3)])
