"""Boxes, points, clicks and scribbles that a person might give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.simulated_prompts import (
    Click,
    ClickStrategy,
    correcting_clicks,
    exact_box,
    first_click,
    grid_points,
    noisy_box,
    random_points,
    scribbles,
)
from pipeline.skeleton import thinned
from pipeline.types import BoolMask
from tests.clips import real_or_rendered

SIZE = (120, 200)
NOTHING = np.zeros(SIZE, np.bool_)


def boxes(*corners: tuple[int, int, int, int]) -> BoolMask:
    """A mask of rectangles x0, y0, x1, y1."""
    mask = np.zeros(SIZE, np.bool_)
    for x0, y0, x1, y1 in corners:
        mask[y0:y1, x0:x1] = True
    return mask


def pixel(click: Click) -> tuple[int, int]:
    return int(click.y_px), int(click.x_px)


@pytest.mark.parametrize("strategy", ClickStrategy)
def test_round_one_is_one_positive_click_on_the_object(strategy: ClickStrategy, tmp_path: Path) -> None:
    clip = real_or_rendered("flamingo", tmp_path)
    (click,) = first_click(clip.mask(10), strategy)
    assert click.positive
    assert clip.mask(10)[pixel(click)]
    assert first_click(NOTHING, strategy) == []
    assert len(first_click(boxes((3, 3, 5, 5)), strategy)) == 1


def test_a3_clicks_the_middle_of_the_largest_error_regions_with_the_sign_of_the_error() -> None:
    truth = boxes((10, 10, 31, 31), (60, 10, 71, 21), (100, 10, 103, 12))
    mask = boxes((140, 40, 157, 57), (20, 80, 25, 85))
    clicks = correcting_clicks(mask, truth, ClickStrategy.A3, 3)
    assert clicks == [Click(20.5, 20.5, True), Click(148.5, 48.5, False), Click(65.5, 15.5, True)]


def test_a2_clicks_each_scribble_at_its_central_point_the_longest_first() -> None:
    truth = boxes((10, 20, 90, 25), (10, 60, 50, 65))
    wrong = boxes((120, 100, 180, 105))
    clicks = correcting_clicks(wrong, truth, ClickStrategy.A2, 3)
    assert [click.positive for click in clicks] == [True, False, True]
    for click, x in zip(clicks, (50, 150, 30), strict=True):
        assert abs(click.x_px - x) <= 3
    assert [pixel(click)[0] for click in clicks] == pytest.approx([22, 102, 62], abs=1)
    assert len(correcting_clicks(wrong, truth, ClickStrategy.A2, 2)) == 2


@pytest.mark.parametrize(("missed_long", "positive"), [(True, True), (False, False)])
def test_a1_makes_one_click_from_all_scribbles_of_the_larger_error(missed_long: bool, positive: bool) -> None:
    two, one = boxes((10, 20, 60, 25), (110, 20, 160, 25)), boxes((10, 100, 40, 105))
    truth, mask = (two, one) if missed_long else (one, two)
    (click,) = correcting_clicks(mask, truth, ClickStrategy.A1, 3)
    assert click.positive is positive
    # The mean of both scribbles lies between them; the click is the nearest point that lies on one of them.
    assert two[pixel(click)]
    assert min(abs(click.x_px - 60), abs(click.x_px - 110)) <= 6


@pytest.mark.parametrize("strategy", ClickStrategy)
def test_small_errors_get_no_click(strategy: ClickStrategy) -> None:
    truth = boxes((10, 10, 60, 60))
    assert correcting_clicks(truth, truth, strategy, 3) == []
    specks = truth.copy()
    specks[30, 30], specks[100, 100] = False, True
    assert correcting_clicks(specks, truth, strategy, 3) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.integers(0, 90), st.integers(4, 50), st.integers(4, 30)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(ClickStrategy),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_every_click_lies_on_an_error_of_its_sign(
    corners: list[tuple[int, int, int, int]], strategy: ClickStrategy, max_clicks: int
) -> None:
    rectangles = [boxes((x, y, min(x + w, 200), min(y + h, 120))) for x, y, w, h in corners]
    truth, mask = rectangles[0], np.any([NOTHING, *rectangles[1:]], axis=0)
    clicks = correcting_clicks(mask, truth, strategy, max_clicks)
    assert len(clicks) <= max_clicks
    for click in clicks:
        assert (truth & ~mask if click.positive else mask & ~truth)[pixel(click)]


def test_a_scribble_runs_through_the_whole_region_as_one_line(tmp_path: Path) -> None:
    clip = real_or_rendered("blackswan", tmp_path)
    truth = clip.mask(0)
    line = scribbles(truth)[0]
    assert truth[line[:, 1], line[:, 0]].all()
    assert np.abs(np.diff(line, axis=0)).max() == 1
    assert len(np.unique(line, axis=0)) == len(line)
    ys, xs = np.nonzero(truth)
    assert np.ptp(line, axis=0).max() > 0.3 * max(np.ptp(xs), np.ptp(ys))


def test_thinning_leaves_a_line_one_pixel_wide_and_in_one_piece() -> None:
    shape = boxes((20, 20, 40, 100), (20, 80, 120, 100))
    skeleton = thinned(shape)
    assert (skeleton & ~shape).sum() == 0
    squares = skeleton[:-1, :-1] & skeleton[:-1, 1:] & skeleton[1:, :-1] & skeleton[1:, 1:]
    assert not squares.any()
    assert skeleton.sum() > 120
    assert len(scribbles(shape)) == 1


@st.composite
def masks(draw: st.DrawFn) -> BoolMask:
    """Masks of a few rectangles, at least one pixel, up to the image's edges."""
    height_px, width_px = draw(st.integers(4, 60)), draw(st.integers(4, 60))
    mask = np.zeros((height_px, width_px), np.bool_)
    for _ in range(draw(st.integers(1, 3))):
        x, y = draw(st.integers(0, width_px - 1)), draw(st.integers(0, height_px - 1))
        mask[y : y + draw(st.integers(1, 30)), x : x + draw(st.integers(1, 30))] = True
    return mask


@given(masks(), st.integers(0, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_positives_lie_inside_and_negatives_outside(mask: BoolMask, n_points: int, seed: int) -> None:
    inside = grid_points(mask, n_points)
    assert len(set(inside)) == len(inside) == min(n_points, int(mask.sum()))
    assert all(mask[int(y), int(x)] for x, y in inside)
    outside = random_points(~mask, n_points, np.random.default_rng(seed))
    assert len(set(outside)) == len(outside) == min(n_points, int((~mask).sum()))
    assert not any(mask[int(y), int(x)] for x, y in outside)


@given(masks(), st.floats(0, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_every_edge_of_the_box_is_off_by_no_more_than_the_error(mask: BoolMask, noise_px: float, seed: int) -> None:
    x0, y0, x1, y1 = noisy_box(mask, noise_px, np.random.default_rng(seed))
    assert np.abs(np.subtract((x0, y0, x1, y1), exact_box(mask))).max() <= noise_px + 1e-9
    assert 0 <= x0 < x1 <= mask.shape[1]
    assert 0 <= y0 < y1 <= mask.shape[0]


def test_the_positives_spread_over_the_object(tmp_path: Path) -> None:
    mask = real_or_rendered("dog", tmp_path).mask(0)
    points = np.array(grid_points(mask, 8))
    assert len(points) == 8
    x0, y0, x1, y1 = exact_box(mask)
    assert np.ptp(points, axis=0)[0] > 0.4 * (x1 - x0)
    assert np.ptp(points, axis=0)[1] > 0.4 * (y1 - y0)
