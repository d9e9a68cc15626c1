"""J and F of masks, and areas under curves, computed by hand and by plain loops."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pipeline.evaluation.metrics import (
    ClipRounds,
    Curve,
    boundary_accuracy,
    boundary_map,
    over_rounds,
    over_time,
    region_similarity,
    tolerance_px,
)
from pipeline.types import BoolMask
from tests.clips import real_or_rendered


def plain_j(mask: BoolMask, truth: BoolMask) -> float:
    both = either = 0
    for a, b in zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True):
        both += a and b
        either += a or b
    return both / either if either else 1.0


def plain_boundary(mask: BoolMask) -> list[tuple[int, int]]:
    rows = mask.tolist()
    height, width = mask.shape
    found = []
    for y, x in itertools.product(range(height), range(width)):
        here = rows[y][x]
        if y == height - 1 and x == width - 1:
            continue
        if y == height - 1:
            edge = here != rows[y][x + 1]
        elif x == width - 1:
            edge = here != rows[y + 1][x]
        else:
            edge = here != rows[y][x + 1] or here != rows[y + 1][x] or here != rows[y + 1][x + 1]
        if edge:
            found.append((y, x))
    return found


def plain_f(mask: BoolMask, truth: BoolMask) -> float:
    found, wanted = plain_boundary(mask), plain_boundary(truth)
    if not found and not wanted:
        return 1.0
    if not found or not wanted:
        return 0.0
    near = cdist(found, wanted) <= math.ceil(0.008 * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2))
    precision, recall = float(near.any(axis=1).mean()), float(near.any(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(
    ("name", "first", "second", "object_id"),
    [("blackswan", 0, 6, 1), ("bmx-trees", 3, 5, 1), ("comp-camel-dog-scooter", 20, 22, 2)],
)
def test_masks_of_clips_score_as_davis_defines(
    tmp_path: Path, name: str, first: int, second: int, object_id: int
) -> None:
    clip = real_or_rendered(name, tmp_path)
    mask, truth = clip.mask(second, object_id), clip.mask(first, object_id)
    assert mask.any()
    assert truth.any()
    assert region_similarity(mask, truth) == pytest.approx(plain_j(mask, truth))
    f = boundary_accuracy(mask, truth)
    assert 0 < f < 1
    assert f == pytest.approx(plain_f(mask, truth))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (17, 31), (140, 90)])
def test_masks_up_to_the_image_edge_score_as_davis_defines(shape: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(5)
    mask, truth = rng.random(shape) < share, rng.random(shape) < 0.5
    truth[: shape[0] // 2] = True
    assert region_similarity(mask, truth) == pytest.approx(plain_j(mask, truth))
    assert boundary_accuracy(mask, truth) == pytest.approx(plain_f(mask, truth))
    assert sorted(zip(*np.nonzero(boundary_map(mask)), strict=True)) == plain_boundary(mask)


@pytest.mark.parametrize(
    ("mask", "truth", "j", "f"),
    [
        (np.zeros((8, 8)), np.zeros((8, 8)), 1.0, 1.0),
        (np.ones((8, 8)), np.ones((8, 8)), 1.0, 1.0),
        (np.zeros((8, 8)), np.eye(8), 0.0, 0.0),
        (np.eye(8), np.zeros((8, 8)), 0.0, 0.0),
        (np.eye(8), np.eye(8), 1.0, 1.0),
    ],
    ids=["both empty", "both full", "missed", "invented", "same"],
)
def test_empty_and_full_masks(mask: BoolMask, truth: BoolMask, j: float, f: float) -> None:
    assert region_similarity(mask.astype(np.bool_), truth.astype(np.bool_)) == j
    assert boundary_accuracy(mask.astype(np.bool_), truth.astype(np.bool_)) == f


def test_a_boundary_within_the_tolerance_is_found_and_one_pixel_further_is_not() -> None:
    radius_px = tolerance_px((480, 854))
    assert radius_px == 8
    truth = np.zeros((480, 854), np.bool_)
    truth[:, :400] = True
    for shift_px, f in ((radius_px, 1.0), (radius_px + 1, 0.0)):
        assert boundary_accuracy(np.roll(truth, shift_px, axis=1) | truth, truth) == f


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape .* \(4, 4\) and \(4, 5\)"):
        region_similarity(np.zeros((4, 4), np.bool_), np.zeros((4, 5), np.bool_))


def test_one_clip_over_time() -> None:
    clip = ClipRounds(values=(0.6, 0.8), seconds=(10.0, 20.0), n_objects=1)
    curve = over_time([clip])
    # The budget is 30 s x 1 object x 2 rounds. 0..10 s: 0 to 0.6; 10..30 s: 0.6 to 0.8; 30..60 s: 0.8.
    assert curve == Curve((0.0, 10.0, 30.0, 60.0), (0.0, 0.6, 0.8, 0.8))
    assert curve.area() == pytest.approx((3.0 + 14.0 + 24.0) / 60.0)
    assert curve.at(5.0) == pytest.approx(0.3)
    assert curve.at(20.0) == pytest.approx(0.7)
    assert curve.at(60.0) == pytest.approx(0.8)
    assert curve.at(1000.0) == pytest.approx(0.8)


def test_figures_are_means_over_objects_and_times_are_means_over_clips() -> None:
    one = ClipRounds(values=(0.9, 0.9), seconds=(10.0, 10.0), n_objects=1)
    three = ClipRounds(values=(0.1, 0.5), seconds=(30.0, 50.0), n_objects=3)
    curve = over_time([one, three])
    assert curve.xs == pytest.approx((0.0, 20.0, 50.0, 120.0))
    assert curve.values == pytest.approx((0.0, 0.3, 0.6, 0.6))


@pytest.mark.parametrize(
    ("seconds", "values", "times_s"),
    [
        ((20.0, 50.0, 30.0), (0.5, 0.6, 0.6), (0.0, 20.0, 70.0, 70.0, 90.0)),
        ((91.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 90.0)),
        ((30.0, 30.0, 30.0), (0.5, 0.6, 0.7), (0.0, 30.0, 60.0, 90.0, 90.0)),
    ],
    ids=["third round too late", "first round too late", "just in time"],
)
def test_a_round_after_the_budget_changes_nothing_and_costs_nothing(
    seconds: tuple[float, ...], values: tuple[float, ...], times_s: tuple[float, ...]
) -> None:
    curve = over_time([ClipRounds((0.5, 0.6, 0.7), seconds, n_objects=1)])
    assert curve.xs == times_s
    assert curve.values == (0.0, *values, values[-1])


def test_over_rounds_time_plays_no_part() -> None:
    clips = [ClipRounds((0.4, 0.8), (1.0, 1.0), 1), ClipRounds((0.4, 0.8), (1e6, 1e6), 1)]
    # 0..1: 0 to 0.4; 1..2: 0.4 to 0.8; 2..3: 0.8.
    assert over_rounds(clips).area() == pytest.approx((0.2 + 0.6 + 0.8) / 3)


def test_a_perfect_first_round_scores_just_below_one() -> None:
    clip = ClipRounds((1.0,) * 8, (0.0,) * 8, 1)
    assert over_rounds([clip]).area() == pytest.approx(8.5 / 9)
    assert over_time([clip]).area() == pytest.approx(1.0)
