"""Whatever arrives, the client gets JSON that says what to do, the log gets the trace, and nothing is lost."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ls_backend.service import PredictionService
from tests.contract.clip import N_FRAMES, SIZE_HW_PX
from tests.contract.replay import Json, Replayer, context_of, decode, masks_of, prompts_of
from tests.ls_backend.label_studio.media_server import MediaServer

Change = Callable[[Json], Any]


def changed(body: Json, change: Change) -> Json:
    """A copy of a recorded body with one thing wrong."""
    body = copy.deepcopy(body)
    change(body)
    return body


def refused(replayer: Replayer, body: Any, *, status: int, path: str = "/predict") -> str:
    """Post something wrong; returns the error's message."""
    answer = replayer.post(path, body)
    text = answer.get_data(as_text=True)
    assert answer.status_code == status, text
    assert "Traceback" not in text
    assert 'File "' not in text
    error = answer.get_json()["error"]
    assert error["code"]
    return str(error["message"])


@pytest.mark.parametrize("path", ["/predict", "/setup", "/train", "/versions"])
@pytest.mark.parametrize("user", [None, "wrong"])
def test_wrong_credentials_are_refused(replayer: Replayer, path: str, user: str | None) -> None:
    if user is None:
        answer = replayer.post(path, {}, with_credentials=False)
    else:
        stranger = Replayer(replayer.app, (user, replayer.credentials[1]), replayer.host_url, replayer.token)
        answer = stranger.post(path, {})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert "user and password" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
@pytest.mark.parametrize("body", ["", "{", "[1, 2", "[]", '"text"', "null", "7"])
def test_what_is_not_a_json_object_is_refused(replayer: Replayer, path: str, body: str) -> None:
    assert refused(replayer, body, status=400, path=path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda body: body.update(tasks="all"), "tasks"),
        (lambda body: body.update(tasks=[7]), "tasks"),
        (lambda body: body["tasks"][0].pop("data"), "data"),
        (lambda body: body["tasks"][0].update(data=["frame"]), "data"),
        (lambda body: body.update(params=[1]), "params"),
        (lambda body: body["params"].update(context="click"), "context"),
        (lambda body: body["params"]["context"].update(result={"id": 1}), "result"),
    ],
)
def test_fields_of_the_wrong_form_are_named(replayer: Replayer, change: Change, named: str) -> None:
    assert named in refused(replayer, changed(replayer.body("first_click"), change), status=400)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(params=None),
        lambda body: body.pop("params"),
        lambda body: body["params"].update(context=None),
        lambda body: body["params"].pop("context"),
    ],
)
def test_no_context_is_a_batch(replayer: Replayer, change: Change) -> None:
    (item,) = replayer.predict(changed(replayer.body("first_click"), change))
    assert item["result"] == []


@pytest.mark.parametrize("context", [{}, {"result": None}, {"result": []}])
def test_a_context_without_prompts_changes_nothing(replayer: Replayer, context: Json) -> None:
    body = changed(replayer.body("first_click"), lambda body: body["params"].update(context=context))
    (item,) = replayer.predict(body)
    assert item["result"] == []


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("", "XML"),
        ("<View", "XML"),
        ('<View><Video name="v" value="$video"/></View>', "valueList"),
        ('<View><Image name="video" valueList="$frames"/></View>', "BrushLabels"),
        (
            '<View><Image name="video" valueList="$frames"/><BrushLabels name="b" toName="video">'
            '<Label value="obj1"/></BrushLabels></View>',
            "KeyPointLabels",
        ),
    ],
)
def test_an_unknown_config_is_answered_with_one_that_works(replayer: Replayer, config: str, named: str) -> None:
    body = changed(replayer.body("first_click"), lambda body: body.update(label_config=config))
    message = refused(replayer, body, status=422)
    assert named in message
    working = message[message.rindex("<View>") :]
    body["params"]["context"] = None
    assert replayer.predict(changed(body, lambda body: body.update(label_config=working)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda body: body["tasks"][0]["data"].pop("frames"), "frames"),
        (lambda body: body["tasks"][0]["data"].update(frames=[]), "frames"),
        (lambda body: body["tasks"][0]["data"].update(frames="a.mp4"), "frames"),
        (lambda body: body["tasks"][0]["data"].update(frames=["/data/local-files/?d=none.png"]), "none.png"),
        (lambda body: context_of(body)[0]["value"].update(x=140.0), "outside"),
        (lambda body: context_of(body)[0].update(item_index=N_FRAMES), str(N_FRAMES)),
        (lambda body: context_of(body)[0]["value"].update(keypointlabels=["moon"]), "moon"),
        (lambda body: context_of(body)[0]["value"].update(keypointlabels=[]), "label"),
    ],
)
def test_an_unusable_task_or_prompt_is_named(replayer: Replayer, change: Change, named: str) -> None:
    assert named in refused(replayer, changed(replayer.body("first_click"), change), status=422)


def test_after_a_refused_request_the_next_click_works(replayer: Replayer) -> None:
    replayer.predict("first_box")
    body = changed(replayer.body("first_click"), lambda body: context_of(body)[0]["value"].update(x=140.0))
    refused_or_answered = replayer.post("/predict", body)
    assert "Traceback" not in refused_or_answered.get_data(as_text=True)
    (item,) = replayer.predict("negative_alt")
    assert set(prompts_of(item["result"])) == {p["id"] for p in context_of(replayer.body("negative_alt"))}


def test_one_bad_prompt_among_good_ones_costs_only_itself(replayer: Replayer) -> None:
    body = replayer.body("after_error")
    context_of(body)[-1]["value"].update(x=140.0)
    (item,) = replayer.predict(body)
    assert len(masks_of(item["result"], "obj1")) == N_FRAMES
    assert any("outside" in warning for warning in item["warnings"])
    assert set(prompts_of(item["result"])) == {prompt["id"] for prompt in context_of(body)}, "no prompt is lost"


@pytest.mark.parametrize("reason", ["missing", "not an image", "another size"])
def test_a_bad_frame_is_named_and_the_others_get_masks(replayer: Replayer, media: MediaServer, reason: str) -> None:
    body = replayer.body("first_box")
    name = f"bad/{reason.replace(' ', '-')}.png"
    if reason == "not an image":
        media.files[name] = b"<html>log in</html>"
    elif reason == "another size":
        media.put(name, np.zeros((32, 32, 3), np.uint8))
    body["tasks"][0]["data"]["frames"][3] = f"/data/local-files/?d={name}"
    (item,) = replayer.predict(body)
    assert sorted(region["item_index"] for region in masks_of(item["result"])) == [0, 1, 2, 4, 5]
    assert any("frame 3" in warning for warning in item["warnings"])


def test_where_the_object_is_gone_the_mask_is_all_zero(replayer: Replayer, media: MediaServer) -> None:
    body = replayer.body("first_box")
    # A cut: from frame 3 on nothing of the first frames is there any more.
    night = np.random.default_rng(0).integers(0, 40, (*SIZE_HW_PX, 3), dtype=np.uint8)
    for frame_index in range(3, N_FRAMES):
        body["tasks"][0]["data"]["frames"][frame_index] = media.put(f"night/{frame_index}.png", night)
    (item,) = replayer.predict(body)
    regions = {region["item_index"]: region for region in masks_of(item["result"])}
    assert [bool(decode(regions[frame_index]).any()) for frame_index in range(N_FRAMES)] == [True] * 3 + [False] * 3


def test_an_unexpected_failure_shows_a_reference_and_logs_the_trace(
    replayer: Replayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect nobody knew")

    monkeypatch.setattr(PredictionService, "predict", fail)
    with caplog.at_level(logging.ERROR):
        message = refused(replayer, replayer.body("first_click"), status=500)
    assert "a defect nobody knew" not in message
    assert "Traceback" in caplog.text
    assert "a defect nobody knew" in caplog.text
    reference = message.split("reference ")[1].split(".")[0]
    assert reference in caplog.text


def test_a_refused_request_is_logged_with_its_trace(replayer: Replayer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        refused(replayer, changed(replayer.body("first_click"), lambda body: body.update(label_config="")), status=422)
    assert "Traceback" in caplog.text


def test_an_unknown_address_is_json_too(replayer: Replayer) -> None:
    assert refused(replayer, {}, status=404, path="/no-such-route")
