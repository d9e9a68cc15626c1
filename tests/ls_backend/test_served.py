"""The backend as it is really served, by gunicorn: it answers while it computes, and survives being killed.

One server runs all tests of this file. Each test has tasks of its own.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from ls_backend.demo.servers import BackendServer
from ls_backend.protocol.label_config import recommended_label_config
from ls_backend.store.database import FILE_NAME
from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer, media_server
from tests.ls_backend.protocol.test_prompts import box
from tests.ports import free_port

CONFIG = recommended_label_config(["obj1"])
AUTH = ("ivos", "correct horse")
N_FRAMES_SHORT, N_FRAMES_LONG = 15, 40
INSTANT_S = 0.2
STORED_WITHIN_S = 1.5
"""Masks older than this survive a kill."""


@pytest.fixture(scope="module")
def clip() -> SampleClip:
    return render_sample_clip(n_frames=N_FRAMES_LONG, size_hw_px=(240, 320))


@pytest.fixture(scope="module")
def media(clip: SampleClip) -> Iterator[MediaServer]:
    with media_server() as server:
        for index, frame in enumerate(clip.frames):
            server.put(f"{index}", frame)
        yield server


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backend")


@pytest.fixture(scope="module")
def backend(media: MediaServer, data_dir: Path) -> Iterator[BackendServer]:
    access = {"label_studio_url": media.url, "label_studio_token": LEGACY_TOKEN}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVOS_SEGMENTER", "lite")
        server = BackendServer(data_dir, free_port(), user=AUTH[0], password=AUTH[1], **access)
    with server:
        yield server


class Annotator:
    """One annotator with one label: keeps the regions of the answers, and sends all boxes of the label."""

    def __init__(self, backend: BackendServer, clip: SampleClip, task_id: int, n_frames: int) -> None:
        self.backend, self.clip, self.task_id, self.n_frames = backend, clip, task_id, n_frames
        self.regions: dict[str, dict[str, Any]] = {}

    def draw(self, *frame_indices: int) -> None:
        """Draw boxes around the object on these frames."""
        height_px, width_px = self.clip.labels.shape[1:]
        for frame_index in frame_indices:
            ys, xs = np.nonzero(self.clip.labels[frame_index] == 1)
            region = box(
                x=xs.min() / width_px * 100, y=ys.min() / height_px * 100,
                width=np.ptp(xs) / width_px * 100, height=np.ptp(ys) / height_px * 100,
            )  # fmt: skip
            self.regions[f"b{frame_index}"] = {**region, "id": f"b{frame_index}", "item_index": frame_index}

    def request(self, context: dict[str, Any] | None) -> dict[str, Any]:
        """The body of a request to `/predict`."""
        frames = [f"/data/local-files/?d={index}" for index in range(self.n_frames)]
        return {
            "tasks": [{"id": self.task_id, "data": {"frames": frames}}],
            "project": "5.1",
            "label_config": CONFIG,
            "params": {"context": context},
        }

    def ask(self) -> set[int]:
        """Send the boxes and keep the answer; returns the frames of its masks."""
        boxes = [region for region in self.regions.values() if region["type"] == "rectanglelabels"]
        body = self.request({"result": boxes})
        answer = requests.post(f"{self.backend.url}/predict", json=body, auth=AUTH, timeout=120).json()
        result = answer["results"][0]["result"]
        self.regions.update((region["id"], region) for region in result)
        return {region["item_index"] for region in result if region["type"] == "brushlabels"}

    def masks(self) -> dict[int, list[int]]:
        """The masks in the editor, as they came."""
        brushes = [region for region in self.regions.values() if region["type"] == "brushlabels"]
        return {region["item_index"]: region["value"]["rle"] for region in brushes}


class RoundsInLog:
    """How many masks each round made that finished since this was created, from the backend's log."""

    def __init__(self, backend: BackendServer) -> None:
        self._path = backend.log_path
        self._start = len(self.text)

    @property
    def text(self) -> str:
        return self._path.read_text()

    def n_masks(self) -> list[int]:
        return [int(n) for n in re.findall(r"round \d+: (\d+) masks", self.text[self._start :])]


def n_stored(data_dir: Path, task_id: int) -> int:
    """How many masks of a task are in the store."""
    query = "SELECT count(*) FROM ivos_masks JOIN ivos_sessions s ON s.id = session_id WHERE s.task = ?"
    with closing(sqlite3.connect(f"file:{data_dir / 'cache' / FILE_NAME}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query, (str(task_id),)).fetchone()[0])


def test_health_and_setup_are_instant_while_a_round_runs(
    backend: BackendServer, clip: SampleClip, media: MediaServer
) -> None:
    annotator = Annotator(backend, clip, 1, N_FRAMES_LONG)
    annotator.draw(0)
    round_thread = threading.Thread(target=annotator.ask)
    round_thread.start()
    setup = {"project": "5.1", "schema": CONFIG, "hostname": media.url, "access_token": LEGACY_TOKEN}
    taken_s: dict[str, list[float]] = {"health": [], "setup": []}
    while round_thread.is_alive():
        for name, ask in (
            ("health", lambda: requests.get(f"{backend.url}/health", timeout=5)),
            ("setup", lambda: requests.post(f"{backend.url}/setup", json=setup, auth=AUTH, timeout=5)),
        ):
            started_s = time.monotonic()
            assert ask().status_code == 200
            taken_s[name].append(time.monotonic() - started_s)
        time.sleep(0.05)
    assert sorted(annotator.masks()) == list(range(N_FRAMES_LONG))
    for name, times in taken_s.items():
        assert len(times) > 10, f"{name}: the round was too short to tell"
        # One call may fall on a moment when the machine itself stands still.
        assert sorted(times)[-2] < INSTANT_S, name


@dataclass
class Killed:
    """Two annotators of a backend that was killed and started again.

    Attributes:
        finished: the last round was answered and stored before the kill.
        masks: the masks that ``finished`` had then.
        interrupted: the first round was under way.
        n_kept: how many masks of ``interrupted`` were stored.
    """

    finished: Annotator
    masks: dict[int, list[int]]
    interrupted: Annotator
    n_kept: int


@pytest.fixture(scope="module")
def killed(backend: BackendServer, clip: SampleClip, data_dir: Path) -> Killed:
    finished = Annotator(backend, clip, 2, N_FRAMES_SHORT)
    finished.draw(0, 7, 14)
    assert finished.ask() == set(range(N_FRAMES_SHORT))
    time.sleep(STORED_WITHIN_S)
    interrupted = Annotator(backend, clip, 3, N_FRAMES_LONG)
    interrupted.draw(0)

    def ask_in_vain() -> None:
        with pytest.raises(requests.RequestException):
            interrupted.ask()

    asking = threading.Thread(target=ask_in_vain)
    asking.start()
    deadline_s = time.monotonic() + 60
    while n_stored(data_dir, interrupted.task_id) < 5:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    # As the out-of-memory killer does it: the server and its worker at once.
    assert backend.pid is not None
    os.killpg(backend.pid, signal.SIGKILL)
    backend.stop()
    asking.join(30)
    n_kept = n_stored(data_dir, interrupted.task_id)
    assert 5 <= n_kept < N_FRAMES_LONG, "the round was under way"
    backend.start()
    return Killed(finished, finished.masks(), interrupted, n_kept)


def test_the_click_after_a_kill_segments_only_what_it_changes(killed: Killed) -> None:
    annotator, rounds = killed.finished, RoundsInLog(killed.finished.backend)
    annotator.draw(10)
    # The frames between the boxes on both sides; all other masks follow from other boxes.
    assert annotator.ask() <= set(range(8, 14))
    assert rounds.n_masks() == [6]
    after = annotator.masks()
    assert all(after[index] == killed.masks[index] for index in (*range(8), 14))
    assert sorted(after) == list(range(N_FRAMES_SHORT))


def test_a_round_that_was_killed_is_finished(killed: Killed) -> None:
    rounds = RoundsInLog(killed.interrupted.backend)
    assert killed.interrupted.ask() == set(range(N_FRAMES_LONG)), "the editor had no mask yet"
    assert rounds.n_masks() == [N_FRAMES_LONG - killed.n_kept]
    assert re.search(rf"after round 1 with {killed.n_kept} masks", rounds.text)


def test_a_server_told_to_stop_stores_what_is_done_and_answers_at_once_when_it_is_back(
    backend: BackendServer, clip: SampleClip
) -> None:
    annotator, rounds = Annotator(backend, clip, 4, N_FRAMES_SHORT), RoundsInLog(backend)
    annotator.draw(0)
    annotator.ask()
    backend.stop()
    backend.start()
    unknown = Annotator(backend, clip, 5, N_FRAMES_SHORT).request(None)
    started_s = time.monotonic()
    answer = requests.post(f"{backend.url}/predict", json=unknown, auth=AUTH, timeout=5)
    assert time.monotonic() - started_s < INSTANT_S
    assert answer.json()["results"][0]["result"] == []
    assert requests.post(f"{backend.url}/predict", json=unknown, timeout=5).status_code == 401
    assert annotator.ask() == set()
    assert rounds.n_masks() == [N_FRAMES_SHORT, 0]
