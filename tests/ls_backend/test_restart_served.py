"""The backend as it is really served, killed by force: after a round, and in the middle of one."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from ls_backend.demo.servers import BackendServer
from ls_backend.store.database import FILE_NAME
from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer, media_server
from tests.ls_backend.protocol.test_prompts import box
from tests.ls_backend.test_gunicorn import AUTH, CONFIG
from tests.ports import free_port

N_FRAMES = 15
STORED_WITHIN_S = 1.5
"""What a round made longer ago survives."""


@pytest.fixture(scope="module")
def clip() -> SampleClip:
    return render_sample_clip(n_frames=40, size_hw_px=(240, 320))


@pytest.fixture(scope="module")
def media(clip: SampleClip) -> Iterator[MediaServer]:
    with media_server() as server:
        for index, frame in enumerate(clip.frames):
            server.put(f"{index}", frame)
        yield server


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def backend(media: MediaServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackendServer]:
    monkeypatch.setenv("IVOS_SEGMENTER", "classical")
    access = {"label_studio_url": media.url, "label_studio_token": LEGACY_TOKEN}
    with BackendServer(data_dir, free_port(), user=AUTH[0], password=AUTH[1], **access) as server:
        yield server


class Annotator:
    """One annotator with one label: keeps what the answers bring, and sends all boxes of the label."""

    def __init__(self, backend: BackendServer, clip: SampleClip, n_frames: int) -> None:
        self.backend, self.clip, self.n_frames = backend, clip, n_frames
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

    def ask(self) -> set[int]:
        """Send the boxes, take the answer; returns the frames whose masks it brought."""
        boxes = [region for region in self.regions.values() if region["type"] == "rectanglelabels"]
        frames = [f"/data/local-files/?d={index}" for index in range(self.n_frames)]
        body = {
            "tasks": [{"id": 1, "data": {"frames": frames}}],
            "project": "5.1",
            "label_config": CONFIG,
            "params": {"context": {"result": boxes}},
        }
        answer = requests.post(f"{self.backend.url}/predict", json=body, auth=AUTH, timeout=120).json()
        result = answer["results"][0]["result"]
        self.regions.update((region["id"], region) for region in result)
        return {region["item_index"] for region in result if region["type"] == "brushlabels"}

    def masks(self) -> dict[int, list[int]]:
        """The masks in the editor, as they came."""
        brushes = [region for region in self.regions.values() if region["type"] == "brushlabels"]
        return {region["item_index"]: region["value"]["rle"] for region in brushes}


def kill(backend: BackendServer) -> None:
    """As the out-of-memory killer would, the server and its worker at once."""
    assert backend.pid is not None
    os.killpg(backend.pid, signal.SIGKILL)
    backend.stop()


def n_segmented(data_dir: Path) -> list[int]:
    """The masks that each finished round made, from the log."""
    return [int(n) for n in re.findall(r"round \d+: (\d+) masks", (data_dir / "backend.log").read_text())]


def n_stored(data_dir: Path) -> int:
    """Masks in the store."""
    file = data_dir / "cache" / FILE_NAME
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM ivos_masks").fetchone()[0])


def test_the_click_after_a_kill_segments_only_what_it_changes(
    backend: BackendServer, clip: SampleClip, data_dir: Path
) -> None:
    annotator = Annotator(backend, clip, N_FRAMES)
    annotator.draw(0, 7, 14)
    assert annotator.ask() == set(range(N_FRAMES))
    before = annotator.masks()
    time.sleep(STORED_WITHIN_S)
    kill(backend)
    backend.start()
    annotator.draw(10)
    # Between the boxes on its left and right: the others' masks follow from other boxes.
    assert annotator.ask() <= set(range(8, 14))
    assert n_segmented(data_dir) == [N_FRAMES, 6]
    after = annotator.masks()
    assert all(after[index] == before[index] for index in (*range(8), 14))
    assert sorted(after) == list(range(N_FRAMES))


def test_a_round_that_was_killed_is_finished(backend: BackendServer, clip: SampleClip, data_dir: Path) -> None:
    n_frames = len(clip.frames)
    annotator = Annotator(backend, clip, n_frames)
    annotator.draw(0)

    def ask_in_vain() -> None:
        with pytest.raises(requests.RequestException):
            annotator.ask()

    asking = threading.Thread(target=ask_in_vain)
    asking.start()
    deadline_s = time.monotonic() + 60
    while not (data_dir / "cache" / FILE_NAME).exists() or n_stored(data_dir) < 5:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    kill(backend)
    asking.join(30)
    n_kept = n_stored(data_dir)
    assert 5 <= n_kept < n_frames, "the round was under way"
    backend.start()
    assert annotator.ask() == set(range(n_frames)), "the editor had no mask yet"
    assert n_segmented(data_dir) == [n_frames - n_kept]
    assert f"goes on after round 1 with {n_kept} masks" in (data_dir / "backend.log").read_text()


def test_a_server_told_to_stop_stores_what_is_done(backend: BackendServer, clip: SampleClip, data_dir: Path) -> None:
    annotator = Annotator(backend, clip, N_FRAMES)
    annotator.draw(0)
    annotator.ask()
    backend.stop()
    backend.start()
    assert annotator.ask() == set()
    assert n_segmented(data_dir) == [N_FRAMES, 0]
