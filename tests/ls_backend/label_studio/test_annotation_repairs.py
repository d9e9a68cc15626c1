"""Saved annotations in which Label Studio kept old masks of frames it had not shown."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from ls_backend.label_studio.annotation_repairs import repaired_regions
from ls_backend.protocol.label_config import parse_label_config
from ls_backend.protocol.regions import mask_to_brush_rle
from ls_backend.sessions.task_session import TaskSession
from pipeline.video.sample_clip import SampleClip
from tests.ls_backend.test_service import (
    CONFIG,
    SIZE_HW_PX,
    Editor,
    box_around,
    box_around_half,
    click_on,
    clip,
    editor,
    service,
)

__all__ = ["clip", "editor", "service"]
LABELS = parse_label_config(CONFIG)


class Reopened:
    """An annotation that was saved, opened again and refined, as Label Studio then saves it."""

    def __init__(self, editor: Editor, clip: SampleClip) -> None:
        editor.prompt(box_around_half(clip, 0, 1, "obj1"))
        editor.annotation = copy.deepcopy(list(editor.regions.values()))
        editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
        self.editor = editor
        self.in_editor = copy.deepcopy(editor.regions)
        loaded = {region["id"]: region for region in editor.annotation}
        self.changed = [i for i in loaded if "rle" in loaded[i]["value"] and loaded[i] != self.in_editor[i]]
        self.saved = [loaded.get(i, region) for i, region in self.in_editor.items()]

    @property
    def session(self) -> TaskSession:
        return self.editor.service._sessions.open_sessions(("5", "7"))[0]


@pytest.fixture
def reopened(editor: Editor, clip: SampleClip) -> Reopened:
    return Reopened(editor, clip)


def rles(regions: list[dict[str, Any]]) -> dict[str, Any]:
    return {region["id"]: region["value"]["rle"] for region in regions if region["type"] == "brushlabels"}


def painted(region: dict[str, Any]) -> dict[str, Any]:
    """The region with a mask nobody but the annotator made."""
    mask = np.zeros(SIZE_HW_PX, np.bool_)
    mask[3:20, 5:30] = True
    return {**region, "value": {**region["value"], "rle": mask_to_brush_rle(mask)}}


def test_outdated_masks_are_replaced_once(reopened: Reopened) -> None:
    assert reopened.changed, "the correction changed masks"
    regions = repaired_regions(reopened.saved, reopened.session, LABELS)
    assert regions is not None
    assert rles(regions) == rles(list(reopened.in_editor.values()))
    assert [region["id"] for region in regions] == [region["id"] for region in reopened.saved]
    assert repaired_regions(regions, reopened.session, LABELS) is None, (
        "the update's own webhook finds nothing left to do"
    )


def test_what_the_annotator_painted_stays(reopened: Reopened) -> None:
    target = reopened.changed[0]
    saved = [painted(region) if region["id"] == target else region for region in reopened.saved]
    regions = repaired_regions(saved, reopened.session, LABELS)
    assert regions is not None
    assert rles(regions)[target] == rles(saved)[target]


def test_paint_that_a_later_round_saw_and_left_alone_stays(reopened: Reopened, clip: SampleClip) -> None:
    target = "obj1-00005"
    editor = reopened.editor
    editor.regions[target] = painted(editor.regions[target])
    editor.annotation, editor.draft = [], list(editor.regions.values())
    editor.prompt(click_on(clip, 0, 1, "obj1", "p2"))
    assert rles(list(editor.regions.values()))[target] == rles(editor.draft)[target], "a round elsewhere left it alone"
    assert repaired_regions(list(editor.regions.values()), reopened.session, LABELS) is None


def test_an_undone_round_is_not_put_back(reopened: Reopened) -> None:
    without_correction = [region for region in reopened.saved if region["id"] != "p1"]
    assert repaired_regions(without_correction, reopened.session, LABELS) is None


def test_another_annotation_is_left_alone(reopened: Reopened, clip: SampleClip) -> None:
    other = [box_around(clip, 0, 1, "obj1", "x1"), *(r for r in reopened.saved if r["type"] == "brushlabels")]
    assert repaired_regions(other, reopened.session, LABELS) is None


def test_a_page_reloaded_from_an_old_draft_gets_the_masks_again(reopened: Reopened, clip: SampleClip) -> None:
    """The draft, too, was saved with the old masks of frames that were not shown."""
    editor = reopened.editor
    editor.regions = {region["id"]: region for region in copy.deepcopy(reopened.saved)}
    editor.draft = copy.deepcopy(reopened.saved)
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    session_masks = {mask.region_id: list(mask.brush_rle) for mask in reopened.session.all_masks()}
    assert rles(list(editor.regions.values())) == session_masks
