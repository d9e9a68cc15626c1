"""What prompts on one frame are worth: the box's surroundings, an earlier mask, and votes around a click."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.segmenters.classical.box_evidence import box_evidence, novelty
from pipeline.segmenters.classical.examples import USUAL_SHARE, filled_share, spacing, sureness_of
from pipeline.segmenters.classical.work_prompts import WorkPrompts, discs
from pipeline.types import BoolMask
from tests.pipeline.segmenters.test_classical import BOX, NEIGHBOUR, OBJECT, clicks, iou, segment


def square(size: int, low: int, high: int) -> BoolMask:
    mask = np.zeros((size, size), np.bool_)
    mask[low:high, low:high] = True
    return mask


def test_what_differs_from_the_boxs_surroundings_is_likely_object() -> None:
    inside, truth = square(80, 20, 60), square(80, 32, 48)
    colours = np.random.default_rng(0).normal(0, 0.02, (80, 80, 6)).astype(np.float32)
    colours[truth] += 1.0
    contrast = np.where(truth, 2.0, 0.0).astype(np.float32)
    evidence = box_evidence(contrast, colours, ~inside, inside)
    assert evidence[truth].mean() > 1.0
    assert evidence[inside & ~truth].mean() < -0.5
    assert (evidence[~inside] < -3).all()


def test_a_colour_of_the_far_side_is_less_background_than_one_of_the_near_side() -> None:
    inside = square(80, 20, 60)
    colours = np.zeros((80, 80, 6), np.float32)
    colours[:, 40:] = 1.0
    colours[35:45, 22:32] = 1.0
    strange = novelty(colours, ~inside, inside, 40)
    assert strange[40, 27] > strange[40, 53] + 0.5
    assert strange[~inside].max() == 0


def work_prompts(points_xy: list[tuple[int, int]], box: tuple[int, int, int, int]) -> WorkPrompts:
    points, none = np.array(points_xy, np.int_), np.zeros((0, 2), np.int_)
    return WorkPrompts(discs((120, 120), points), discs((120, 120), none), points, none, box)


def test_a_share_of_the_box_grows_with_the_spacing_of_the_clicks() -> None:
    dense = work_prompts([(x, y) for x in (20, 50, 80) for y in (20, 50, 80)], (10, 10, 100, 100))
    thin = work_prompts([(x, 50) for x in range(20, 90, 9)], (10, 10, 100, 100))
    assert filled_share(dense, spacing(dense)) == pytest.approx(1.0)
    assert filled_share(thin, spacing(thin)) < 0.15


def test_one_click_says_nothing_about_the_share_of_the_box() -> None:
    one = work_prompts([(50, 50)], (10, 10, 100, 100))
    assert filled_share(one, spacing(one)) == pytest.approx(USUAL_SHARE)
    assert sureness_of(one) == 0.0


@pytest.mark.parametrize("low_x", [75, 130])
def test_an_earlier_mask_that_fits_the_box_helps_and_one_that_does_not_is_overruled(low_x: int) -> None:
    """Half of the prior or all of it lies elsewhere; the box and the click still find the object."""
    prior = np.roll(OBJECT, low_x, axis=1)
    prompts = clicks((130, 120, True), box=BOX)
    assert iou(segment(prompts, prior), OBJECT) > iou(segment(prompts), OBJECT) - 0.02
    assert iou(segment(prompts, OBJECT), OBJECT) >= iou(segment(prompts), OBJECT) - 0.005


def test_an_earlier_mask_tells_which_of_two_things_in_a_loose_box_is_meant() -> None:
    loose = clicks(box=(66, 76, 240, 164))
    with_prior = segment(loose, OBJECT)
    assert iou(with_prior, OBJECT) > iou(segment(loose), OBJECT)
    assert (with_prior & NEIGHBOUR).sum() < 0.2 * NEIGHBOUR.sum()


def test_an_empty_earlier_mask_changes_nothing() -> None:
    prompts = clicks(box=BOX)
    assert np.array_equal(segment(prompts, np.zeros_like(OBJECT)), segment(prompts))
