"""Brush and eraser in a real browser: scribbles prompt, masks made by hand are the truth, nothing drawn is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ls_backend.export.annotation_masks import SCRIBBLE, read_regions
from tests.clips import Clip
from tests.e2e.editor import INTERACTIVE_PATH, Editor
from tests.e2e.person import BoolMask, box_around, jaccard
from tests.e2e.workplace import (
    BACKGROUND,
    SCREENSHOTS,
    Workplace,
    masks_of,
    prompt_ids,
)
from tests.e2e.workplace import SMALL_SIZE_HW_PX as SIZE_HW_PX

N_FRAMES = 6
Regions = list[dict[str, Any]]


@pytest.fixture
def editor(place: Workplace, task_id: int) -> Editor:
    """The editor with that task open."""
    return place.open_task(task_id)


def line_through(mask: BoolMask, share: float = 0.6) -> tuple[tuple[float, float], tuple[float, float]]:
    """The middle part of the longest row of a mask, from left to right, as fractions of the image."""
    row = int(mask.sum(axis=1).argmax())
    columns = np.flatnonzero(mask[row])
    middle, half = columns.mean(), share * (columns.max() - columns.min()) / 2
    height_px, width_px = mask.shape
    y = (row + 0.5) / height_px
    return (float(middle - half) / width_px, y), (float(middle + half) / width_px, y)


def centre(mask: BoolMask) -> tuple[float, float]:
    (x0, y), (x1, _) = line_through(mask)
    return (x0 + x1) / 2, y


def own_regions(regions: Regions) -> Regions:
    """Brush regions the annotator made."""
    return [region for region in regions if region["type"] == "brushlabels" and region["origin"] == "manual"]


def has_strokes(n_strokes: int, region_id: str = "") -> Any:
    """Says of a draft whether it has so many strokes, in a region or in any."""
    return lambda regions: any(
        len(region["value"].get("touches") or []) == n_strokes and region_id in ("", region["id"]) for region in regions
    )


def test_a_scribble_makes_an_object(place: Workplace, task_id: int, editor: Editor, clip: Clip) -> None:
    asked: list[str] = []
    editor.page.on("request", lambda request: asked.append(request.url) if INTERACTIVE_PATH in request.url else None)
    editor.start_painting("obj2")
    editor.stroke(*line_through(clip.mask(0, 2)))
    editor.let_go()
    place.wait_for_draft(task_id, has_strokes(1))
    assert asked == [], "a stroke alone asks for nothing"
    (drawn,) = own_regions(editor.regions())
    done = editor.draw_box("obj1", *box_around(clip.mask(0)))
    assert not done.errors
    after = editor.regions()
    assert own_regions(after) == [drawn], "what the annotator drew stays as it is"
    second = masks_of(editor.regions_of_backend(), "obj2")
    assert sorted(second) == list(range(N_FRAMES))
    assert jaccard(second[0], clip.mask(0, 2)) >= 0.5
    assert np.mean([jaccard(second[t], clip.mask(t, 2)) for t in second]) >= 0.4
    editor.screenshot(SCREENSHOTS / "scribbles-object.png")
    editor.submit()
    stored = read_regions(place.submitted(task_id), N_FRAMES)
    assert stored.skipped[SCRIBBLE] == 1
    assert stored.masks["obj2"][0].decode().sum() == second[0].sum()


def test_an_eraser_stroke_takes_away(place: Workplace, task_id: int, editor: Editor, clip: Clip) -> None:
    assert not editor.draw_box("obj1", *box_around(clip.mask(0))).errors
    before = masks_of(editor.regions(), "obj1")[0]
    (x0, y), (x1, _) = line_through(before, share=0.9)
    editor.start_painting("obj1")
    # The eraser works on the selected region only, so a region of one's own is begun where it says nothing new.
    editor.stroke((x0, y), (x0 + 0.25 * (x1 - x0), y))
    editor.take_eraser()
    editor.stroke((x0 + 0.75 * (x1 - x0), y), (x1, y))
    editor.let_go()
    place.wait_for_draft(task_id, has_strokes(2))
    assert not editor.click("obj1", *BACKGROUND, negative=True).errors
    after = masks_of(editor.regions_of_backend(), "obj1")[0]
    row, column = int(y * SIZE_HW_PX[0]), int((x0 + 0.875 * (x1 - x0)) * SIZE_HW_PX[1])
    assert before[row, column]
    assert not after[row, column], "the eraser's stroke says that this is not the object"
    assert after[row, int((x0 + 0.125 * (x1 - x0)) * SIZE_HW_PX[1])], "the brush's stroke says that this is"
    assert after.any()


def test_a_mask_corrected_by_hand_stays_and_leads_its_neighbours(
    place: Workplace, task_id: int, editor: Editor, clip: Clip
) -> None:
    x0, y0, x1, y1 = box_around(clip.mask(0))
    # Half of the object: the masks are wrong on every frame.
    assert not editor.draw_box("obj1", x0, y0, (x0 + x1) / 2, y1).errors
    wrong = masks_of(editor.regions(), "obj1")
    editor.go_to_frame(3)
    editor.select_mask("obj1", *centre(wrong[3]))
    editor.take_brush()
    left, top, right, bottom = box_around(clip.mask(3))
    editor.scrub(left + 0.02, top + 0.03, right - 0.02, bottom - 0.03, rows=10)
    editor.take_eraser()
    editor.stroke((left, bottom), (right, bottom))
    by_hand = masks_of(editor.regions(), "obj1")[3]
    editor.screenshot(SCREENSHOTS / "scribbles-by-hand.png")
    editor.let_go()
    place.wait_for_draft(task_id, has_strokes(2, "obj1-00003"))
    editor.go_to_frame(0)
    done = editor.click("obj1", *BACKGROUND, negative=True)
    assert not done.errors
    assert "obj1-00003" not in [region["id"] for region in done.results], "nothing newer can be lost"
    after = masks_of(editor.regions(), "obj1")
    np.testing.assert_array_equal(after[3], by_hand)
    for neighbour in (2, 4):
        assert jaccard(after[neighbour], clip.mask(neighbour)) > jaccard(wrong[neighbour], clip.mask(neighbour))
    editor.go_to_frame(4)
    editor.screenshot(SCREENSHOTS / "scribbles-neighbour.png")
    editor.go_to_frame(5)
    assert not editor.click("obj1", *BACKGROUND, negative=True).errors
    np.testing.assert_array_equal(masks_of(editor.regions(), "obj1")[3], by_hand)
    editor.submit()
    np.testing.assert_array_equal(masks_of(place.submitted(task_id), "obj1")[3], by_hand)


def test_a_painted_mask_is_the_truth_and_clicks_correct_it(
    place: Workplace, task_id: int, editor: Editor, clip: Clip
) -> None:
    left, top, right, bottom = box_around(clip.mask(2))
    editor.go_to_frame(2)
    editor.start_painting("obj1")
    editor.scrub(left + 0.02, top + 0.04, right - 0.02, bottom - 0.04, rows=12)
    editor.let_go()
    (painted,) = own_regions(editor.regions())
    truth = masks_of([painted], "obj1")[2]
    place.wait_for_draft(task_id, has_strokes(1))
    editor.go_to_frame(0)
    assert not editor.click("obj2", *centre(clip.mask(0, 2)), through=True).errors
    masks = masks_of(editor.regions_of_backend(), "obj1")
    assert sorted(masks) == list(range(N_FRAMES))
    assert jaccard(masks[2], truth) >= 0.97, "but for single pixels at the rim"
    assert all(mask.any() for mask in masks.values())
    # The click's answer shows only if the paint below goes.
    editor.go_to_frame(2)
    x, y = centre(masks[2])
    assert not editor.click("obj1", x, y, negative=True, through=True).errors
    after = masks_of([r for r in editor.regions() if r["id"] == painted["id"]], "obj1")
    assert not after[2].any(), "the paint was taken over"
    corrected = masks_of(editor.regions_of_backend(), "obj1")[2]
    assert not corrected[int(y * SIZE_HW_PX[0]), int(x * SIZE_HW_PX[1])]
    editor.submit()
    stored = read_regions(place.submitted(task_id), N_FRAMES)
    np.testing.assert_array_equal(stored.masks["obj1"][2].decode(), corrected)


def test_undo_brings_the_earlier_masks_back_here_and_there(
    place: Workplace, task_id: int, editor: Editor, clip: Clip
) -> None:
    assert not editor.draw_box("obj1", *box_around(clip.mask(0))).errors
    assert not editor.draw_box("obj2", *box_around(clip.mask(0, 2))).errors
    before = {label: masks_of(editor.regions(), label) for label in ("obj1", "obj2")}
    assert not editor.click("obj1", *centre(clip.mask(0)), negative=True, through=True).errors
    assert (masks_of(editor.regions(), "obj1")[0] != before["obj1"][0]).any()
    editor.undo()
    assert not editor.click("obj1", *BACKGROUND, negative=True).errors
    regions, known = editor.regions(), place.known_to_backend(task_id)
    for label, masks in before.items():
        now, backend = masks_of(regions, label), masks_of(known, label)
        for frame_index, mask in masks.items():
            assert jaccard(now[frame_index], mask) >= 0.99, "the new click is about nothing that was covered"
            np.testing.assert_array_equal(now[frame_index], backend[frame_index], f"{label} on frame {frame_index}")
    assert sorted(prompt_ids(regions)) == sorted(prompt_ids(known))
