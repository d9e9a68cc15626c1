"""GET /suggestions beside the recorded rounds: where to correct next, for programs of the project's own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.clip import N_FRAMES
from tests.contract.replay import Json, Replayer, masks_of
from tests.contract.test_contract import INSTANT_S

PATH = "/suggestions"


@pytest.fixture(scope="module")
def boxed(new_replayer: Callable[[], Replayer]) -> tuple[Replayer, Json]:
    """A backend after the first recorded box, and its answer."""
    replayer = new_replayer()
    return replayer, replayer.predict("first_box")[0]


def query_of(replayer: Replayer, **changes: Any) -> Json:
    """Project and task of the recorded box, named as Label Studio names them."""
    body = replayer.body("first_box")
    return {"project": body["project"], "task": body["tasks"][0]["id"], **changes}


def test_after_a_box_it_names_another_frame_at_once(boxed: tuple[Replayer, Json]) -> None:
    replayer, answer = boxed
    started_s = time.monotonic()
    found = replayer.get(PATH, query_of(replayer))
    assert time.monotonic() - started_s < INSTANT_S
    assert found.status_code == 200
    (session,) = found.get_json()["sessions"]
    assert session["model_version"] == answer["model_version"]
    assert session["is_computing"] is False
    masks = {region["id"]: region for region in masks_of(answer["result"])}
    (boxed_frame,) = {region["item_index"] for region in replayer.body("first_box")["params"]["context"]["result"]}
    assert session["suggestions"]
    for place in session["suggestions"]:
        assert set(place) == {
            *("frame_index", "ls_frame", "label", "region_id", "x_pct", "y_pct", "positive", "gain", "score")
        }
        mask = masks[place["region_id"]]
        assert place["frame_index"] == mask["item_index"] != boxed_frame
        assert 1 <= place["ls_frame"] == place["frame_index"] + 1 <= N_FRAMES
        assert mask["value"]["brushlabels"] == [place["label"]]
        assert mask["score"] == place["score"]
        assert 0 <= place["x_pct"] <= 100
        assert 0 <= place["y_pct"] <= 100
        assert place["gain"] > 0


@pytest.mark.parametrize("place", ["", '<TextArea name="next" toName="video" editable="false"/>'])
def test_the_note_comes_where_the_config_has_a_place_for_it(replayer: Replayer, place: str) -> None:
    body = replayer.body("first_box")
    config = re.sub("<TextArea[^>]*/>", "", body["label_config"])
    body["label_config"] = config[: config.rindex("</View>")] + place + "</View>"
    answer = replayer.predict(body)[0]
    notes = [region for region in answer["result"] if region["type"] == "textarea"]
    assert len(notes) == bool(place)
    for note in notes:
        assert (note["id"], note["from_name"], note["to_name"]) == ("ivos-next", "next", "video")
        (line,) = note["value"]["text"]
        assert line.startswith("Frame ")


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"task": None}, 400, "task"),
        ({"project": ""}, 400, "project"),
        ({"count": 0}, 400, "count"),
        ({"count": "all"}, 400, "count"),
        ({"task": 4711}, 404, "task 4711 of project"),
        ({"project": "nobody's"}, 404, "expected a task with an open session"),
    ],
)
def test_a_wrong_question_is_answered_with_what_was_expected(
    boxed: tuple[Replayer, Json], changes: Json, status: int, message: str
) -> None:
    query = {name: value for name, value in query_of(boxed[0], **changes).items() if value is not None}
    answer = boxed[0].get(PATH, query)
    assert answer.status_code == status
    assert message in answer.get_json()["error"]["message"]


def test_strangers_are_told_nothing(boxed: tuple[Replayer, Json]) -> None:
    answer = boxed[0].get(PATH, query_of(boxed[0]), with_credentials=False)
    assert answer.status_code == 401
    assert "sessions" not in answer.get_json()
