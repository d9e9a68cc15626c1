"""What an annotator may do between two rounds, and what may happen to the backend meanwhile."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.clips import Clip
from tests.e2e.editor import INTERACTIVE_PATH, Editor
from tests.e2e.person import box_around, jaccard
from tests.e2e.workplace import BACKGROUND, Workplace, masks_of, prompt_ids

N_FRAMES = 6


@pytest.fixture
def boxed(place: Workplace, clip: Clip, task_id: int) -> Editor:
    """The editor with that task open, and a box around the first object drawn on frame 0."""
    editor = place.open_task(task_id)
    done = editor.draw_box("obj1", *box_around(clip.mask(0)))
    assert not done.errors
    return editor


def centre(clip: Clip, object_id: int = 1) -> tuple[float, float]:
    """The middle of an object on frame 0 as fractions of the image."""
    rows, columns = np.nonzero(clip.mask(0, object_id))
    height_px, width_px = clip.labels.shape[1:]
    return float(columns.mean()) / width_px, float(rows.mean()) / height_px


def require_object(editor: Editor, clip: Clip, at_least_j: float = 0.6) -> None:
    """Every frame has one mask, and it is the object."""
    masks = masks_of(editor.regions(), "obj1")
    assert sorted(masks) == list(range(N_FRAMES))
    for frame_index, mask in masks.items():
        assert jaccard(mask, clip.mask(frame_index)) >= at_least_j, frame_index


def wait_for_draft(place: Workplace, task_id: int, region_id: str) -> None:
    """Wait until the editor has saved a draft with a region in it."""
    place.wait_for_draft(task_id, lambda regions: any(region["id"] == region_id for region in regions))


def test_answers_are_accepted_by_themselves(boxed: Editor, clip: Clip) -> None:
    assert boxed.is_on("auto-annotation")
    assert boxed.is_on("auto-accept")
    require_object(boxed, clip)


def test_undo_takes_back_one_round(boxed: Editor, clip: Clip) -> None:
    before = boxed.regions()
    taken_back = boxed.click("obj1", *centre(clip), negative=True, through=True)
    after = boxed.regions()
    assert masks_of(after, "obj1")[0].sum() < masks_of(before, "obj1")[0].sum()
    boxed.undo()
    assert by_id(boxed.regions()) == by_id(before)
    again = boxed.click("obj1", *BACKGROUND, negative=True)
    (undone,) = (prompt["id"] for prompt in taken_back.prompts)
    assert undone not in [prompt["id"] for prompt in again.prompts]
    require_object(boxed, clip)


def by_id(regions: list[dict[str, object]]) -> dict[object, object]:
    """What the regions hold, by id."""
    return {region["id"]: (region.get("item_index"), region["value"]) for region in regions}


def test_a_plain_click_inside_a_mask_asks_nothing_and_ctrl_goes_through(boxed: Editor, clip: Clip) -> None:
    asked: list[str] = []
    boxed.page.on("request", lambda request: asked.append(request.url) if INTERACTIVE_PATH in request.url else None)
    boxed.click_without_waiting("obj1", *centre(clip))
    boxed.page.wait_for_timeout(1000)
    assert asked == []
    boxed.page.keyboard.press("Escape")
    done = boxed.click("obj1", *centre(clip), through=True)
    assert len(asked) == 1
    assert [prompt["is_positive"] for prompt in done.prompts] == [True]


def test_a_deleted_prompt_is_forgotten(boxed: Editor, clip: Clip) -> None:
    (click,) = boxed.click("obj1", *centre(clip), negative=True, through=True).prompts
    boxed.delete_region(click["id"])
    done = boxed.click("obj1", *BACKGROUND, negative=True)
    assert click["id"] not in [prompt["id"] for prompt in done.prompts]
    require_object(boxed, clip)


def test_a_click_while_the_backend_is_down_is_kept_and_counts_later(place: Workplace, boxed: Editor) -> None:
    before = boxed.regions()
    place.backend.stop()
    try:
        failed = boxed.click("obj1", *BACKGROUND, negative=True)
    finally:
        place.backend.start()
    assert failed.errors, "Label Studio says so in its answer, but the editor shows nothing"
    (lost,) = failed.prompts
    kept = boxed.regions()
    assert by_id(kept) == by_id(before) | by_id([region for region in kept if region["id"] == lost["id"]])
    assert lost["id"] in prompt_ids(kept), "the click itself stays"
    x, y = BACKGROUND
    done = boxed.click("obj1", x, y - 0.1, negative=True)
    assert not done.errors
    assert next(iter(done.prompts))["id"] == lost["id"], "and comes again with the next one"
    echoed = {region["id"]: region["meta"]["prompt"]["pos"] for region in done.results if "meta" in region}
    assert echoed == {prompt["id"]: False for prompt in done.prompts}


def test_a_restarted_backend_goes_on_with_all_prompts(
    place: Workplace, task_id: int, boxed: Editor, clip: Clip
) -> None:
    (box_id,) = prompt_ids(boxed.regions())
    wait_for_draft(place, task_id, box_id)
    place.backend.stop()
    place.backend.start()
    # A negative click says nothing of where the object is: only the box in the draft does.
    done = boxed.click("obj1", *BACKGROUND, negative=True)
    assert not done.errors
    assert box_id not in [prompt["id"] for prompt in done.prompts]
    assert len(prompt_ids(boxed.regions())) == 2
    require_object(boxed, clip)


def test_a_submitted_annotation_can_be_refined_after_a_restart(
    place: Workplace, task_id: int, boxed: Editor, clip: Clip
) -> None:
    boxed.submit()
    place.backend.stop()
    place.backend.start()
    editor = place.open_task(task_id)
    assert not editor.click("obj1", *BACKGROUND, negative=True).errors
    require_object(editor, clip)
    editor.submit()
    stored = place.submitted(task_id)
    assert sorted(masks_of(stored, "obj1")) == list(range(N_FRAMES))
    assert len(prompt_ids(stored)) == 2


def test_masks_of_frames_that_were_not_shown_are_put_back(
    place: Workplace, task_id: int, boxed: Editor, clip: Clip
) -> None:
    # Label Studio 1.23: a region that came from the server is saved as it came, whatever replaced it since, until the
    # browser has shown its frame. The backend repairs the annotation when the webhook tells it of the save.
    boxed.submit()
    editor = place.open_task(task_id)
    saved = masks_of(editor.regions(), "obj1")
    done = editor.click("obj1", *centre(clip, object_id=2), through=True)
    wait_for_draft(place, task_id, done.prompts[-1]["id"])
    answered = masks_of(done.results, "obj1")
    changed = [t for t in range(1, N_FRAMES) if t in answered and (answered[t] != saved[t]).any()]
    assert changed
    for frame_index in changed:
        still = masks_of(editor.regions(), "obj1")[frame_index]
        np.testing.assert_array_equal(still, saved[frame_index], "Label Studio saves new masks itself: drop the repair")
    editor.submit()
    deadline_s = time.monotonic() + 15
    while time.monotonic() < deadline_s:
        stored = masks_of(place.submitted(task_id), "obj1")
        if all((stored[frame_index] == answered[frame_index]).all() for frame_index in changed):
            break
        time.sleep(0.2)
    for frame_index in changed:
        np.testing.assert_array_equal(stored[frame_index], answered[frame_index])
    assert sorted(stored) == list(range(N_FRAMES))


def test_the_keyboard_is_enough_to_choose_tools_and_labels(place: Workplace, task_id: int, clip: Clip) -> None:
    editor = place.open_task(task_id)
    x0, y0, x1, y1 = box_around(clip.mask(0))
    editor.page.keyboard.press("r")
    editor.page.keyboard.press("a")
    boxed = editor.drag(x0, y0, x1, y1)
    assert [prompt["value"]["rectanglelabels"] for prompt in boxed.prompts] == [["obj1"]]
    editor.page.keyboard.press("k")
    for _ in range(2):
        # The tool stays, the label does not.
        editor.page.keyboard.press("2")
        clicked = editor.press(*centre(clip, object_id=2), through=True)
        assert not clicked.errors
    assert [prompt["value"]["keypointlabels"] for prompt in clicked.prompts] == [["obj2"], ["obj2"]]
    assert [prompt["from_name"] for prompt in clicked.prompts] == ["pos", "pos"]
    assert sorted(masks_of(editor.regions(), "obj2")) == list(range(N_FRAMES))


def test_undo_reaches_back_to_the_last_change_of_frame_only(boxed: Editor) -> None:
    # Label Studio 1.23 starts its history anew, and drops the draft it was about to save, whenever it shows a frame.
    assert boxed.can_undo()
    boxed.go_to_frame(1)
    boxed.page.wait_for_timeout(500)
    assert not boxed.can_undo()
