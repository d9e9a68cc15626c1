"""Rounds with scribbles and masks made by hand: which prompts they become, what is sent back, what is not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from ls_backend.label_studio.annotation_repairs import repaired_regions
from ls_backend.protocol.label_config import parse_label_config
from ls_backend.protocol.payloads import SetupRequest
from ls_backend.service import PredictionService
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from pipeline.types import BoolMask, MaskPrompt, PointPrompt, ScribblePrompt
from pipeline.video.sample_clip import SampleClip
from tests.ls_backend.drawing import changed_by_hand, drawn, erased, filled, in_pixels, touch
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer
from tests.ls_backend.test_service import (
    CONFIG,
    N_FRAMES,
    PROJECT,
    SIZE_HW_PX,
    Editor,
    box_around,
    click_on,
    clip,
    editor,
    iou,
    masks,
    service,
)

__all__ = ["clip", "editor", "service"]
LABELS = parse_label_config(CONFIG)
Json = dict[str, Any]


def session_of(editor: Editor) -> TaskSession:
    return editor.service._sessions.open_sessions(("5", str(editor.task_id)))[0]


def pipeline_prompts(editor: Editor, label: str = "obj1") -> list[Any]:
    """What the pipeline's session was given for a label."""
    session = session_of(editor)
    return list(session.pipeline.prompts(session.object_id(label)))


def line_on(clip: SampleClip, frame_index: int, object_id: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """The middle half of the longest row of an object, in percent."""
    truth = clip.labels[frame_index] == object_id
    row = int(truth.sum(axis=1).argmax())
    columns = np.flatnonzero(truth[row])
    quarter = (columns[-1] - columns[0]) / 4
    x0_pct, x1_pct = (columns[0] + quarter) / SIZE_HW_PX[1] * 100, (columns[-1] - quarter) / SIZE_HW_PX[1] * 100
    y_pct = (row + 0.5) / SIZE_HW_PX[0] * 100
    return (x0_pct, y_pct), (x1_pct, y_pct)


def mask_on(editor: Editor, frame_index: int, label: str = "obj1") -> BoolMask:
    """What the editor has of this backend's masks."""
    ours = [region for region in editor.regions.values() if region["origin"] != "manual"]
    found: BoolMask = masks(ours, label)[frame_index]
    return found


def correct_by_hand(editor: Editor, frame_index: int, *touches: Json) -> str:
    """Put strokes on a mask of the backend; returns its id."""
    mask_id = f"obj1-{frame_index:05d}"
    editor.regions[mask_id] = changed_by_hand(editor.regions[mask_id], *touches)
    return mask_id


ERASED = erased((0, 50), (100, 50), width_pct=8)
"""Straight across the image, 16 px high."""


def test_strokes_come_with_the_next_click_of_any_label(editor: Editor, clip: SampleClip) -> None:
    stroke = drawn("R", "obj 2", 0, SIZE_HW_PX, touch(*line_on(clip, 0, 2)))
    editor.regions["R"] = stroke
    editor.save()
    answer = editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert answer["warnings"] == []
    second = masks(answer["result"], "obj 2")
    assert sorted(second) == list(range(N_FRAMES))
    assert iou(second[0], clip.labels[0] == 2) > 0.3
    (given,) = pipeline_prompts(editor, "obj 2")
    assert isinstance(given, ScribblePrompt)
    assert editor.regions["R"] == stroke, "the stroke stays where it is, as it is"


def test_strokes_that_are_not_saved_yet_come_later(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    editor.regions["R"] = drawn("R", "obj1", 3, SIZE_HW_PX, touch(*line_on(clip, 3, 1)))
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    assert [type(prompt) for prompt in pipeline_prompts(editor)].count(ScribblePrompt) == 0
    editor.save()
    editor.prompt(click_on(clip, 4, 1, "obj1", "p2"))
    assert [type(prompt) for prompt in pipeline_prompts(editor)].count(ScribblePrompt) == 1


def test_strokes_that_are_gone_are_forgotten(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.regions["R"] = drawn("R", "obj1", 3, SIZE_HW_PX, touch(*line_on(clip, 3, 1)))
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    del editor.regions["R"]
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    assert not any(isinstance(prompt, ScribblePrompt) for prompt in pipeline_prompts(editor))


def test_without_a_draft_strokes_are_kept(editor: Editor, clip: SampleClip) -> None:
    editor.regions["R"] = drawn("R", "obj1", 0, SIZE_HW_PX, touch(*line_on(clip, 0, 1)))
    editor.save()
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    editor.draft = []
    editor.prompt(click_on(clip, 3, 1, "obj1", "p2"))
    assert [type(prompt) for prompt in pipeline_prompts(editor)].count(ScribblePrompt) == 1


def test_an_object_of_strokes_alone_goes_with_strokes_and_masks(editor: Editor, clip: SampleClip) -> None:
    editor.regions["R"] = drawn("R", "obj 2", 0, SIZE_HW_PX, touch(*line_on(clip, 0, 2)))
    editor.save()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    del editor.regions["R"]
    editor.save()
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    assert pipeline_prompts(editor, "obj 2"), "who only tidies strokes away keeps the object"
    editor.regions = {key: region for key, region in editor.regions.items() if not key.startswith("obj_2")}
    editor.save()
    answer = editor.prompt(click_on(clip, 4, 1, "obj1", "p2"))
    assert masks(answer["result"], "obj 2") == {}
    assert session_of(editor).prompts("obj 2") == ()


def test_a_mask_corrected_by_hand_is_the_truth_and_is_not_sent_back(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    before = mask_on(editor, 3)
    mask_id = correct_by_hand(editor, 3, ERASED)
    made = copy.deepcopy(editor.regions[mask_id])
    editor.save()
    answer = editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    assert editor.regions[mask_id] == made
    assert mask_id not in [region["id"] for region in answer["result"]], "strokes newer than the draft would be lost"
    (truth,) = (prompt for prompt in pipeline_prompts(editor) if isinstance(prompt, MaskPrompt))
    expected = before.copy()
    expected[52:68] = False
    np.testing.assert_array_equal(truth.mask.decode(), expected)
    known = {mask.region_id: mask for mask in session_of(editor).all_masks()}
    np.testing.assert_array_equal(known[mask_id].mask.decode(), expected)
    # Nor does it come in any later round, whatever that changes elsewhere.
    editor.save()
    again = editor.prompt(click_on(clip, 1, 1, "obj1", "p2"))
    assert mask_id not in [region["id"] for region in again["result"]]


def test_clicks_after_a_correction_by_hand_correct_it(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    mask_id = correct_by_hand(editor, 3, ERASED)
    editor.save()
    editor.prompt(click_on(clip, 3, 1, "obj1", "p2"))
    given = [prompt for prompt in pipeline_prompts(editor) if prompt.frame_index == 3]
    assert [type(prompt) for prompt in given] == [PointPrompt, MaskPrompt, PointPrompt]
    assert editor.regions[mask_id]["origin"] == "prediction", "this answer has the newer mask"
    # The draft holds that one by now; the truth below is known all the same.
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p3"))
    assert [prompt for prompt in pipeline_prompts(editor) if prompt.frame_index == 3] == given


def test_a_correction_by_hand_that_was_undone_is_forgotten(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    before = copy.deepcopy(editor.regions["obj1-00003"])
    correct_by_hand(editor, 3, ERASED)
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    editor.regions["obj1-00003"] = before
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    assert not any(isinstance(prompt, MaskPrompt) for prompt in pipeline_prompts(editor))


def test_a_restarted_backend_reads_hand_work_from_the_draft(
    editor: Editor, clip: SampleClip, settings: Settings, media: MediaServer
) -> None:
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    mask_id = correct_by_hand(editor, 3, ERASED)
    editor.regions["R"] = drawn("R", "obj1", 4, SIZE_HW_PX, touch(*line_on(clip, 4, 1)))
    editor.save()
    made = copy.deepcopy(editor.regions[mask_id])
    editor.service = PredictionService(settings.model_copy(update={"cache_dir": settings.cache_dir / "other"}))
    editor.service.setup(SetupRequest(project=PROJECT, hostname=media.url, access_token=LEGACY_TOKEN))
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    kinds = [(prompt.frame_index, type(prompt)) for prompt in pipeline_prompts(editor)]
    assert kinds == [(3, PointPrompt), (3, MaskPrompt), (4, ScribblePrompt), (5, PointPrompt)]
    assert editor.regions[mask_id] == made
    editor.service.close()


def test_a_submitted_correction_is_still_the_truth(editor: Editor, clip: SampleClip) -> None:
    """Label Studio stores pixels of its own coding, and the origin says who made them."""
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    made = mask_on(editor, 3)
    made[52:68] = False
    mask_id = correct_by_hand(editor, 3, ERASED)
    editor.regions[mask_id] = in_pixels(editor.regions[mask_id], made)
    editor.annotation = list(editor.regions.values())
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    (truth,) = (prompt for prompt in pipeline_prompts(editor) if isinstance(prompt, MaskPrompt))
    np.testing.assert_array_equal(truth.mask.decode(), made)


def test_paint_is_taken_over_when_a_click_changes_it(editor: Editor, clip: SampleClip) -> None:
    editor.regions["R"] = drawn("R", "obj1", 2, SIZE_HW_PX, filled(30, 30, 60, 70))
    editor.save()
    editor.prompt(box_around(clip, 0, 2, "obj 2", "b2"))
    assert "rle" not in editor.regions["R"]["value"], "as long as nothing changed it, it is left alone"
    painted = mask_on(editor, 2)
    (truth,) = pipeline_prompts(editor)
    assert isinstance(truth, MaskPrompt)
    np.testing.assert_array_equal(painted, truth.mask.decode())
    editor.save()
    # A negative click inside the paint.
    negative = click_on(clip, 2, 1, "obj1", "p1")
    negative["value"] = {**negative["value"], "x": 45.0, "y": 50.0}
    editor.prompt({**negative, "is_positive": False})
    assert not mask_on(editor, 2)[60, 90]
    assert not masks([editor.regions["R"]], "obj1")[2].any()
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    given = [prompt for prompt in pipeline_prompts(editor) if prompt.frame_index == 2]
    assert given[0] == truth
    assert [type(prompt) for prompt in given] == [MaskPrompt, PointPrompt]


def test_what_was_made_by_hand_is_never_put_back(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    mask_id = correct_by_hand(editor, 3, ERASED)
    editor.annotation, editor.draft = copy.deepcopy(list(editor.regions.values())), []
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    assert repaired_regions(list(editor.regions.values()), session_of(editor), LABELS) is None
    # Only what an answer replaced is: the region that was loaded with strokes and answered since.
    editor.prompt(click_on(clip, 3, 1, "obj1", "p2"))
    loaded = next(region for region in editor.annotation if region["id"] == mask_id)
    saved = [
        {**loaded, "origin": "prediction"} if region["id"] == mask_id else region for region in editor.regions.values()
    ]
    regions = repaired_regions(saved, session_of(editor), LABELS)
    assert regions is not None
    (repaired,) = (region for region in regions if region["id"] == mask_id)
    assert repaired["value"] == editor.regions[mask_id]["value"], "without the strokes that were replaced"
    by_hand = [{**region, "origin": "prediction-changed"} if region["id"] == mask_id else region for region in saved]
    assert repaired_regions(by_hand, session_of(editor), LABELS) is None


def test_masks_of_an_object_of_strokes_alone_are_put_back_too(editor: Editor, clip: SampleClip) -> None:
    editor.regions["R"] = drawn("R", "obj 2", 0, SIZE_HW_PX, touch(*line_on(clip, 0, 2)))
    editor.save()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.annotation, editor.draft = copy.deepcopy(list(editor.regions.values())), []
    old = {region["id"]: region for region in editor.annotation}
    more = drawn("S", "obj 2", 4, SIZE_HW_PX, touch(*line_on(clip, 4, 2)))
    editor.regions["S"] = more
    editor.annotation.append(more)
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    changed = [i for i in old if i.startswith("obj_2") and old[i]["value"] != editor.regions[i]["value"]]
    assert changed
    saved = [old[i] if i in changed else region for i, region in editor.regions.items()]
    regions = repaired_regions(saved, session_of(editor), LABELS)
    assert regions is not None
    in_editor = editor.regions.values()
    assert [region["value"] for region in regions] == [region["value"] for region in in_editor]


def test_undo_of_the_newest_round_sends_other_labels_again(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.prompt(box_around(clip, 0, 2, "obj 2", "b2"))
    before = copy.deepcopy(editor.regions)
    # A click of the first label inside the second object takes pixels from that one.
    inside = click_on(clip, 0, 2, "obj1", "p1")
    editor.prompt(inside)
    taken = [i for i in before if i.startswith("obj_2") and before[i]["value"] != editor.regions[i]["value"]]
    assert taken
    editor.regions = copy.deepcopy(before)
    editor.prompt(box_around(clip, 5, 1, "obj1", "b3"))
    known = {mask.region_id: list(mask.brush_rle) for mask in session_of(editor).all_masks()}
    in_editor = {i: r["value"]["rle"] for i, r in editor.regions.items() if "rle" in r["value"]}
    assert in_editor == known


@pytest.mark.parametrize("region_changes", [{"image_rotation": 90}, {"value": {"touches": [{}]}}])
def test_what_cannot_be_read_is_said(editor: Editor, clip: SampleClip, region_changes: Json) -> None:
    editor.regions["R"] = {**drawn("R", "obj1", 0, SIZE_HW_PX, touch(*line_on(clip, 0, 1))), **region_changes}
    editor.save()
    answer = editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert "'R'" in answer["warnings"][0]
    assert sorted(masks(answer["result"], "obj1")) == list(range(N_FRAMES))
