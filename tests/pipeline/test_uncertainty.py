"""Entropy over objects and background, and where to click because of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.uncertainty import (
    dilated,
    entropy_map,
    masked_entropy,
    most_uncertain,
    object_uncertainties,
    objects_near,
    pseudo_correction,
    soft_aggregation,
)


def disc(height_px: int, width_px: int, x: float, y: float, radius: float) -> np.ndarray:
    ys, xs = np.mgrid[:height_px, :width_px]
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius**2


@given(st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=4))
def test_the_entropy_is_that_of_the_aggregated_distribution(claims: list[float]) -> None:
    probabilities = np.array(claims, np.float32).reshape(-1, 1, 1)
    shares = [float(share) for share in soft_aggregation(probabilities)[:, 0, 0]]
    expected = -sum(share * math.log(share) for share in shares if share > 0) / math.log(len(shares))
    found = float(entropy_map(probabilities)[0, 0])
    assert found == pytest.approx(expected, abs=1e-4)
    assert 0.0 <= found <= 1.0


@pytest.mark.parametrize(
    ("claims", "expected"),
    [([0.5], 1.0), ([1.0], 0.0), ([0.0], 0.0), ([0.0, 1.0], 0.0), ([1.0, 1.0], math.log(2) / math.log(3))],
)
def test_certain_pixels_have_no_entropy_and_even_claims_the_most(claims: list[float], expected: float) -> None:
    found = entropy_map(np.array(claims, np.float32).reshape(-1, 1, 1))
    assert found[0, 0] == pytest.approx(expected, abs=1e-3)


def test_an_entropy_needs_an_object() -> None:
    with pytest.raises(ValueError, match="at least one object"):
        entropy_map(np.zeros((0, 4, 4), np.float32))


def test_only_the_surroundings_of_the_mask_count() -> None:
    mask = disc(80, 100, 40, 40, 15)
    entropy = np.where(dilated(mask), 0.25, 1.0).astype(np.float32)
    assert masked_entropy(entropy, mask) == pytest.approx(0.25)
    assert mask.sum() < dilated(mask).sum() < 1.5 * mask.sum()
    assert masked_entropy(np.zeros_like(entropy), mask) == 0.0


def test_an_empty_mask_is_as_uncertain_as_the_frame_s_least_certain_pixel() -> None:
    entropy = np.zeros((20, 20), np.float32)
    entropy[3, 4] = 0.7
    assert masked_entropy(entropy, np.zeros((20, 20), np.bool_)) == pytest.approx(0.7)


def test_a_pseudo_correction_lies_deep_inside_the_mask_and_where_it_is_certain() -> None:
    mask = disc(100, 160, 50, 50, 30) | disc(100, 160, 120, 50, 30)
    entropy = np.zeros(mask.shape, np.float32)
    entropy[:, 80:] = 0.6
    found = pseudo_correction(entropy, mask)
    assert found is not None
    assert np.hypot(found[0] - 50, found[1] - 50) < 6
    entropy = entropy[:, ::-1]
    found = pseudo_correction(entropy, mask)
    assert found is not None
    assert np.hypot(found[0] - 120, found[1] - 50) < 6
    assert pseudo_correction(entropy, np.zeros_like(mask)) is None


@given(st.integers(0, 29), st.integers(0, 39), st.integers(0, 3))
def test_a_pseudo_correction_is_always_inside(row: int, column: int, reach: int) -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    found = pseudo_correction(np.random.default_rng(row).random(mask.shape, np.float32), mask)
    assert found is not None
    assert mask[int(found[1]), int(found[0])]


def test_a_person_is_sent_to_the_widest_uncertain_patch() -> None:
    mask = disc(100, 160, 60, 50, 35)
    entropy = (dilated(mask) & ~disc(100, 160, 60, 50, 33)).astype(np.float32) * 0.9
    entropy[disc(100, 160, 75, 50, 8)] = 0.8
    x_px, y_px = most_uncertain(entropy, mask)
    assert np.hypot(x_px - 75, y_px - 50) < 8


def test_objects_of_a_frame_share_one_distribution() -> None:
    left = disc(60, 120, 40, 30, 14).astype(np.float32)
    right = disc(60, 120, 64, 30, 14).astype(np.float32)
    far = disc(60, 120, 110, 10, 5).astype(np.float32)
    both = object_uncertainties({1: left, 2: right, 3: far}, [1, 2, 3])
    whole = entropy_map(np.stack([left, right, far]))
    for object_id, probability in ((1, left), (2, right), (3, far)):
        assert both[object_id] == pytest.approx(masked_entropy(whole, probability > 0.5), abs=1e-6)
    assert both[1] > 0.01 > both[3]
    assert objects_near({1: left, 2: right, 3: far}, [1]) == {1, 2}
    assert objects_near({1: left, 2: right, 3: far}, [3]) == {3}


def test_an_object_with_an_empty_mask_is_measured_where_it_is_most_probable() -> None:
    faint = np.zeros((40, 40), np.float32)
    faint[7, 9] = 0.45
    (found,) = object_uncertainties({4: faint}, [4]).values()
    assert found == pytest.approx(float(entropy_map(faint[None])[7, 9]))


def test_soft_aggregation_follows_the_equations() -> None:
    probabilities = np.array([[[0.9, 0.4]], [[0.6, 0.4]]], np.float32)
    aggregated = soft_aggregation(probabilities)
    for column, (first, second) in enumerate([(0.9, 0.6), (0.4, 0.4)]):
        background = (1 - first) * (1 - second)
        odds = [p / (1 - p) for p in (background, first, second)]
        assert aggregated[:, 0, column] == pytest.approx(np.array(odds) / sum(odds), abs=1e-5)


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), min_size=1, max_size=5))
def test_soft_aggregation_gives_a_distribution_in_the_order_of_the_claims(rows: list[list[float]]) -> None:
    probabilities = np.array(rows, np.float32).reshape(len(rows), 2, 3)
    aggregated = soft_aggregation(probabilities)
    assert aggregated.shape == (1 + len(rows), 2, 3)
    assert np.isfinite(aggregated).all()
    assert aggregated.sum(axis=0) == pytest.approx(np.ones((2, 3)), abs=1e-5)
    best = np.take_along_axis(probabilities, aggregated[1:].argmax(axis=0)[None], axis=0)[0]
    assert best == pytest.approx(probabilities.max(axis=0), abs=1e-6)
