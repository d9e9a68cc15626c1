"""The backend as it is really served: gunicorn, one worker process, several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from ls_backend.demo.servers import BackendServer
from ls_backend.protocol.label_config import recommended_label_config
from tests.clips import Clip, real_or_rendered
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer, media_server
from tests.ls_backend.protocol.test_prompts import box
from tests.ports import free_port

INSTANT_S = 0.2
CONFIG = recommended_label_config(["obj1"])
AUTH = ("ivos", "correct horse")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return real_or_rendered("blackswan", tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def media(clip: Clip) -> Iterator[MediaServer]:
    with media_server() as server:
        server.files = {path.name: path.read_bytes() for path in clip.image_paths}
        yield server


@pytest.fixture(scope="module")
def backend(media: MediaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    server = BackendServer(
        tmp_path_factory.mktemp("backend"),
        free_port(),
        user=AUTH[0],
        password=AUTH[1],
        label_studio_url=media.url,
        label_studio_token=LEGACY_TOKEN,
    )
    with server:
        yield server


def click_request(clip: Clip, task_id: int) -> dict[str, Any]:
    """A box around the object on the first frame, as Label Studio sends it."""
    ys, xs = np.nonzero(clip.mask(0))
    height_px, width_px = clip.labels.shape[1:]
    region = box(
        x=xs.min() / width_px * 100, y=ys.min() / height_px * 100,
        width=np.ptp(xs) / width_px * 100, height=np.ptp(ys) / height_px * 100,
    )  # fmt: skip
    frames = [f"/data/local-files/?d={path.name}" for path in clip.image_paths]
    return {
        "tasks": [{"id": task_id, "data": {"frames": frames}}],
        "project": "5.1",
        "label_config": CONFIG,
        "params": {"context": {"result": [{**region, "item_index": 0}]}},
    }


def test_health_and_setup_are_instant_while_a_round_runs(
    backend: BackendServer, clip: Clip, media: MediaServer
) -> None:
    answers: list[requests.Response] = []

    def predict() -> None:
        answers.append(requests.post(f"{backend.url}/predict", json=click_request(clip, 1), auth=AUTH, timeout=120))

    setup = {"project": "5.1", "schema": CONFIG, "hostname": media.url, "access_token": LEGACY_TOKEN}
    round_thread = threading.Thread(target=predict)
    round_thread.start()
    taken_s: dict[str, list[float]] = {"health": [], "setup": []}
    while round_thread.is_alive():
        for name, ask in (
            ("health", lambda: requests.get(f"{backend.url}/health", timeout=5)),
            ("setup", lambda: requests.post(f"{backend.url}/setup", json=setup, auth=AUTH, timeout=5)),
        ):
            started = time.monotonic()
            assert ask().status_code == 200
            taken_s[name].append(time.monotonic() - started)
        time.sleep(0.05)
    masks = [region for region in answers[0].json()["results"][0]["result"] if region["type"] == "brushlabels"]
    assert len(masks) == len(clip.image_paths)
    print(
        {
            name: f"{len(times)} calls, {np.mean(times):.3f} s on average, {max(times):.3f} s at most"
            for name, times in taken_s.items()
        }
    )
    for name, times in taken_s.items():
        assert len(times) > 10, f"{name}: the round was too short to tell"
        # One call in a hundred may fall on a moment when the machine itself stands still.
        assert np.quantile(times, 0.99) < INSTANT_S, name


def test_a_restarted_backend_answers_at_once(backend: BackendServer, clip: Clip) -> None:
    backend.stop()
    backend.start()
    request = {**click_request(clip, 2), "params": {"context": None}}
    started = time.monotonic()
    answer = requests.post(f"{backend.url}/predict", json=request, auth=AUTH, timeout=5)
    assert time.monotonic() - started < INSTANT_S
    assert answer.json()["results"][0]["result"] == []
    assert requests.post(f"{backend.url}/predict", json=request, timeout=5).status_code == 401
