"""Rounds through the service with the real pipeline, frames over real HTTP, requests as Label Studio builds them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ls_backend.errors import ConfigError, PromptError, RequestError, TaskError
from ls_backend.protocol.label_config import recommended_label_config
from ls_backend.protocol.payloads import PredictRequest, SetupRequest, parse
from ls_backend.protocol.regions import NEXT_NOTE_ID, brush_rle_to_mask
from ls_backend.service import PredictionService
from ls_backend.settings import Settings
from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer
from tests.ls_backend.protocol.test_prompts import box, point

N_FRAMES, SIZE_HW_PX = 6, (120, 200)
CONFIG = recommended_label_config(["obj1", "obj 2"])
PROJECT = "5.1795173071"


@pytest.fixture(scope="module")
def clip() -> SampleClip:
    return render_sample_clip(n_frames=N_FRAMES, size_hw_px=SIZE_HW_PX)


@pytest.fixture
def service(settings: Settings, media: MediaServer) -> Iterator[PredictionService]:
    service = PredictionService(settings)
    service.setup(SetupRequest(project=PROJECT, hostname=media.url, access_token=LEGACY_TOKEN))
    yield service
    service.close()


class Editor:
    """Plays Label Studio's editor: keeps regions by id, sends the prompts of one label and type, saves drafts."""

    def __init__(self, service: PredictionService, urls: list[str], task_id: int = 7) -> None:
        self.service, self.urls, self.task_id = service, urls, task_id
        self.regions: dict[str, dict[str, Any]] = {}
        self.draft: list[dict[str, Any]] = []
        self.annotation: list[dict[str, Any]] = []

    def request(self, context: dict[str, Any] | None) -> PredictRequest:
        task: dict[str, Any] = {"id": self.task_id, "data": {"frames": self.urls}}
        task["drafts"] = [{"id": 1, "result": self.draft}] if self.draft else []
        task["annotations"] = [{"id": 1, "result": self.annotation}] if self.annotation else []
        body = {"tasks": [task], "project": PROJECT, "label_config": CONFIG, "params": {"context": context}}
        return parse(PredictRequest, body, "the request")

    def prompt(self, region: dict[str, Any]) -> dict[str, Any]:
        """Add a prompt, send the request it causes, take the answer in; returns the answer."""
        self.regions[region["id"]] = region
        label = label_of(region)
        same = [r for r in self.regions.values() if r["type"] == region["type"] and label_of(r) == label]
        (answer,) = self.service.predict(self.request({"result": same}))
        for prompt in same:
            self.regions.pop(prompt["id"])
        self.regions.update((returned["id"], returned) for returned in answer["result"])
        return answer

    def save(self) -> None:
        """What the editor does some seconds later."""
        self.draft = list(self.regions.values())


def label_of(region: dict[str, Any]) -> str:
    return str(next(iter(region["value"][region["type"]])))


def masks(regions: list[dict[str, Any]], label: str) -> dict[int, np.ndarray]:
    """Brush masks of a label by frame."""
    return {
        region["item_index"]: brush_rle_to_mask(region["value"]["rle"], *SIZE_HW_PX)
        for region in regions
        if region["type"] == "brushlabels" and region["value"]["brushlabels"] == [label]
    }


def box_around(clip: SampleClip, frame_index: int, object_id: int, label: str, region_id: str = "b1") -> dict[str, Any]:
    """A smart box around the visible object."""
    ys, xs = np.nonzero(clip.labels[frame_index] == object_id)
    height_px, width_px = SIZE_HW_PX
    region = box(
        x=xs.min() / width_px * 100, y=ys.min() / height_px * 100,
        width=(xs.max() + 1 - xs.min()) / width_px * 100, height=(ys.max() + 1 - ys.min()) / height_px * 100,
        rectanglelabels=[label],
    )  # fmt: skip
    return {**region, "id": region_id, "item_index": frame_index}


def box_around_half(clip: SampleClip, frame_index: int, object_id: int, label: str) -> dict[str, Any]:
    """A smart box around the left half of the visible object: what it gives has to be corrected."""
    region = box_around(clip, frame_index, object_id, label)
    return {**region, "value": {**region["value"], "width": region["value"]["width"] / 2}}


def click_on(clip: SampleClip, frame_index: int, object_id: int, label: str, region_id: str) -> dict[str, Any]:
    """A positive smart click in the middle of the visible object."""
    ys, xs = np.nonzero(clip.labels[frame_index] == object_id)
    x_pct, y_pct = np.median(xs) / SIZE_HW_PX[1] * 100, np.median(ys) / SIZE_HW_PX[0] * 100
    value = {"x": x_pct, "y": y_pct, "width": 0.2, "keypointlabels": [label]}
    return point(id=region_id, item_index=frame_index, value=value)


@pytest.fixture
def editor(service: PredictionService, media: MediaServer, clip: SampleClip) -> Editor:
    return Editor(service, [media.put(f"{index}", frame) for index, frame in enumerate(clip.frames)])


def prompt_ids(editor: Editor, label: str = "obj1") -> set[str]:
    """Ids of the prompts the task's latest session holds for a label."""
    session = editor.service._sessions.open_sessions(("5", str(editor.task_id)))[0]
    return {prompt.region_id for prompt in session.prompts(label)}


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def test_a_box_gives_a_mask_on_every_frame(editor: Editor, clip: SampleClip) -> None:
    answer = editor.prompt(box_around(clip, 2, 1, "obj1"))
    found = masks(answer["result"], "obj1")
    assert sorted(found) == list(range(N_FRAMES))
    assert np.mean([iou(found[index], clip.labels[index] == 1) for index in found]) > 0.6
    mask = next(region for region in answer["result"] if region["id"] == "obj1-00003")
    assert {key: mask[key] for key in ("from_name", "to_name", "origin", "item_index", "image_rotation")} == {
        "from_name": "brush", "to_name": "video", "origin": "prediction", "item_index": 3, "image_rotation": 0,
    }  # fmt: skip
    assert (mask["original_height"], mask["original_width"]) == SIZE_HW_PX
    assert all(0 <= region["score"] <= 1 for region in answer["result"] if region["type"] == "brushlabels")
    assert answer["warnings"] == []


def test_kinds_are_merged_and_only_changed_frames_return(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    answer = editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    assert prompt_ids(editor) == {"b1", "p1"}
    before, after = masks(editor.draft, "obj1"), masks(answer["result"], "obj1")
    assert all((after[index] != before[index]).any() for index in after), "an unchanged mask was sent again"
    editor.save()
    again = editor.prompt(editor.regions["p1"])
    assert masks(again["result"], "obj1") == {}, "the same prompts change nothing"


def test_the_answer_of_a_round_is_the_same_twice(
    editor: Editor, clip: SampleClip, media: MediaServer, settings: Settings
) -> None:
    first = editor.prompt(box_around(clip, 0, 1, "obj1"))
    other = PredictionService(settings)
    other.setup(SetupRequest(project=PROJECT, hostname=media.url, access_token=LEGACY_TOKEN))
    assert Editor(other, editor.urls).prompt(box_around(clip, 0, 1, "obj1")) == first
    other.close()


def test_a_second_label_keeps_the_first_ones_masks(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    first = masks(list(editor.regions.values()), "obj1")
    editor.save()
    editor.prompt(box_around(clip, 0, 2, "obj 2", "b2"))
    regions = list(editor.regions.values())
    second = masks(regions, "obj 2")
    assert sorted(second) == list(range(N_FRAMES))
    for index, mask in masks(regions, "obj1").items():
        lost = first[index] & ~mask
        assert not (mask & ~first[index]).any()
        assert not (lost & ~second[index]).any(), "the first object lost pixels the second does not own"
    boxes_and_note = 3
    assert len({region["id"] for region in regions}) == len(regions) == 2 * N_FRAMES + boxes_and_note


def test_a_restart_merges_what_the_draft_kept(editor: Editor, clip: SampleClip, settings: Settings) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    before = masks(list(editor.regions.values()), "obj1")
    editor.service = PredictionService(settings)
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    assert prompt_ids(editor) == {"b1", "p1"}
    after = masks(list(editor.regions.values()), "obj1")
    assert (after[0] == before[0]).all(), "the prompted frame's mask follows from its own prompts alone"
    editor.service.close()


def test_an_editor_that_lost_its_masks_gets_all_of_them(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    fresh = Editor(editor.service, editor.urls)
    answer = fresh.prompt(box_around(clip, 0, 1, "obj1"))
    assert sorted(masks(answer["result"], "obj1")) == list(range(N_FRAMES))


def test_two_annotators_do_not_mix_their_prompts(
    editor: Editor, clip: SampleClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls_backend.sessions.editor_state.SAME_EDITOR_S", 0.0)
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    other = Editor(editor.service, editor.urls)
    other.prompt(click_on(clip, 5, 1, "obj1", "q1"))
    assert prompt_ids(other) == {"q1"}
    editor.save()
    editor.prompt(click_on(clip, 2, 1, "obj1", "p2"))
    assert prompt_ids(editor) == {"b1", "p1", "p2"}


def test_a_correction_of_the_only_annotation_continues_it(editor: Editor, clip: SampleClip, settings: Settings) -> None:
    """Submitted, backend restarted, opened again: there is no draft, only the annotation."""
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.annotation = list(editor.regions.values())
    editor.service = PredictionService(settings)
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    assert prompt_ids(editor) == {"b1", "p1"}
    editor.service.close()


def test_a_deleted_prompt_is_forgotten(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    editor.prompt(click_on(clip, 4, 1, "obj1", "p2"))
    del editor.regions["p1"]
    editor.prompt(click_on(clip, 5, 1, "obj1", "p3"))
    assert prompt_ids(editor) == {"b1", "p2", "p3"}
    # A box is not part of a request of clicks: that it is gone shows in the draft.
    del editor.regions["b1"]
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p4"))
    assert prompt_ids(editor) == {"p2", "p3", "p4"}


def test_a_draft_that_is_late_deletes_nothing(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    editor.save()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.prompt(click_on(clip, 0, 1, "obj1", "p2"))
    assert prompt_ids(editor) == {"b1", "p1", "p2"}


def test_an_undone_label_gives_its_pixels_back(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    before_second = dict(editor.regions)
    editor.prompt(box_around(clip, 0, 2, "obj 2", "b2"))
    editor.regions = before_second
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    # Nothing told the backend yet: where the first object took pixels, pieces of the undone one came back.
    editor.regions = {i: region for i, region in editor.regions.items() if not i.startswith("obj_2")}
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    assert prompt_ids(editor, "obj 2") == set()
    assert masks(list(editor.regions.values()), "obj 2") == {}, "an undone object must not come back, not even empty"
    (known,) = editor.service.predict(editor.request(None))
    assert masks(known["result"], "obj 2") == {}


def test_cleaning_up_prompts_keeps_the_masks(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 2, "obj 2", "b2"))
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    del editor.regions["b2"]
    editor.save()
    editor.prompt(click_on(clip, 3, 1, "obj1", "p2"))
    assert prompt_ids(editor, "obj 2") == {"b2"}


def test_null_context_answers_at_once_with_what_is_known(editor: Editor, clip: SampleClip, media: MediaServer) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    tasks = [{"id": 8, "data": {"frames": ["/unknown.png"]}}, {"id": 7, "data": {"frames": editor.urls}}]
    body = {"tasks": tasks, "project": PROJECT, "label_config": CONFIG, "params": {"context": None}}
    asked = len(media.requests)
    started = time.monotonic()
    empty, known = editor.service.predict(parse(PredictRequest, body, "the request"))
    assert time.monotonic() - started < 0.5
    assert len(media.requests) == asked
    assert empty["result"] == []
    assert {region["id"] for region in known["result"]} == set(editor.regions) - {NEXT_NOTE_ID}


def test_an_unreadable_frame_is_named_and_the_others_get_masks(
    editor: Editor, clip: SampleClip, media: MediaServer
) -> None:
    media.files["4"] = b"not an image"
    answer = editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert sorted(masks(answer["result"], "obj1")) == [0, 1, 2, 3, 5]
    (warning,) = answer["warnings"]
    assert "frame 4" in warning
    assert "not a readable image" in warning


def test_no_readable_frame_is_an_error_and_prompts_are_kept(
    editor: Editor, clip: SampleClip, media: MediaServer
) -> None:
    files, media.files = media.files, {}
    with pytest.raises(TaskError, match=r"task 7: not one frame can be read; .*404"):
        editor.prompt(box_around(clip, 0, 1, "obj1"))
    media.files = files
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    assert sorted(masks(list(editor.regions.values()), "obj1")) == list(range(N_FRAMES))


def test_a_prompt_outside_is_named_echoed_and_leaves_the_others(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    outside = point(id="p2", value={"x": 150.0, "y": 10.0, "keypointlabels": ["obj1"]})
    answer = editor.prompt(outside)
    assert "p2" in answer["warnings"][0]
    assert {"p1", "p2"} <= set(editor.regions)
    with pytest.raises(PromptError, match="p9"):
        Editor(editor.service, editor.urls, task_id=9).prompt({**outside, "id": "p9"})


def test_a_request_without_prompts_changes_nothing(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    (answer,) = editor.service.predict(editor.request({"result": []}))
    assert answer["result"] == []
    assert prompt_ids(editor) == {"b1"}


def test_wrong_config_and_tasks(editor: Editor) -> None:
    with pytest.raises(ConfigError):
        editor.service.predict(editor.request({"result": [point()]}).model_copy(update={"label_config": "<View/>"}))
    two = editor.request({"result": [point()]})
    with pytest.raises(TaskError, match="about one task, but 2"):
        editor.service.predict(two.model_copy(update={"tasks": two.tasks * 2}))
    with pytest.raises(RequestError, match=r"tasks.0.data"):
        parse(PredictRequest, {"tasks": [{"id": 1}]}, "the request")


def test_budget_spent_the_rest_comes_with_the_next_answer(
    editor: Editor, clip: SampleClip, settings: Settings, media: MediaServer
) -> None:
    hurried = PredictionService(settings.model_copy(update={"response_budget_s": 0.001}))
    hurried.setup(SetupRequest(project=PROJECT, hostname=media.url, access_token=LEGACY_TOKEN))
    editor.service = hurried
    early = editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert len(masks(early["result"], "obj1")) < N_FRAMES
    assert "b1" in editor.regions, "the prompt is kept although its masks are not there yet"
    (session,) = hurried._sessions.open_sessions(("5", "7"))
    deadline = time.monotonic() + 30
    while session.is_busy and time.monotonic() < deadline:
        time.sleep(0.02)
    late = editor.prompt(editor.regions["b1"])
    assert sorted({*masks(early["result"], "obj1"), *masks(late["result"], "obj1")}) == list(range(N_FRAMES))
    hurried.close()


def test_a_newer_click_overtakes_and_nothing_is_lost(editor: Editor, clip: SampleClip) -> None:
    """The overtaken answer is ignored by Label Studio, so the newer one must carry all frames."""
    first = editor.request({"result": [box_around(clip, 0, 1, "obj1")]})
    thread = threading.Thread(target=editor.service.predict, args=(first,))
    thread.start()
    time.sleep(0.05)
    both = [box_around(clip, 0, 1, "obj1"), box_around(clip, 5, 1, "obj1", "b2")]
    (answer,) = editor.service.predict(editor.request({"result": both}))
    thread.join(30)
    assert sorted(masks(answer["result"], "obj1")) == list(range(N_FRAMES))
