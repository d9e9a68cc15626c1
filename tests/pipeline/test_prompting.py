"""Prompts of a frame as input for a segmenter, and prompts that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompting import (
    MAX_SCRIBBLE_POINTS,
    central_point,
    check_prompts,
    merge_prompts,
    scribble_points,
    split_at_last_mask,
)
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

MASK = RunLengthMask.encode(np.zeros((4, 6), np.bool_))
CLICK, BOX = PointPrompt(1, 0, 5, 6), BoxPrompt(1, 0, (0, 2, 8, 12))
PATHS = st.lists(st.tuples(st.floats(0, 500, width=32), st.floats(0, 500, width=32)), min_size=1, max_size=40)


def line(*path: tuple[float, float], positive: bool = True) -> ScribblePrompt:
    return ScribblePrompt(1, 0, path, 10.0, positive)


@pytest.mark.parametrize(
    ("prompts", "mask", "later"),
    [
        ([], None, ()),
        ([CLICK, BOX], None, (CLICK, BOX)),
        ([CLICK, MaskPrompt(1, 0, MASK)], MASK, ()),
        ([BOX, MaskPrompt(1, 0, MASK), CLICK], MASK, (CLICK,)),
        ([MaskPrompt(1, 0, MASK), CLICK, MaskPrompt(1, 0, MASK)], MASK, ()),
    ],
)
def test_a_mask_replaces_the_prompts_before_it(
    prompts: list[Prompt], mask: RunLengthMask | None, later: tuple[Prompt, ...]
) -> None:
    assert split_at_last_mask(prompts) == (mask, later)


def test_clicks_scribbles_and_boxes_become_points_and_a_box() -> None:
    merged = merge_prompts(
        [CLICK, BOX, BoxPrompt(1, 0, (4, 4, 20, 9)), line((10, 10), (30, 10)), line((1, 1), positive=False)]
    )
    assert merged.points_xy_px.tolist() == [[5, 6], [10, 10], [20, 10], [30, 10], [1, 1]]
    assert merged.positive.tolist() == [True, True, True, True, False]
    assert merged.box_xyxy_px == (0, 2, 20, 12)
    assert not merged.tracked


def test_with_clicks_only_everything_becomes_the_click_in_its_middle() -> None:
    merged = merge_prompts([BOX, line((0, 0), (9, 1), (30, 0)), line((1, 1), positive=False)], clicks_only=True)
    assert merged.points_xy_px.tolist() == [[9, 1], [1, 1], [4, 7]]
    assert merged.positive.tolist() == [True, False, True]
    assert merged.box_xyxy_px is None


def test_no_prompts_are_no_points() -> None:
    merged = merge_prompts([])
    assert merged.points_xy_px.shape == (0, 2)
    assert merged.box_xyxy_px is None


@given(PATHS)
def test_points_of_a_scribble_lie_within_it_and_the_central_one_on_it(path: list[tuple[float, float]]) -> None:
    places = np.array(path, np.float32)
    points = scribble_points(places)
    assert 1 <= len(points) <= MAX_SCRIBBLE_POINTS
    assert (points >= places.min(axis=0) - 1e-3).all()
    assert (points <= places.max(axis=0) + 1e-3).all()
    assert (places == central_point(places)).all(axis=1).any()
    if len(points) > 1:
        assert points[0] == pytest.approx(places[0], abs=1e-3)
        assert points[-1] == pytest.approx(places[-1], abs=1e-3)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(line(), "is empty"), (line((1, 1), (7, 1)), "outside the image"), (line((1, float("nan"))), "outside the image")],
)
def test_scribbles_outside_the_image_are_refused(prompt: Prompt, message: str) -> None:
    check_prompts([line((0, 0), (6, 4))], 1, (4, 6))
    with pytest.raises(ValueError, match=message):
        check_prompts([prompt], 1, (4, 6))
