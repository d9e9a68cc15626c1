"""Strokes in stored annotations: scribbles are no masks, and strokes on a mask belong to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ls_backend.export.annotation_masks import EMPTY, SCRIBBLE, read_regions
from pipeline.types import BoolMask
from tests.ls_backend.drawing import drawn, erased, filled, in_pixels, touch
from tests.ls_backend.stored_tasks import brush_region

SIZE_HW_PX = (120, 200)
MASK = np.zeros(SIZE_HW_PX, np.bool_)
MASK[40:90, 60:140] = True
LINE: BoolMask = np.zeros(SIZE_HW_PX, np.bool_)
LINE[20:24, 20:180] = True
BLOB = np.zeros(SIZE_HW_PX, np.bool_)
BLOB[30:60, 40:80] = True
OURS = brush_region("obj1", 1, MASK, id="obj1-00001", origin="prediction")


def by_hand(mask: BoolMask, **changes: Any) -> dict[str, Any]:
    """A region the annotator drew, as it is submitted."""
    return in_pixels(drawn("KcuehtXSap", "obj1", 1, SIZE_HW_PX), mask) | changes


def test_a_scribble_on_the_frame_of_a_backend_mask_is_no_mask() -> None:
    stored = read_regions([by_hand(LINE), OURS], 3)
    assert stored.skipped == {SCRIBBLE: 1}
    np.testing.assert_array_equal(stored.masks["obj1"][1].decode(), MASK)


def test_paint_on_the_frame_of_a_backend_mask_is_part_of_it() -> None:
    stored = read_regions([by_hand(BLOB), OURS], 3)
    assert not stored.skipped
    np.testing.assert_array_equal(stored.masks["obj1"][1].decode(), MASK | BLOB)


@pytest.mark.parametrize(
    "others",
    [[], [{**OURS, "id": "obj1-00002", "item_index": 2}], [{**OURS, "id": "obj2-00001"}]],
    ids=["no backend", "another frame", "another label"],
)
def test_a_thin_mask_without_one_of_the_backend_is_a_mask(others: list[dict[str, Any]]) -> None:
    stored = read_regions([by_hand(LINE), *others], 3)
    assert not stored.skipped
    assert stored.masks["obj1"][1].decode()[LINE].all()


def test_a_thin_mask_that_came_from_the_backend_is_a_mask() -> None:
    relabelled = by_hand(LINE, id="obj2-00001", origin="prediction-changed")
    stored = read_regions([relabelled, OURS], 3)
    assert not stored.skipped
    np.testing.assert_array_equal(stored.masks["obj1"][1].decode(), MASK | LINE)


def test_strokes_stored_on_a_mask_belong_to_it() -> None:
    """Label Studio stores the regions of a frame that was not shown as they were loaded, touches included."""
    across = erased((0, 50), (100, 50), width_pct=5)
    changed = {**OURS, "origin": "prediction-changed", "value": {**OURS["value"], "touches": [across]}}
    expected = MASK.copy()
    expected[55:65] = False
    np.testing.assert_array_equal(read_regions([changed], 3).masks["obj1"][1].decode(), expected)


def test_strokes_alone_are_pixels_too() -> None:
    stored = read_regions([drawn("R", "obj1", 1, SIZE_HW_PX, filled(30, 30, 60, 70)), OURS], 3)
    assert stored.masks["obj1"][1].area_px > MASK.sum()
    scribble = drawn("R", "obj1", 1, SIZE_HW_PX, touch((10, 10), (90, 10)))
    assert read_regions([scribble, OURS], 3).skipped == {SCRIBBLE: 1}


def test_the_note_of_where_to_look_next_is_nothing_that_was_left_out() -> None:
    note = {"id": "ivos-next", "type": "textarea", "value": {"text": ["Frame 3, obj1"]}}
    stored = read_regions([OURS, note], 3)
    assert list(stored.masks["obj1"]) == [1]
    assert not stored.skipped


def test_an_eraser_on_nothing_is_an_empty_mask() -> None:
    stored = read_regions([drawn("R", "obj1", 1, SIZE_HW_PX, erased((10, 10), (90, 10))), OURS], 3)
    assert stored.skipped == {EMPTY: 1}
