"""The web application as gunicorn serves it: routes, authentication, errors."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Authorization

from ls_backend.app import EXTENSION, create_app, is_allowed
from ls_backend.protocol.label_config import recommended_label_config
from ls_backend.settings import Settings
from tests.colour_segmenter import NAME
from tests.ls_backend.conftest import PASSWORD

CONFIG = recommended_label_config(["obj1"])
MODEL_VERSION = f"i_pt+{NAME}"
AUTH = {"Authorization": "Basic " + base64.b64encode(f"ivos:{PASSWORD}".encode()).decode()}


@pytest.fixture
def client(settings: Settings) -> Iterator[FlaskClient]:
    app = create_app(settings)
    yield app.test_client()
    app.extensions[EXTENSION].close()


def batch(**changes: Any) -> dict[str, Any]:
    """A null-context request of two tasks."""
    tasks = [{"id": 1, "data": {"frames": ["/a.png"]}}, {"id": 2, "data": {"frames": ["/b.png"]}}]
    return {"tasks": tasks, "project": "5.1", "label_config": CONFIG, "params": {"context": None}, **changes}


def test_predict_right_after_a_start(client: FlaskClient) -> None:
    """label-studio-ml's own route answers 500 here until /setup was called."""
    answer = client.post("/predict", json=batch(), headers=AUTH)
    assert answer.status_code == 200
    body = answer.get_json()
    assert [item["result"] for item in body["results"]] == [[], []]
    assert body["model_version"] == MODEL_VERSION


@pytest.mark.parametrize("params", [None, {}, {"context": None}, {"login": None, "password": None}])
def test_context_may_be_missing(client: FlaskClient, params: object) -> None:
    assert client.post("/predict", json=batch(params=params), headers=AUTH).status_code == 200


def test_setup_health_and_versions(client: FlaskClient) -> None:
    body = {
        "project": "5.1",
        "schema": CONFIG,
        "hostname": "http://127.0.0.1:1",
        "access_token": "t",
        "extra_params": None,
    }
    assert client.post("/setup", json=body, headers=AUTH).get_json() == {"model_version": MODEL_VERSION}
    assert client.get("/health").get_json()["status"] == "UP"
    assert client.get("/versions", headers=AUTH).get_json() == {"versions": [MODEL_VERSION]}
    assert client.get("/metrics", headers=AUTH).status_code == 200


def test_suggestions_are_asked_with_get(client: FlaskClient) -> None:
    query = {"project": "5.1", "task": "7"}
    answer = client.get("/suggestions", query_string=query, headers=AUTH)
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "unknown_task"
    assert "clicks or draws a box" in answer.get_json()["error"]["message"]
    assert client.get("/suggestions", headers=AUTH).status_code == 400
    assert client.post("/suggestions", json=query, headers=AUTH).status_code == 405


@pytest.mark.parametrize(
    "path", ["/predict", "/setup", "/suggestions", "/versions", "/train", "/metrics", "/is_training", "/nothing"]
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic d3Jvbmc6d3Jvbmc="}, {"Authorization": "nonsense"}])
def test_wrong_credentials(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    answer = client.post(path, json={}, headers=headers)
    assert answer.status_code == 401
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert answer.get_json()["error"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    "event",
    [
        {"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "task": {"id": 2}, "project": {"id": 5}},
        {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]},
        {"action": "START_TRAINING", "project": {"id": 5}},
        {},
    ],
)
def test_webhook_answers_without_credentials_and_without_a_process(client: FlaskClient, event: dict[str, Any]) -> None:
    import psutil

    before = set(psutil.Process().children(recursive=True))
    assert client.post("/webhook", json=event).status_code == 200
    assert set(psutil.Process().children(recursive=True)) == before


@pytest.mark.parametrize(
    ("path", "data", "status", "message"),
    [
        ("/predict", b"", 400, "JSON|browser"),
        ("/predict", b"{", 400, "JSON|browser"),
        ("/predict", b"[]", 400, "expected a JSON object, but got list"),
        ("/predict", b'{"tasks": 5}', 400, "tasks"),
        ("/predict", b'{"tasks": [{"id": 1}]}', 400, "tasks.0.data"),
        ("/predict", b'{"tasks": [], "params": 3}', 400, "params"),
        ("/predict", b'{"tasks": [], "params": {"context": 3}}', 400, "context"),
        ("/predict", b'{"tasks": [], "params": {"context": {"result": "x"}}}', 400, "result"),
        ("/predict", b'{"tasks": [], "label_config": "<View/>"}', 422, "<BrushLabels name="),
        ("/setup", b"nonsense", 400, "JSON|browser"),
        ("/webhook", b"nonsense", 400, "JSON|browser"),
        ("/nothing", b"{}", 404, "not found"),
    ],
)
def test_bad_requests_get_a_clear_answer_and_leave_a_trace_in_the_log(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, path: str, data: bytes, status: int, message: str
) -> None:
    answer = client.post(path, data=data, headers=AUTH)
    assert answer.status_code == status
    error = answer.get_json()["error"]
    assert any(part in error["message"] for part in message.split("|")), error
    assert "Traceback" not in answer.get_data(as_text=True)
    assert "Traceback" in caplog.text


def test_an_unexpected_failure_shows_a_reference_and_logs_the_trace(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise ZeroDivisionError("inner detail")

    monkeypatch.setattr(client.application.extensions[EXTENSION], "predict", fail)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/predict", json=batch(), headers=AUTH)
    assert answer.status_code == 500
    message = answer.get_json()["error"]["message"]
    assert "inner detail" not in message
    reference = message.split("reference ")[1].split(".")[0]
    assert reference in caplog.text
    assert "ZeroDivisionError: inner detail" in caplog.text


def test_train_and_is_training_do_nothing(client: FlaskClient) -> None:
    assert client.post("/train", json={}, headers=AUTH).status_code == 200
    assert client.get("/is_training?project=5.1", headers=AUTH).get_json() == {"is_training": False}


def basic(user: str, password: str) -> Authorization:
    return Authorization("basic", {"username": user, "password": password})


@pytest.mark.parametrize(
    ("path", "authorization", "allowed"),
    [
        ("/predict", basic("ivos", PASSWORD), True),
        ("/predict", basic("ivos", "wrong"), False),
        ("/predict", basic("wrong", PASSWORD), False),
        ("/predict", basic("ivös", "ü"), False),
        ("/predict", Authorization("bearer", token="x"), False),
        ("/predict", None, False),
        ("/setup", None, False),
        ("/nothing", None, False),
        ("/health", None, True),
        ("/webhook", None, True),
    ],
)
def test_credentials(settings: Settings, path: str, authorization: Authorization | None, allowed: bool) -> None:
    assert is_allowed(path, authorization, settings) is allowed
    assert is_allowed(path, authorization, settings.model_copy(update={"auth_disabled": True}))
