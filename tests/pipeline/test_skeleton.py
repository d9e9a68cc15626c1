"""The line in the middle of a region."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.skeleton import longest_paths, thinned
from pipeline.types import BoolMask


def boxes(*corners_px: tuple[int, int, int, int]) -> BoolMask:
    """Rectangles x0, y0, x1, y1 in a picture of 120x200 px."""
    region = np.zeros((120, 200), np.bool_)
    for x0, y0, x1, y1 in corners_px:
        region[y0:y1, x0:x1] = True
    return region


def only_way(region: BoolMask) -> NDArray[np.int64]:
    (way,) = longest_paths(thinned(region))
    return way


def test_a_line_follows_the_bend_of_a_stroke() -> None:
    way = only_way(boxes((20, 20, 30, 100), (20, 90, 120, 100)))
    ends = way[[0, -1]]
    assert np.abs(ends - [25, 20]).max(axis=1).min() <= 6
    assert np.abs(ends - [119, 95]).max(axis=1).min() <= 6
    assert np.abs(way - [25, 95]).max(axis=1).min() <= 4, "it passes the corner"
    assert np.abs(np.diff(way, axis=0)).max() == 1


def test_every_part_has_its_line_and_specks_have_none() -> None:
    assert len(longest_paths(thinned(boxes((10, 10, 60, 16), (100, 10, 106, 60), (150, 100, 152, 102))))) == 2


def test_nothing_has_no_line() -> None:
    assert longest_paths(thinned(boxes())) == []


@given(st.lists(st.tuples(*[st.integers(1, 110)] * 2, *[st.integers(3, 60)] * 2), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_lines_stay_inside_the_region(corners: list[tuple[int, int, int, int]]) -> None:
    region = boxes(*((x, y, min(x + w, 199), min(y + h, 119)) for x, y, w, h in corners))
    for way in longest_paths(thinned(region)):
        assert region[way[:, 1], way[:, 0]].all()
