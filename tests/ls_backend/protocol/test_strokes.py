"""What is read from the brush regions of a draft or an annotation."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ls_backend.errors import PromptError
from ls_backend.protocol.brush_regions import StoredRegion
from ls_backend.protocol.label_config import parse_label_config, recommended_label_config
from ls_backend.protocol.prompts import (
    LabelPrompt,
    from_runs,
    in_order,
    read_prompt,
    read_prompts,
    to_pipeline,
    to_runs,
)
from ls_backend.protocol.regions import brush_rle_to_mask, mask_region, mask_to_brush_rle
from ls_backend.protocol.strokes import Strokes, emptied_region, read_strokes
from pipeline.types import BoolMask, MaskPrompt, ScribblePrompt
from tests.ls_backend.drawing import changed_by_hand, drawn, erased, filled, in_pixels, touch

CONFIG = parse_label_config(recommended_label_config(["obj1", "obj2"]))
SIZE_HW_PX = (120, 200)
LINE = ((20.0, 50.0), (80.0, 50.0))


def region(region_id: str, *touches: Any, label: str = "obj1", frame_index: int = 2, **changes: Any) -> dict[str, Any]:
    return drawn(region_id, label, frame_index, SIZE_HW_PX, *touches, **changes)


def backend_mask(mask: BoolMask, frame_index: int = 2) -> dict[str, Any]:
    """A mask as an answer brings it."""
    return mask_region(CONFIG, "obj1", frame_index, SIZE_HW_PX, bytes(mask_to_brush_rle(mask)), 0.9)


def square(left: int, top: int, right: int, bottom: int) -> BoolMask:
    mask = np.zeros(SIZE_HW_PX, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def read(*regions: dict[str, Any]) -> Strokes:
    return read_strokes(regions, CONFIG)


def scribble(prompt: LabelPrompt) -> ScribblePrompt:
    found = to_pipeline(prompt, 1, SIZE_HW_PX, 10)
    assert isinstance(found, ScribblePrompt)
    return found


def shown(region: dict[str, Any]) -> BoolMask:
    (stored,) = read(region).own
    return stored.mask


def test_strokes_of_a_region_of_ones_own_are_scribbles() -> None:
    strokes = read(region("R", touch(*LINE, touch_id="a"), erased((20, 90), (40, 95), touch_id="b")))
    first, second = strokes.scribbles("obj1", ())
    assert [first.region_id, second.region_id] == ["R/a.0", "R/b.0"]
    assert (first.kind, first.label, first.frame_index) == ("scribble", "obj1", 2)
    assert scribble(first) == ScribblePrompt(1, 2, ((40.0, 60.0), (160.0, 60.0)), 4.0, True)
    assert scribble(second) == ScribblePrompt(1, 2, ((40.0, 108.0), (80.0, 114.0)), 4.0, False)
    assert strokes.hand_masks("obj1") == ()
    assert strokes.scribbles("obj2", ()) == ()
    assert strokes.labels == ("obj1",)


def test_what_was_painted_over_counts_no_more() -> None:
    across = erased((50, 30), (50, 70), width_pct=10)
    left, right, negative = read(region("R", touch(*LINE), across)).scribbles("obj1", ())
    assert [prompt.positive for prompt in (left, right, negative)] == [True, True, False]
    assert max(x for x, _ in scribble(left).path_xy_px) < 100 - 10 + 1
    assert min(x for x, _ in scribble(right).path_xy_px) > 100 + 10 - 1
    covered = erased(*LINE, width_pct=10)
    (alone,) = read(region("R", touch(*LINE), covered)).scribbles("obj1", ())
    assert not alone.positive


def test_strokes_beside_the_image_end_at_its_edge() -> None:
    (prompt,) = read(region("R", touch((-20, 50), (120, 50)))).scribbles("obj1", ())
    assert scribble(prompt).path_xy_px == ((0.0, 60.0), (199.0, 60.0))


def test_pixels_alone_are_traced() -> None:
    line = region("R", touch(*LINE))
    (prompt,) = read(in_pixels(line, shown(line))).scribbles("obj1", ())
    path = scribble(prompt).path_xy_px
    assert prompt.positive
    assert all(abs(y - 60) <= 1.5 for _, y in path)
    assert min(x for x, _ in path) == pytest.approx(40, abs=4)
    assert max(x for x, _ in path) == pytest.approx(160, abs=4)
    assert scribble(prompt).width_px == pytest.approx(4, abs=1.5)


def test_a_dot_of_pixels_is_a_scribble_of_one_place() -> None:
    dot = in_pixels(region("R"), square(50, 40, 53, 43))
    (prompt,) = read(dot).scribbles("obj1", ())
    (place,) = scribble(prompt).path_xy_px
    assert place == pytest.approx((51.5, 41.5), abs=1e-3)


def test_known_strokes_keep_their_signs_when_pixels_alone_are_left() -> None:
    line = region("R", touch(*LINE), erased((20, 90), (40, 95)))
    known = read(line).scribbles("obj1", ())
    stored = in_pixels(line, shown(line))
    assert read(stored).scribbles("obj1", known) == known
    other = in_pixels(line, square(10, 10, 14, 100))
    (traced,) = read(other).scribbles("obj1", known)
    assert traced.positive


def test_only_negative_strokes_are_remembered_too() -> None:
    """An eraser on nothing paints nothing, so an annotation holds an empty region."""
    negative = region("R", erased(*LINE))
    known = read(negative).scribbles("obj1", ())
    assert [prompt.positive for prompt in known] == [False]
    assert read(in_pixels(negative, np.zeros(SIZE_HW_PX, np.bool_))).scribbles("obj1", known) == known


def test_strokes_on_stored_pixels_add_to_them() -> None:
    line = region("R", touch(*LINE))
    reopened = in_pixels(line, shown(line))
    reopened["value"]["touches"] = [touch((20, 80), (60, 80), touch_id="new")]
    found = read(reopened).scribbles("obj1", ())
    assert [prompt.region_id for prompt in found] == ["R/traced0", "R/new.0"]


def test_a_filled_region_is_the_truth() -> None:
    strokes = read(region("R", filled(30, 30, 60, 70)))
    assert strokes.scribbles("obj1", ()) == ()
    (by_hand,) = strokes.hand_masks("obj1")
    assert by_hand.painted == ("R",)
    prompt = by_hand.prompt(["p1"])
    assert (prompt.kind, prompt.label, prompt.frame_index) == ("mask", "obj1", 2)
    mask = to_pipeline(prompt, 7, SIZE_HW_PX, 10)
    assert isinstance(mask, MaskPrompt)
    np.testing.assert_array_equal(mask.mask.decode(), strokes.own[0].mask)


def test_a_mask_of_the_backend_is_the_truth_once_a_person_changed_it() -> None:
    mask = backend_mask(square(40, 30, 100, 90))
    assert read(mask).hand_masks("obj1") == ()
    assert read(mask).scribbles("obj1", ()) == ()
    changed = changed_by_hand(mask, erased((20, 50), (50, 50), width_pct=5))
    (by_hand,) = read(changed).hand_masks("obj1")
    assert by_hand.painted == ()
    made = from_runs(by_hand.prompt(()).hand_mask)  # type: ignore[arg-type]
    expected = square(40, 30, 100, 90)
    expected[55:65, 40:100] = False
    np.testing.assert_array_equal(made.decode(), expected)


def test_touches_that_an_answer_replaced_are_nothing() -> None:
    """Label Studio saves a frame that was not shown as it was loaded, but with the origin of the answer."""
    mask = changed_by_hand(backend_mask(square(40, 30, 100, 90)), erased((20, 50), (50, 50)))
    assert read({**mask, "origin": "prediction"}).hand_masks("obj1") == ()


def test_paint_beside_a_mask_of_the_backend_adds_to_it() -> None:
    mask = backend_mask(square(40, 30, 100, 90))
    paint = region("R", filled(60, 30, 80, 60))
    (by_hand,) = read(mask, paint).hand_masks("obj1")
    both = square(40, 30, 100, 90) | shown(paint)
    np.testing.assert_array_equal(from_runs(by_hand.prompt(()).hand_mask).decode(), both)  # type: ignore[arg-type]
    (alone,) = read(paint).hand_masks("obj1")
    assert alone.version == by_hand.version, "what the backend makes of it changes nothing"


def test_every_stroke_makes_a_new_version() -> None:
    first = filled(30, 30, 60, 70)
    versions = [
        read(region("R", *touches)).hand_masks("obj1")[0].version
        for touches in ([first], [first, touch(*LINE)], [first])
    ]
    assert versions[0] == versions[2] != versions[1]


def test_an_emptied_region_keeps_the_mask() -> None:
    paint = region("R", filled(30, 30, 60, 70))
    prompt = read(paint).hand_masks("obj1")[0].prompt(["p1"])
    emptied = emptied_region("R", prompt, CONFIG)
    assert {key: emptied[key] for key in ("id", "origin", "item_index", "from_name")} == {
        "id": "R", "origin": "manual", "item_index": 2, "from_name": "brush",
    }  # fmt: skip
    assert emptied["score"] == 1.0
    assert not brush_rle_to_mask(emptied["value"]["rle"], *SIZE_HW_PX).any()
    (by_hand,) = read(emptied).hand_masks("obj1")
    again = by_hand.prompt(["p1", "p2"])
    assert again.hand_mask == prompt.hand_mask, "what came after it still does"
    more = {**emptied, "value": {**emptied["value"], "touches": [filled(70, 30, 90, 70)]}}
    assert read(more).hand_masks("obj1")[0].version != by_hand.version


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"original_width": 0}, "original_width"),
        (
            {"original_width": 300, "value": in_pixels(region("R"), square(1, 1, 9, 9))["value"]},
            "is damaged: .* 300x120",
        ),
        ({"value": {"touches": [{}], "brushlabels": ["obj1"]}}, "relativePoints"),
        ({"value": {"touches": [touch(*LINE)], "brushlabels": []}}, "needs one label"),
        ({"value": {"touches": [touch(*LINE)], "brushlabels": ["obj1", "obj2"]}}, "needs one label"),
        ({"value": {"touches": [touch(*LINE)], "brushlabels": ["car"]}}, "needs one label"),
        ({"image_rotation": 90}, "not rotated"),
    ],
)
def test_what_cannot_be_read_is_named(damage: dict[str, Any], message: str) -> None:
    strokes = read({**region("R", touch(*LINE)), **damage}, region("fine", touch(*LINE)))
    assert [stored.region.id for stored in strokes.own] == ["fine"]
    (problem,) = strokes.problems
    assert "'R'" in problem
    assert re.search(message, problem)


def test_other_regions_are_not_looked_at() -> None:
    other = region("R", touch(*LINE), from_name="another_brush")
    click = {"id": "p", "type": "keypointlabels", "from_name": "pos", "value": {"x": 1, "y": 2}}
    assert read(other, click) == Strokes((), {}, ())


def test_notes_are_read_as_they_were_written() -> None:
    line = region("R", touch(*LINE), erased((20, 90), (40, 95)))
    paint = region("P", filled(30, 30, 60, 70), frame_index=4)
    strokes = read(line, paint)
    prompts = [*strokes.scribbles("obj1", ()), strokes.hand_masks("obj1")[0].prompt(["p1"])]
    assert [read_prompt(prompt.stored_form, CONFIG) for prompt in prompts] == prompts
    assert list(read_prompts([prompt.stored_form for prompt in prompts], CONFIG).prompts) == prompts


def test_a_mask_comes_after_what_it_replaces_and_before_what_corrects_it() -> None:
    strokes = read(region("R", touch(*LINE)), region("P", filled(30, 30, 60, 70), frame_index=4))
    (stroke,) = strokes.scribbles("obj1", ())
    mask = strokes.hand_masks("obj1")[0].prompt([stroke.region_id])
    later = replace(stroke, region_id="later")
    assert in_order([later, mask, stroke]) == (stroke, mask, later)
    assert in_order([later, stroke]) == (later, stroke)


def test_a_mask_of_another_size_is_refused() -> None:
    prompt = read(region("P", filled(30, 30, 60, 70))).hand_masks("obj1")[0].prompt(())
    with pytest.raises(PromptError, match="200x120 px, but the video is 100x50 px"):
        to_pipeline(prompt, 1, (50, 100), 10)


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_are_read_as_they_were_written(mask: BoolMask) -> None:
    runs = to_runs(mask, version="", replaces=[])
    np.testing.assert_array_equal(from_runs(runs).decode(), mask)


def test_stored_regions_know_whose_they_are() -> None:
    mask = read(backend_mask(square(40, 30, 100, 90))).of_backend["obj1-00002"]
    assert isinstance(mask, StoredRegion)
    assert mask.is_mask_of_backend
    relabelled = {**backend_mask(square(40, 30, 100, 90)), "origin": "prediction-changed"}
    relabelled["value"] = {**relabelled["value"], "brushlabels": ["obj2"]}
    (own,) = read(relabelled).own
    assert own.label == "obj2", "a mask the annotator gave to another label is painted for that one"
