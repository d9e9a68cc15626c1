"""Replay recorded requests through the WSGI app, beside a small model of what the editor keeps of the answers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray
from werkzeug.test import TestResponse

PAYLOADS = Path(__file__).with_name("payloads")
HOST_PLACEHOLDER = "http://label-studio.invalid"
TOKEN_PLACEHOLDER = "0" * 40
ROUNDS = ("first_box", "first_click", "negative_alt", "negative_control", "with_drafts", "second_label")
"""What the annotator did first, in this order, without a step back."""
ROUNDS_AFTER_UNDO = ("after_delete", "after_error", "reopened")
"""What came then, after Undo took ``second_label`` back."""
STROKES = ("strokes_in_draft", "strokes_submitted")
"""Another task: strokes of brush and eraser."""

Json = dict[str, Any]


def payload_names(path: str) -> list[str]:
    """The recorded requests to one path, in the order of their names."""
    recorded = {file.stem: json.loads(file.read_text())["path"] for file in sorted(PAYLOADS.glob("*.json"))}
    return [name for name, recorded_path in recorded.items() if recorded_path == path]


@dataclass(frozen=True)
class Replayer:
    """Sends recorded bodies as Label Studio would. ``host_url`` and ``token`` stand for the recorded server's."""

    app: Flask
    credentials: tuple[str, str]
    host_url: str
    token: str

    def body(self, name: str) -> Json:
        """A recorded body with this test's server and token in it."""
        text = (PAYLOADS / f"{name}.json").read_text()
        text = text.replace(HOST_PLACEHOLDER, self.host_url).replace(TOKEN_PLACEHOLDER, self.token)
        recorded: Json = json.loads(text)
        return dict(recorded["body"])

    def post(self, path: str, body: Any, *, with_credentials: bool = True) -> TestResponse:
        """POST a JSON body; text is sent as it is."""
        data = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": "application/json", **self._login(with_credentials)}
        return self.app.test_client().post(path, data=data, headers=headers)

    def get(self, path: str, query: Json, *, with_credentials: bool = True) -> TestResponse:
        """GET with a query."""
        return self.app.test_client().get(path, query_string=query, headers=self._login(with_credentials))

    def _login(self, with_credentials: bool) -> dict[str, str]:
        login = "Basic " + b64encode(":".join(self.credentials).encode()).decode()
        return {"Authorization": login} if with_credentials else {}

    def predict(self, body: str | Json) -> list[Json]:
        """The results for a body or a recorded name; the answer must be 200."""
        answer = self.post("/predict", self.body(body) if isinstance(body, str) else body)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return list(answer.get_json()["results"])

    def known_prompts(self) -> set[str]:
        """Ids of the prompts the backend holds for the recorded task: a request without a context shows them."""
        body = self.body("first_click")
        body["params"]["context"] = None
        return set(prompts_of(self.predict(body)[0]["result"]))


@dataclass(frozen=True)
class Replayed:
    """What one backend said to the recorded rounds, one after the other.

    ``answers`` and ``known_prompts`` (ids the backend holds for the task afterwards) are by round; ``batch`` is the
    answer to "Retrieve predictions" for all tasks after ``ROUNDS``, before the first step back.
    """

    answers: dict[str, Json]
    known_prompts: dict[str, set[str]]
    batch: list[Json]


def replay_rounds(replayer: Replayer) -> Replayed:
    """Send all rounds; the last one, a reopened annotation, is left to tests of a restart."""
    answers: dict[str, Json] = {}
    known: dict[str, set[str]] = {}
    batch: list[Json] = []
    for name in (*ROUNDS, "after_delete", "after_error"):
        answers[name] = replayer.predict(name)[0]
        known[name] = replayer.known_prompts()
        if name == ROUNDS[-1]:
            batch = replayer.predict("retrieve_predictions")
    return Replayed(answers, known, batch)


@dataclass
class EditorModel:
    """The regions of one open annotation: an id that comes back replaces its region, any other is added."""

    regions: dict[str, Json] = field(default_factory=dict)

    def apply(self, result: list[Json]) -> None:
        """Take over an answer."""
        for region in result:
            self.regions[region["id"]] = region

    def masks(self, label: str) -> dict[int, NDArray[np.bool_]]:
        """The masks of a label by frame, (H, W) bool. Two regions for one label and frame are an error.

        Raises:
            AssertionError: a frame has two regions of the label.
        """
        found: dict[int, NDArray[np.bool_]] = {}
        for region in masks_of(list(self.regions.values()), label):
            assert region["item_index"] not in found, f"two masks of {label} on frame {region['item_index']}"
            found[region["item_index"]] = decode(region)
        return found


def masks_of(result: list[Json], label: str | None = None) -> list[Json]:
    """The brush regions of an answer, of one label or of all."""
    regions = [region for region in result if region["type"] == "brushlabels"]
    return [r for r in regions if label is None or r["value"]["brushlabels"] == [label]]


def prompts_of(result: list[Json]) -> dict[str, Json]:
    """The echoed prompts of an answer by id."""
    return {region["id"]: region for region in result if region["type"] != "brushlabels"}


def decode(region: Json) -> NDArray[np.bool_]:
    """A brush region's mask, (H, W) bool, read by Label Studio's own decoder."""
    rgba = decode_rle(region["value"]["rle"]).reshape(region["original_height"], region["original_width"], 4)
    return np.asarray(rgba[:, :, 3] > 0)


def context_of(body: Mapping[str, Any]) -> list[Json]:
    """The prompts of a request."""
    return list(body["params"]["context"]["result"])
