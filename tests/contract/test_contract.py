"""What Label Studio sends, recorded from the real server, and what it must get back."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.contract.clip import N_FRAMES, SIZE_HW_PX, TASK_FOLDERS, frame_urls, small_clip
from tests.contract.replay import (
    ROUNDS,
    ROUNDS_AFTER_UNDO,
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
from tests.ls_backend.media_server import LEGACY_TOKEN, MediaServer

HEIGHT_PX, WIDTH_PX = SIZE_HW_PX
LABEL_OF_ROUND = dict.fromkeys(ROUNDS, "obj1") | {"second_label": "obj2"}
INSTANT_S = 0.2


def test_every_recorded_request_is_replayed() -> None:
    batches = {"opened_task", "retrieve_predictions"}
    assert set(payload_names("/predict")) == {*ROUNDS, *ROUNDS_AFTER_UNDO, *batches}


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
def test_prompts_come_back_unchanged_but_for_their_sign(
    answers: dict[str, Json], replayer: Replayer, name: str, signs: list[bool]
) -> None:
    sent = context_of(replayer.body(name))
    echoed = list(prompts_of(answers[name]["result"]).values())
    assert [prompt["meta"]["prompt"]["pos"] for prompt in echoed] == signs
    for before, after in zip(sent, echoed, strict=True):
        assert {**after, "meta": None} == {**before, "meta": None}


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


@pytest.mark.parametrize(
    "action",
    [
        *("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"),
        *("TASKS_CREATED", "TASKS_DELETED", "PROJECT_UPDATED", "START_TRAINING"),
    ],
)
def test_every_webhook_was_recorded(replayer: Replayer, action: str) -> None:
    assert replayer.body(f"webhook_{action.lower()}")["action"] == action
