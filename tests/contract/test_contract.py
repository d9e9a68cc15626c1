"""What Label Studio sends, recorded from the real server, and what it must get back."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ls_backend.protocol.brush_regions import draw_touches
from ls_backend.protocol.label_config import parse_label_config
from ls_backend.protocol.payloads import Touch
from ls_backend.protocol.prompts import LabelPrompt
from ls_backend.protocol.regions import mask_to_brush_rle
from ls_backend.protocol.strokes import read_strokes
from pipeline.types import BoolMask
from tests.contract.clip import N_FRAMES, SIZE_HW_PX, TASK_FOLDERS, frame_urls, small_clip
from tests.contract.replay import (
    ROUNDS,
    ROUNDS_AFTER_UNDO,
    STROKES,
    EditorModel,
    Json,
    Replayed,
    Replayer,
    context_of,
    decode,
    masks_of,
    payload_names,
    prompts_of,
)
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer

HEIGHT_PX, WIDTH_PX = SIZE_HW_PX
LABEL_OF_ROUND = dict.fromkeys(ROUNDS, "obj1") | {"second_label": "obj2"}
INSTANT_S = 0.5
"""Label Studio waits one second for /health and /webhook."""


def test_every_recorded_request_is_replayed() -> None:
    batches = {"opened_task", "retrieve_predictions"}
    assert set(payload_names("/predict")) == {*ROUNDS, *ROUNDS_AFTER_UNDO, *STROKES, *batches}


def test_setup_says_the_model_version_at_once(replayer: Replayer) -> None:
    started_s = time.monotonic()
    answer = replayer.post("/setup", replayer.body("setup"))
    assert time.monotonic() - started_s < INSTANT_S
    assert answer.get_json()["model_version"]


@pytest.mark.parametrize("name", ROUNDS)
def test_masks_have_the_form_label_studio_draws(answers: dict[str, Json], name: str) -> None:
    label = LABEL_OF_ROUND[name]
    for region in masks_of(answers[name]["result"], label):
        frame_index = region["item_index"]
        assert region["id"] == f"{label}-{frame_index:05d}", "the id is made of label and frame"
        assert (region["from_name"], region["to_name"], region["type"]) == ("brush", "video", "brushlabels")
        assert region["origin"] == "prediction", "without it Label Studio calls the mask manual"
        assert 0 <= region["score"] <= 1
        assert (region["original_height"], region["original_width"]) == SIZE_HW_PX
        assert region["image_rotation"] == 0
        assert region["value"]["format"] == "rle"
        assert decode(region).shape == SIZE_HW_PX


@pytest.mark.parametrize(("name", "label"), [("first_box", "obj1"), ("second_label", "obj2")])
def test_a_first_prompt_gives_one_mask_for_every_frame(answers: dict[str, Json], name: str, label: str) -> None:
    regions = masks_of(answers[name]["result"], label)
    assert sorted(region["item_index"] for region in regions) == list(range(N_FRAMES))
    assert all(decode(region).any() for region in regions), "both objects are visible on every frame"


@pytest.mark.parametrize("name", ROUNDS)
def test_answer_has_a_score_and_a_model_version(answers: dict[str, Json], name: str) -> None:
    assert 0 <= answers[name]["score"] <= 1
    assert answers[name]["model_version"]


@pytest.mark.parametrize(
    ("name", "signs"),
    [
        ("first_box", [True]),
        ("first_click", [True]),
        ("negative_alt", [True, False]),
        ("negative_control", [True, False, False]),
        ("with_drafts", [True, False, False, True]),
        ("second_label", [True]),
    ],
)
def test_prompts_come_back_unchanged_but_for_their_sign_and_score(
    answers: dict[str, Json], replayer: Replayer, name: str, signs: list[bool]
) -> None:
    sent = context_of(replayer.body(name))
    echoed = list(prompts_of(answers[name]["result"]).values())
    assert [prompt["meta"]["prompt"]["pos"] for prompt in echoed] == signs
    for before, after in zip(sent, echoed, strict=True):
        assert {**after, "meta": None} == {**before, "meta": None, "score": 1.0}


@pytest.mark.parametrize("name", ROUNDS)
def test_no_id_stands_twice_in_an_answer(answers: dict[str, Json], name: str) -> None:
    ids = [region["id"] for region in answers[name]["result"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("label", ["obj1", "obj2"])
def test_after_all_rounds_there_is_one_mask_per_label_and_frame(editor: EditorModel, label: str) -> None:
    assert sorted(editor.masks(label)) == list(range(N_FRAMES))


def test_the_masks_are_the_objects(editor: EditorModel) -> None:
    clip = small_clip()
    for object_id, label in ((1, "obj1"), (2, "obj2")):
        for frame_index, mask in editor.masks(label).items():
            truth = clip.labels[frame_index] == object_id
            assert (mask & truth).sum() > 0.4 * truth.sum(), f"{label} on frame {frame_index}"
            assert (mask & truth).sum() > 0.4 * mask.sum(), f"{label} on frame {frame_index}"


def test_clicks_are_obeyed_on_their_frames(editor: EditorModel) -> None:
    masks = editor.masks("obj1")
    for prompt in prompts_of(list(editor.regions.values())).values():
        if prompt["type"] != "keypointlabels" or prompt["value"]["keypointlabels"] != ["obj1"]:
            continue
        row, column = int(prompt["value"]["y"] / 100 * HEIGHT_PX), int(prompt["value"]["x"] / 100 * WIDTH_PX)
        assert masks[prompt["item_index"]][row, column] == prompt["meta"]["prompt"]["pos"], prompt["id"]


def test_only_changed_masks_are_sent(answers: dict[str, Json], replayer: Replayer) -> None:
    # A draft shows here that the editor holds the masks of the rounds before.
    saved = [region["id"] for region in replayer.body("with_drafts")["tasks"][0]["drafts"][0]["result"]]
    earlier = ROUNDS[: ROUNDS.index("with_drafts")]
    assert {prompt for name in earlier for prompt in prompts_of(answers[name]["result"])} <= set(saved)
    model = EditorModel()
    for name in earlier:
        model.apply(answers[name]["result"])
    for region in masks_of(answers["with_drafts"]["result"]):
        assert region["value"] != model.regions[region["id"]]["value"], f"{region['id']} is sent again unchanged"


def test_undo_sends_the_masks_again(replayer: Replayer) -> None:
    replayer.predict("first_click")
    replayer.predict("negative_alt")
    # Undo leaves the editor with the masks of the round before; the next request shows it by the missing prompt.
    body = replayer.body("negative_alt")
    again = {**context_of(body)[-1], "id": "clicked-again"}
    body["params"]["context"]["result"] = [*context_of(body)[:-1], again]
    regions = masks_of(replayer.predict(body)[0]["result"], "obj1")
    assert sorted(region["item_index"] for region in regions) == list(range(N_FRAMES))


def test_deleted_prompts_are_forgotten(replayed: Replayed, replayer: Replayer) -> None:
    (deleted,) = newest(replayer.body("with_drafts"))
    sent = [prompt["id"] for prompt in context_of(replayer.body("after_delete"))]
    assert deleted not in sent
    assert list(prompts_of(replayed.answers["after_delete"]["result"])) == sent
    assert deleted in replayed.known_prompts["with_drafts"]
    assert deleted not in replayed.known_prompts["after_delete"]


def test_a_click_that_failed_comes_with_the_next_and_counts(replayed: Replayed, replayer: Replayer) -> None:
    fresh = newest(replayer.body("after_error"))
    assert len(fresh) == 2, "the failed click is not echoed, so both are fresh"
    assert fresh <= set(prompts_of(replayed.answers["after_error"]["result"]))
    assert fresh <= replayed.known_prompts["after_error"]


def newest(body: Json) -> set[str]:
    """Ids of the prompts that no answer has echoed yet."""
    return {prompt["id"] for prompt in context_of(body) if "meta" not in prompt}


@pytest.mark.parametrize("name", ["with_drafts", "reopened"])
def test_a_restarted_backend_finds_earlier_prompts_in_drafts_and_annotations(replayer: Replayer, name: str) -> None:
    body = replayer.body(name)
    box_id = context_of(replayer.body("first_box"))[0]["id"]
    assert box_id not in [prompt["id"] for prompt in context_of(body)], "boxes do not come with clicks"
    regions = masks_of(replayer.predict(body)[0]["result"], "obj1")
    assert sorted(region["item_index"] for region in regions) == list(range(N_FRAMES))
    assert replayer.known_prompts() == {box_id, *(prompt["id"] for prompt in context_of(body))}


def test_a_batch_answers_in_order_with_the_masks_of_the_sessions(
    replayed: Replayed, editor: EditorModel, replayer: Replayer
) -> None:
    tasks = replayer.body("retrieve_predictions")["tasks"]
    assert [task["data"]["frames"] for task in tasks] == [frame_urls(folder) for folder in TASK_FOLDERS[:3]]
    assert [bool(masks_of(item["result"])) for item in replayed.batch] == [True, False, False]
    known = EditorModel()
    known.apply(replayed.batch[0]["result"])
    for label in ("obj1", "obj2"):
        for frame_index, mask in editor.masks(label).items():
            np.testing.assert_array_equal(known.masks(label)[frame_index], mask)


def test_a_batch_answers_at_once_and_fetches_nothing(replayer: Replayer, media: MediaServer) -> None:
    asked_before = len(media.requests)
    started_s = time.monotonic()
    assert [item["result"] for item in replayer.predict("retrieve_predictions")] == [[], [], []]
    assert time.monotonic() - started_s < INSTANT_S
    assert len(media.requests) == asked_before


def test_an_opened_task_without_a_session_gets_an_empty_result(replayer: Replayer) -> None:
    (item,) = replayer.predict("opened_task")
    assert item["result"] == []


def test_frames_are_fetched_with_the_token_of_setup(replayer: Replayer, media: MediaServer) -> None:
    media.requests.clear()
    replayer.predict("first_box")
    names = [f"{TASK_FOLDERS[0]}/{frame_index:05d}.png" for frame_index in range(N_FRAMES)]
    assert {(name, f"Token {LEGACY_TOKEN}") for name in names} == set(media.requests)
    assert len(media.requests) == N_FRAMES, "each frame is fetched once"


@pytest.mark.parametrize("name", payload_names("/webhook"))
def test_webhooks_are_taken_without_credentials(replayer: Replayer, name: str) -> None:
    started_s = time.monotonic()
    answer = replayer.post("/webhook", replayer.body(name), with_credentials=False)
    assert time.monotonic() - started_s < INSTANT_S
    assert answer.status_code == 200


def stored_of(body: Json, kind: str) -> dict[str, Json]:
    """The regions of the only draft or annotation of a request by id."""
    (document,) = body["tasks"][0][kind]
    return {region["id"]: region for region in document["result"]}


def own_of(regions: dict[str, Json]) -> Json:
    """The only brush region that the annotator began."""
    (own,) = (r for r in regions.values() if r["type"] == "brushlabels" and r["origin"] == "manual")
    return own


def test_strokes_stand_in_drafts_and_pixels_in_annotations(replayer: Replayer) -> None:
    draft = stored_of(replayer.body("strokes_in_draft"), "drafts")
    annotation = stored_of(replayer.body("strokes_submitted"), "annotations")
    own, submitted = own_of(draft), own_of(annotation)
    assert own["id"] == submitted["id"]
    assert [touch["type"] for touch in own["value"]["touches"]] == ["add", "add", "eraser"]
    assert "rle" not in own["value"]
    assert "touches" not in submitted["value"]
    for mask_id, is_shown in (("obj1-00000", True), ("obj1-00002", False)):
        changed = draft[mask_id]
        assert changed["origin"] == annotation[mask_id]["origin"] == "prediction-changed"
        assert changed["value"]["rle"] == mask_to_brush_rle(box_of_recorder(changed["item_index"])), (
            "as it was answered"
        )
        assert [touch["type"] for touch in changed["value"]["touches"]] == ["eraser"]
        assert ("touches" in annotation[mask_id]["value"]) is not is_shown, (
            "a frame that was not shown is stored as loaded"
        )
    assert draft["obj1-00001"]["origin"] == "prediction"


def box_of_recorder(frame_index: int) -> BoolMask:
    """What the recorder's stand-in backend answered to the first box."""
    mask = np.zeros(SIZE_HW_PX, np.bool_)
    mask[4:17, 30 + 4 * frame_index : 44 + 4 * frame_index] = True
    return mask


@pytest.mark.parametrize("region_id", ["own", "obj1-00000"])
def test_strokes_are_painted_as_label_studio_paints_them(replayer: Replayer, region_id: str) -> None:
    draft = stored_of(replayer.body("strokes_in_draft"), "drafts")
    annotation = stored_of(replayer.body("strokes_submitted"), "annotations")
    drawn = own_of(draft) if region_id == "own" else draft[region_id]
    touches = [Touch.model_validate(touch) for touch in drawn["value"]["touches"]]
    base = decode(drawn) if "rle" in drawn["value"] else np.zeros(SIZE_HW_PX, np.bool_)
    painted, stored = draw_touches(base, touches), decode(annotation[drawn["id"]])
    differs = painted != stored
    assert stored.any()
    assert differs.sum() <= 0.05 * (painted | stored).sum()


def test_strokes_become_prompts_and_are_not_sent_back(replayer: Replayer) -> None:
    own_id = own_of(stored_of(replayer.body("strokes_in_draft"), "drafts"))["id"]
    answer = replayer.predict("strokes_in_draft")[0]
    returned = {region["id"] for region in answer["result"]}
    assert {f"obj2-{frame_index:05d}" for frame_index in range(N_FRAMES)} <= returned, "the strokes make an object"
    assert own_id not in returned
    assert "obj1-00002" not in returned, "a mask made by hand stays as it is in the editor"
    assert "obj1-00000" in returned, "unless a click on its frame corrects it"
    assert answer["warnings"] == []


def test_signs_survive_the_submission(replayer: Replayer) -> None:
    def signs(name: str, kind: str, known: tuple[LabelPrompt, ...]) -> tuple[LabelPrompt, ...]:
        body = replayer.body(name)
        regions = stored_of(body, kind).values()
        return read_strokes(regions, parse_label_config(body["label_config"])).scribbles("obj2", known)

    drawn = signs("strokes_in_draft", "drafts", ())
    assert [prompt.positive for prompt in drawn] == [True, True, True, False], "the second stroke was cut in two"
    assert signs("strokes_submitted", "annotations", drawn) == drawn
    traced = signs("strokes_submitted", "annotations", ())
    assert all(prompt.positive for prompt in traced), "pixels alone do not tell what was erased"
    assert len(traced) == 2, "two lines; the gap that was erased is too narrow for a third"
