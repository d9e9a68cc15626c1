"""The annotator sees where to look next: scores in the region list, a line beside "Look next", GET /suggestions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.clips import Clip
from tests.e2e.person import box_around, correction, jaccard
from tests.e2e.region_list import RegionList
from tests.e2e.workplace import SCREENSHOTS, Workplace, masks_of

N_FRAMES = 12
LABEL = "obj1"
Regions = list[dict[str, Any]]


@dataclass
class Story:
    """What the annotator saw after a careless box, and after the correction the backend asked for.

    ``rows`` are the region list's first rows ordered by score; ``shown_frame`` came with a click on the first of them.
    """

    clip: Clip
    boxed: Regions
    suggestions: list[dict[str, Any]]
    note: str
    rows: list[str]
    shown_frame: int
    corrected: Regions
    suggestions_after: list[dict[str, Any]]
    note_after: str
    submitted: Regions
    rows_reopened: list[str]


@pytest.fixture(scope="module")
def story(place: Workplace, clip: Clip) -> Story:
    """A box that misses a part of the object; then one click on the frame that is suggested; Submit; opened again."""
    task_id = place.import_clip("look-next", clip.image_paths)
    editor = place.open_task(task_id)
    x0, y0, x1, y1 = box_around(clip.mask(0))
    editor.draw_box(LABEL, x0, y0, x0 + 0.7 * (x1 - x0), y1)
    boxed, suggestions, note = editor.regions(), place.suggestions(task_id), editor.note()
    region_list = RegionList(editor.page)
    region_list.order_by_score()
    rows = region_list.rows()
    region_list.choose(0)
    shown_frame = editor.current_frame()
    editor.let_go()
    editor.screenshot(SCREENSHOTS / "look-next.png")
    frame_index = suggestions[0]["frame_index"]
    editor.go_to_frame(frame_index)
    click = correction(masks_of(boxed, LABEL)[frame_index], clip.mask(frame_index))
    editor.click(LABEL, click.x, click.y, negative=not click.positive, through=True)
    corrected, suggestions_after, note_after = editor.regions(), place.suggestions(task_id), editor.note()
    editor.submit()
    place.open_task(task_id)
    return Story(
        *(clip, boxed, suggestions, note, rows, shown_frame, corrected, suggestions_after, note_after),
        place.submitted(task_id),
        region_list.rows(),
    )


def mean_j(regions: Regions, clip: Clip) -> float:
    """Mean Jaccard index over all frames."""
    return float(np.mean([jaccard(mask, clip.mask(t)) for t, mask in masks_of(regions, LABEL).items()]))


def scores_of(regions: Regions) -> dict[int, float]:
    """The score of each mask by frame."""
    return {region["item_index"]: region["score"] for region in regions if region["type"] == "brushlabels"}


def shown_scores(rows: list[str]) -> list[float]:
    """What rows of the region list show; each row is number, label and score."""
    return [float(row.split()[2]) for row in rows]


def test_every_region_in_the_editor_has_a_score(story: Story) -> None:
    regions = [region for region in story.corrected if region["type"] != "textarea"]
    assert len(regions) == N_FRAMES + 2
    assert all(0 <= region["score"] <= 1 for region in regions)
    assert [region["score"] for region in regions if region["type"] != "brushlabels"] == [1.0, 1.0]


def test_the_region_list_begins_with_the_least_sure_frame(story: Story) -> None:
    shown, scores = shown_scores(story.rows), sorted(scores_of(story.boxed).values())
    assert len(shown) > 5
    assert shown == pytest.approx(scores[: len(shown)], abs=0.0051), "two digits are shown"


def test_a_click_on_the_first_row_shows_its_frame(story: Story) -> None:
    scores = scores_of(story.boxed)
    assert scores[story.shown_frame] == min(scores.values())


def test_scores_outlive_submitting(story: Story) -> None:
    assert scores_of(story.submitted) == scores_of(story.corrected)
    shown = shown_scores(story.rows_reopened)
    assert shown == pytest.approx(sorted(scores_of(story.corrected).values())[: len(shown)], abs=0.0051)


def test_a_correction_where_it_was_suggested_makes_the_masks_better(story: Story) -> None:
    assert story.suggestions[0]["frame_index"] != 0, "the frame with the box is done"
    before, after = mean_j(story.boxed, story.clip), mean_j(story.corrected, story.clip)
    print(f"mean J {before:.3f}, corrected on frame {story.suggestions[0]['frame_index']} {after:.3f}")
    assert after > before


def test_a_corrected_frame_is_not_suggested_again(story: Story) -> None:
    corrected = story.suggestions[0]["frame_index"]
    assert corrected not in {suggestion["frame_index"] for suggestion in story.suggestions_after}


@pytest.mark.parametrize("when", ["", "_after"])
def test_the_note_names_the_first_suggestion(story: Story, when: str) -> None:
    first, note = getattr(story, f"suggestions{when}")[0], getattr(story, f"note{when}")
    assert note.startswith(f"Frame {first['frame_index'] + 1}, {LABEL}, at {first['x_pct']:.0f} % across")


def test_the_newest_note_is_the_only_one(story: Story) -> None:
    for regions in (story.corrected, story.submitted):
        (note,) = [region for region in regions if region["type"] == "textarea"]
        assert note["value"]["text"] == [story.note_after]
