"""The mask of one frame from a box: its surroundings, clicks as examples, an earlier mask; and agreeing clicks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pipeline.segmenters.base import PromptBatch
from pipeline.segmenters.classical.box_cues import (
    USUAL_BOX_FILL,
    box_logits,
    click_example_weight,
    click_spacing_px,
    expected_box_fill,
    ring_dissimilarity,
)
from pipeline.segmenters.classical.prompts import WorkPrompts, click_discs
from pipeline.types import BoolMask
from tests.pipeline.frame_sources import moving_square
from tests.pipeline.segmenters.classical.scene import BOX, SEGMENTER, segment
from tests.pipeline.segmenters.touching import NEIGHBOUR, OBJECT, clicks, iou

BOX_AND_CLICK = clicks((130, 120, True), box=BOX)


def square(size: int, low: int, high: int) -> BoolMask:
    mask = np.zeros((size, size), np.bool_)
    mask[low:high, low:high] = True
    return mask


def test_what_differs_from_the_boxs_surroundings_is_likely_object() -> None:
    inside, truth = square(80, 20, 60), square(80, 32, 48)
    colours = np.random.default_rng(0).normal(0, 0.02, (80, 80, 6)).astype(np.float32)
    colours[truth] += 1.0
    contrast = np.where(truth, 2.0, 0.0).astype(np.float32)
    logits = box_logits(contrast, colours, ~inside, inside)
    assert logits[truth].mean() > 1.0
    assert logits[inside & ~truth].mean() < -0.5
    assert (logits[~inside] < -3).all()


def test_a_pixel_is_compared_with_the_near_side_of_the_surroundings() -> None:
    inside = square(80, 20, 60)
    colours = np.zeros((80, 80, 6), np.float32)
    colours[:, 40:] = 1.0
    colours[35:45, 22:32] = 1.0
    dissimilarity = ring_dissimilarity(colours, ~inside, inside, 40)
    assert dissimilarity[40, 27] > dissimilarity[40, 53] + 0.5
    assert dissimilarity[~inside].max() == 0


def work_prompts(points_xy: list[tuple[int, int]], box: tuple[int, int, int, int]) -> WorkPrompts:
    points, none = np.array(points_xy, np.int_), np.zeros((0, 2), np.int_)
    return WorkPrompts(click_discs((120, 120), points), click_discs((120, 120), none), points, none, box)


def test_a_share_of_the_box_grows_with_the_spacing_of_the_clicks() -> None:
    dense = work_prompts([(x, y) for x in (20, 50, 80) for y in (20, 50, 80)], (10, 10, 100, 100))
    thin = work_prompts([(x, 50) for x in range(20, 90, 9)], (10, 10, 100, 100))
    assert expected_box_fill(dense, click_spacing_px(dense)) == pytest.approx(1.0)
    assert expected_box_fill(thin, click_spacing_px(thin)) < 0.15


def test_one_click_leaves_the_usual_share_of_the_box() -> None:
    one = work_prompts([(50, 50)], (10, 10, 100, 100))
    assert expected_box_fill(one, click_spacing_px(one)) == pytest.approx(USUAL_BOX_FILL)
    assert click_example_weight(one) == 0.0


@cache
def mask_of_box_and_click() -> BoolMask:
    return segment(BOX_AND_CLICK)


@pytest.mark.parametrize("shift_px", [75, 130])
def test_an_earlier_mask_that_does_not_fit_the_box_is_overruled(shift_px: int) -> None:
    """Half of the prior or all of it lies elsewhere; the box and the click still find the object."""
    prior = np.roll(OBJECT, shift_px, axis=1)
    assert iou(segment(BOX_AND_CLICK, prior), OBJECT) > iou(mask_of_box_and_click(), OBJECT) - 0.02


def test_an_earlier_mask_that_fits_the_box_helps() -> None:
    assert iou(segment(BOX_AND_CLICK, OBJECT), OBJECT) >= iou(mask_of_box_and_click(), OBJECT) - 0.005


def test_an_earlier_mask_chooses_between_two_things_in_a_loose_box() -> None:
    loose = clicks(box=(66, 76, 240, 164))
    with_prior = segment(loose, OBJECT)
    assert iou(with_prior, OBJECT) > iou(segment(loose), OBJECT)
    assert (with_prior & NEIGHBOUR).sum() < 0.2 * NEIGHBOUR.sum()


def test_an_empty_earlier_mask_changes_nothing() -> None:
    assert np.array_equal(segment(BOX_AND_CLICK, np.zeros_like(OBJECT)), mask_of_box_and_click())


def test_an_object_that_fills_its_box_is_found_whole() -> None:
    images, masks = moving_square(n_frames=1)
    ys, xs = masks[0].nonzero()
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    found = SEGMENTER.segment(SEGMENTER.embed(images[0]), PromptBatch((clicks(box=box),)))
    assert iou(found.low_res_logits[0, 0] > 0, masks[0]) > 0.95


def test_clicks_that_agree_with_a_mask_leave_it_as_it_is() -> None:
    agreeing = [
        (90, 120, True),
        (130, 95, True),
        (130, 145, True),
        (170, 120, True),
        (30, 30, False),
        (230, 200, False),
    ]
    assert iou(segment(clicks(*agreeing), OBJECT), OBJECT) > 0.97
    corrected = segment(clicks(*agreeing, (212, 120, False)), OBJECT | NEIGHBOUR)
    assert (corrected & NEIGHBOUR).sum() < 0.1 * NEIGHBOUR.sum()
    assert (corrected & OBJECT).sum() > 0.95 * OBJECT.sum()


def test_clicks_crowded_into_a_corner_do_not_shrink_the_object() -> None:
    crowded = [(20 + 3 * (k % 3), 20 + 3 * (k // 3)) for k in range(8)]
    prompts = work_prompts(crowded, (15, 15, 75, 75))
    assert expected_box_fill(prompts, click_spacing_px(prompts)) > 0.6 * USUAL_BOX_FILL
    spread = work_prompts([(20 + 25 * (k % 3), 20 + 25 * (k // 3)) for k in range(8)], (15, 15, 75, 75))
    assert expected_box_fill(spread, click_spacing_px(spread)) > 2 * expected_box_fill(
        prompts, click_spacing_px(prompts)
    )
