"""Fusion over time and over objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import fusion
from pipeline.uncertainty import soft_aggregation


@pytest.mark.parametrize(
    ("frame", "current", "previous", "weight"),
    [(0, 0, 10, 1.0), (10, 0, 10, 0.0), (5, 0, 10, 0.5), (2, 0, 10, 0.8), (8, 10, 0, 0.8), (6, 8, 4, 0.5)],
)
def test_linear_weight_follows_the_equation(frame: int, current: int, previous: int, weight: float) -> None:
    assert fusion.linear_weight(frame, current, previous) == pytest.approx(weight)


@pytest.mark.parametrize(("frame", "current", "previous"), [(11, 0, 10), (-1, 0, 10), (4, 4, 4)])
def test_a_frame_that_is_not_between_is_refused(frame: int, current: int, previous: int) -> None:
    with pytest.raises(ValueError, match="between"):
        fusion.linear_weight(frame, current, previous)


@given(st.integers(0, 50), st.integers(1, 50), st.data())
def test_the_two_weights_sum_to_one(low: int, length: int, data: st.DataObject) -> None:
    frame = data.draw(st.integers(low, low + length))
    here = fusion.linear_weight(frame, low, low + length)
    assert here + fusion.linear_weight(frame, low + length, low) == pytest.approx(1.0)


def test_fuse_is_the_weighted_sum() -> None:
    current, previous = np.full((2, 3), 0.9, np.float32), np.full((2, 3), 0.1, np.float32)
    fused = fusion.fuse(current, previous, 0.75)
    assert fused == pytest.approx(np.full((2, 3), 0.75 * 0.9 + 0.25 * 0.1))


@pytest.mark.parametrize(
    ("weight", "trusts", "expected"),
    [
        (0.3, (0.5, 0.5), 0.3),
        (0.5, (0.9, 0.3), 0.75),
        (0.2, (1.0, 0.0), 1.0),
        (1.0, (0.1, 0.9), 1.0),
        (0.0, (0.9, 0.1), 0.0),
        (1.0, (0.0, 0.9), 1.0),
        (0.4, (0.0, 0.0), 0.4),
    ],
)
def test_the_prediction_that_is_trusted_more_counts_more(
    weight: float, trusts: tuple[float, float], expected: float
) -> None:
    assert fusion.trusted_weight(weight, *trusts) == pytest.approx(expected)


def test_every_pixel_has_one_owner_and_prompted_masks_win() -> None:
    first = np.array([[0.9, 0.9, 0.6, 0.2, 0.9]], np.float32)
    second = np.array([[0.1, 0.95, 0.9, 0.9, 0.1]], np.float32)
    prompted = np.array([[0.0, 0.0, 0.0, 0.6, 0.7]], np.float32)
    also_prompted = np.array([[0.0, 0.0, 0.0, 0.0, 0.8]], np.float32)
    masks = fusion.resolve_overlaps({1: first, 5: second, 9: prompted, 12: also_prompted}, {9, 12})
    assert masks[1].tolist() == [[True, False, False, False, False]]
    assert masks[5].tolist() == [[False, True, True, False, False]]
    assert masks[9].tolist() == [[False, False, False, True, False]]
    assert masks[12].tolist() == [[False, False, False, False, True]]
    assert fusion.resolve_overlaps({}) == {}


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), min_size=2, max_size=4))
def test_an_object_that_comes_later_only_takes_pixels(rows: list[list[float]]) -> None:
    claims = {object_id: np.array([row], np.float32) for object_id, row in enumerate(rows)}
    newest = max(claims)
    before = fusion.resolve_overlaps({object_id: claim for object_id, claim in claims.items() if object_id != newest})
    after = fusion.resolve_overlaps(claims)
    assert np.sum(list(after.values()), axis=0).max() <= 1
    for object_id, mask in before.items():
        assert np.array_equal(after[object_id], mask & ~after[newest])


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), min_size=1, max_size=4))
def test_owners_are_those_of_the_greatest_aggregated_probability(rows: list[list[float]]) -> None:
    claims = {object_id: np.array([row], np.float32) for object_id, row in enumerate(rows, start=1)}
    aggregated = soft_aggregation(np.stack(list(claims.values())))
    for object_id, mask in fusion.resolve_overlaps(claims).items():
        assert (aggregated[object_id] >= aggregated.max(axis=0) - 1e-6)[mask].all()
    claimed = np.max(list(claims.values()), axis=0) > 0.5
    assert np.array_equal(np.any(list(fusion.resolve_overlaps(claims).values()), axis=0), claimed)
