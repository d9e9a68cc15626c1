"""Query points lie in the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pipeline.trackers.points import sampling

GREY = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, (40, 50)), st.integers(0, 60))
def test_points_lie_in_the_mask_and_are_not_too_many(mask: NDArray[np.bool_], n_points: int) -> None:
    mixed = sampling.mixed(GREY, mask, n_points, np.random.default_rng(0))
    for points in (sampling.grid(mask, n_points), sampling.corners_and_grid(GREY, mask, n_points), mixed):
        assert points.dtype == np.float32
        assert points.shape[1] == 2
        assert len(points) <= n_points
        assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()


@pytest.mark.parametrize("area", [1, 2, 500])
def test_no_mask_is_too_small_for_a_point(area: int) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask.ravel()[700 : 700 + area] = True
    assert len(sampling.grid(mask, 10)) >= 1


@settings(max_examples=100, deadline=None)
@given(arrays(np.bool_, (40, 50)), st.integers(0, 60), st.sampled_from(sampling.STRATEGIES), st.integers(0, 9))
def test_every_strategy_gives_as_many_different_points_as_there_can_be(
    mask: NDArray[np.bool_], n_points: int, strategy: str, seed: int
) -> None:
    points = sampling.sample(strategy, GREY, mask, n_points, np.random.default_rng(seed))
    assert points.dtype == np.float32
    assert points.shape == (min(n_points, mask.sum()), 2)
    assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()
    assert len(np.unique(points, axis=0)) == len(points)
    again = sampling.sample(strategy, GREY, mask, n_points, np.random.default_rng(seed))
    np.testing.assert_array_equal(points, again)


@pytest.mark.parametrize("strategy", sampling.STRATEGIES)
def test_a_smooth_object_has_no_corners_but_points(strategy: str) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask[10:30, 10:40] = True
    points = sampling.sample(strategy, np.full((40, 50), 90, np.uint8), mask, 8, np.random.default_rng(0))
    assert len(points) == 8


@pytest.mark.parametrize(
    ("strategy", "n_points"), [("random", 1), ("random", 5), ("k_medoids", 5), ("shi_tomasi", 5), ("mixed", 1)]
)
def test_the_seed_matters(strategy: str, n_points: int) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask[10:30, 10:40] = True
    flat = np.full((40, 50), 90, np.uint8)
    one, other = (sampling.sample(strategy, flat, mask, n_points, np.random.default_rng(seed)) for seed in (1, 2))
    assert (one != other).any()


def test_medoids_cover_every_part() -> None:
    """Four equal squares far from each other: one medoid near the middle of each, whatever the seed."""
    mask = np.zeros((200, 200), np.bool_)
    for y in (20, 160):
        for x in (10, 150):
            mask[y : y + 21, x : x + 21] = True
    for seed in range(10):
        points = sampling.k_medoids(mask, 4, np.random.default_rng(seed))
        middles = np.array([(20, 30), (160, 30), (20, 170), (160, 170)])
        distances = np.linalg.norm(points[:, None] - middles, axis=2)
        assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3]
        assert distances.min(axis=1).max() < 3


def test_mixed_points_are_medoids_corners_and_random_ones() -> None:
    """Of 12 points 3 are medoids and 4 are corners; one part of the object has all the corners."""
    mask = np.zeros((80, 100), np.bool_)
    mask[10:70, 10:90] = True
    grey = np.full((80, 100), 90, np.uint8)
    grey[20:40, 20:40] = 200
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    points = sampling.mixed(grey, mask, 12, rng)
    assert len(points) == 12
    np.testing.assert_array_equal(points[:3], sampling.k_medoids(mask, 3, again))
    assert (np.abs(points[3:7] - np.array([30, 30])).max(axis=1) < 12).all()
    other = sampling.mixed(grey, mask, 12, rng)
    assert (points[7:] != other[7:]).any()


def test_medoids_of_a_large_mask_are_bounded_but_its_points_are_not() -> None:
    mask = np.ones((100, 100), np.bool_)
    rng = np.random.default_rng(0)
    assert len(sampling.k_medoids(mask, 3000, rng)) == sampling.MAX_CLUSTERED_PX
    assert len(sampling.sample("k_medoids", np.zeros((100, 100), np.uint8), mask, 3000, rng)) == 3000


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown sampling 'harris'; known are random, k_medoids, .*grid"):
        sampling.sample("harris", GREY, np.ones((40, 50), np.bool_), 3, np.random.default_rng(0))
