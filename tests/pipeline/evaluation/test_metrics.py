"""J and F equal DAVIS' definition, written down once more with plain loops."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pipeline.evaluation.metrics import boundary_accuracy, boundary_map, region_similarity, tolerance_px
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
    chance = np.random.default_rng(5)
    mask, truth = chance.random(shape) < share, chance.random(shape) < 0.5
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
