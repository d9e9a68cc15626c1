"""Prompts from an expected mask: for its main part, with negative points only where the object is not."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.memory.key_grid import KeyGrid
from pipeline.methods.common.expected_prompts import main_part, prompts_from
from pipeline.segmenters.base import FloatMap
from tests.oracle.model import LOW_RES, oracle_segmenter
from tests.oracle.scenes import SIZE_HW_PX, scene

SEGMENTER = oracle_segmenter()
GRID = KeyGrid.of(SEGMENTER, SEGMENTER.embed(scene("moves").images[0]), SIZE_HW_PX, 16)
ROWS, COLUMNS = GRID.covered_hw


def expected(*parts: tuple[slice, slice], logit: float = 3.0) -> FloatMap:
    logits = np.full((LOW_RES, LOW_RES), -3.0, np.float32)
    for part in parts:
        logits[part] = logit
    return logits


def test_two_specks_in_opposite_corners_do_not_make_a_box_of_the_whole_frame() -> None:
    logits = expected((slice(1, 4), slice(1, 4)), (slice(ROWS - 5, ROWS - 1), slice(COLUMNS - 5, COLUMNS - 1)))
    prompts = prompts_from(logits, GRID, 3, 1, SIZE_HW_PX)
    x0, y0, x1, _ = prompts.box_xyxy_px or (0, 0, 0, 0)
    assert x1 - x0 < 0.2 * SIZE_HW_PX[1]
    assert x0 > SIZE_HW_PX[1] / 2
    assert y0 > SIZE_HW_PX[0] / 2
    assert (prompts.points_xy_px[prompts.positive] > (x0, y0)).all()


def test_the_parts_of_an_object_behind_a_post_stay_together() -> None:
    left, right = (slice(20, 30), slice(10, 20)), (slice(20, 30), slice(24, 32))
    assert (main_part(expected(left, right)) == (expected(left, right) > 0)).all()
    far = (slice(20, 30), slice(50, 58))
    assert (main_part(expected(left, far)) == (expected(left) > 0)).all()


def test_the_part_with_more_evidence_counts_though_it_is_smaller() -> None:
    logits = expected((slice(2, 8), slice(2, 8)), logit=0.3)
    logits[40:44, 50:54] = 3.0
    assert main_part(logits)[41, 51]
    assert not main_part(logits)[4, 4]


def test_an_object_that_fills_the_frame_gets_no_negative_point() -> None:
    prompts = prompts_from(expected((slice(None), slice(None))), GRID, 3, 2, SIZE_HW_PX)
    assert prompts.positive.tolist() == [True] * 3
    x0, y0, x1, y1 = prompts.box_xyxy_px or (0, 0, 0, 0)
    assert (x1 - x0, y1 - y0) == pytest.approx(SIZE_HW_PX[::-1], abs=8)


def test_negative_points_lie_outside_the_mask() -> None:
    logits = expected((slice(0, ROWS), slice(0, COLUMNS - 3)))
    prompts = prompts_from(logits, GRID, 3, 2, SIZE_HW_PX)
    x_px = prompts.points_xy_px[~prompts.positive][:, 0]
    assert len(x_px) == 2
    assert (x_px > GRID.x_px[COLUMNS - 4]).all()
