"""The demo itself, as a user runs it: start, click once, stop, start again, and never a process left over."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import requests
from label_studio_sdk.converter.brush import decode_rle

from ls_backend.demo.local_server import require_free_port
from ls_backend.demo.project import BACKEND_TITLE
from ls_backend.demo.run import SECRETS_NAME
from ls_backend.label_studio.api import LabelStudioAPI
from ls_backend.protocol.label_config import recommended_label_config
from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests.ports import free_port

N_FRAMES = 12
SIZE_HW_PX = (240, 426)
START_LIMIT_S = 240
STOP_LIMIT_S = 30


@dataclass(frozen=True)
class Home:
    """A demo's data folder and clip, which outlive its runs."""

    data_dir: Path
    frames: Path
    clip: SampleClip

    @property
    def secrets(self) -> dict[str, str]:
        """What the demo wrote for itself."""
        return dict(json.loads((self.data_dir / SECRETS_NAME).read_text()))


@dataclass
class Demo:
    """A running demo."""

    process: subprocess.Popen[bytes]
    screen_path: Path
    home: Home
    port: int
    backend_port: int

    @property
    def screen(self) -> str:
        """Everything printed so far."""
        return self.screen_path.read_text()

    @property
    def backend_url(self) -> str:
        """The backend's address."""
        return f"http://127.0.0.1:{self.backend_port}"

    @property
    def api(self) -> LabelStudioAPI:
        """A client with the demo's token."""
        return LabelStudioAPI(f"http://127.0.0.1:{self.port}", self.home.secrets["token"])

    @property
    def ids(self) -> tuple[int, int]:
        """Project and task of the printed address."""
        found = re.search(
            r"^Open +http://127\.0\.0\.1:(\d+)/projects/(\d+)/data\?task=(\d+)$", self.screen, re.MULTILINE
        )
        assert found, self.screen
        assert int(found[1]) == self.port
        return int(found[2]), int(found[3])

    def family(self) -> list[psutil.Process]:
        """The demo and everything it started."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def wait_for(self, words: str) -> None:
        """Wait until the words are on the screen."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while words not in self.screen:
            assert self.process.poll() is None, self.screen
            assert time.monotonic() < deadline_s, self.screen
            time.sleep(0.1)

    def require_gone(self, family: list[psutil.Process]) -> None:
        """Check that no process is left and both ports are free."""
        _, alive = psutil.wait_procs(family, timeout=STOP_LIMIT_S)
        assert alive == []
        require_free_port(self.port, "--port")
        require_free_port(self.backend_port, "--backend-port")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("demo")
    frames = folder / "my frames"
    frames.mkdir()
    clip = render_sample_clip(N_FRAMES, SIZE_HW_PX)
    for frame_index, frame in enumerate(clip.frames):
        cv2.imwrite(str(frames / f"{frame_index}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return Home(folder / "data", frames, clip)


@contextmanager
def running(home: Home, *arguments: str) -> Iterator[Demo]:
    """A demo that is ended by force if the test did not end it."""
    port, backend_port = free_port(), free_port()
    own = ["--data-dir", str(home.data_dir), "--port", str(port), "--backend-port", str(backend_port)]
    command = [str(Path(sys.executable).with_name("ivos")), "demo", *own, *arguments]
    screen_path = home.data_dir.with_name(f"screen-{port}.txt")
    with screen_path.open("wb") as screen:
        process = subprocess.Popen(command, stdout=screen, stderr=subprocess.STDOUT)
    demo = Demo(process, screen_path, home, port, backend_port)
    try:
        yield demo
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=STOP_LIMIT_S)


def click(demo: Demo, label: str, object_id: int) -> dict[str, Any]:
    """One positive click in the middle of the object on frame 0, as the editor sends it through Label Studio."""
    project_id, task_id = demo.ids
    (backend,) = demo.api.backends(project_id)
    ys, xs = np.nonzero(demo.home.clip.labels[0] == object_id)
    height_px, width_px = SIZE_HW_PX
    region = {
        "id": "click0001",
        "from_name": "pos",
        "to_name": "video",
        "type": "keypointlabels",
        "origin": "manual",
        "item_index": 0,
        "original_width": width_px,
        "original_height": height_px,
        "image_rotation": 0,
        "is_positive": True,
        "value": {
            "x": 100 * float(xs.mean()) / width_px,
            "y": 100 * float(ys.mean()) / height_px,
            "width": 0.3,
            "labels": [label],
            "keypointlabels": [label],
        },
    }
    return demo.api.interactive_annotating(int(backend["id"]), task_id, {"result": [region]})


def masks(result: list[dict[str, Any]]) -> dict[int, np.ndarray]:
    """Frame index to (H, W) bool."""
    found = {}
    for region in result:
        if region["type"] == "brushlabels":
            rgba = decode_rle(region["value"]["rle"])
            shape = (region["original_height"], region["original_width"], 4)
            found[int(region["item_index"])] = np.asarray(rgba).reshape(shape)[..., 3] > 0
    return found


def test_start_click_stop_and_start_again_with_the_same_data(home: Home) -> None:
    with running(home, "--frames", str(home.frames)) as demo:
        demo.wait_for("Ctrl-C stops both servers")
        _require_both_healthy_and_private(demo)
        first_ids = demo.ids
        answer = click(demo, "obj1", 1)
        assert "errors" not in answer, answer
        result = answer["data"]["result"]
        _require_masks_on_all_frames(result, home.clip)
        annotation_id = demo.api.create_annotation(first_ids[1], result)
        family = demo.family()
        assert len(family) >= 4
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(timeout=STOP_LIMIT_S) == 0
        assert "Traceback" not in demo.screen
        demo.require_gone(family)

    with running(home, "--frames", str(home.frames)) as demo:
        demo.wait_for("Ctrl-C stops both servers")
        assert demo.ids == first_ids
        _require_nothing_doubled(demo)
        (annotation,) = demo.api.annotations(first_ids[1])
        assert annotation["id"] == annotation_id
        again = masks(annotation["result"])
        assert set(again) == set(range(N_FRAMES))
        answer = click(demo, "obj2", 2)
        assert set(masks(answer["data"]["result"])) == set(range(N_FRAMES))
        family = demo.family()
        demo.process.send_signal(signal.SIGTERM)
        assert demo.process.wait(timeout=STOP_LIMIT_S) == 0
        demo.require_gone(family)


def test_a_server_that_dies_is_reported_and_takes_the_other_along(home: Home) -> None:
    with running(home, "--frames", str(home.frames)) as demo:
        demo.wait_for("Ctrl-C stops both servers")
        family = demo.family()
        master = next(p for p in family if "gunicorn" in " ".join(p.cmdline()))
        master.kill()
        assert demo.process.wait(timeout=STOP_LIMIT_S) == 1
        assert "ivos demo: the backend ended by itself" in demo.screen
        assert "Traceback" not in demo.screen
        demo.require_gone(family)


def test_stopping_in_the_middle_of_the_start_leaves_nothing(home: Home) -> None:
    with running(home, "--frames", str(home.frames)) as demo:
        demo.wait_for("starting Label Studio and the backend")
        deadline_s = time.monotonic() + START_LIMIT_S
        while len(demo.family()) < 3 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        family = demo.family()
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(timeout=STOP_LIMIT_S) == 0
        assert "Stopped" in demo.screen
        assert "Traceback" not in demo.screen
        demo.require_gone(family)


def _require_both_healthy_and_private(demo: Demo) -> None:
    home = demo.home
    assert requests.get(f"http://127.0.0.1:{demo.port}/health", timeout=10).status_code == 200
    assert requests.get(f"{demo.backend_url}/health", timeout=10).status_code == 200
    login = (home.secrets["backend_user"], home.secrets["backend_password"])
    body = {"tasks": [], "project": "1.1", "label_config": recommended_label_config(["obj1"])}
    for auth, status in ((None, 401), ((login[0], "wrong"), 401), (login, 200)):
        predicted = requests.post(f"{demo.backend_url}/predict", json=body, auth=auth, timeout=10)
        assert predicted.status_code == status, predicted.text
    assert home.data_dir.stat().st_mode & 0o777 == 0o700
    assert (home.data_dir / SECRETS_NAME).stat().st_mode & 0o777 == 0o600
    assert f"Password  {home.secrets['password']}" in demo.screen
    for secret in ("token", "backend_password"):
        assert home.secrets[secret] not in demo.screen
        for process in demo.family():
            assert not any(home.secrets[secret] in word for word in process.cmdline())


def _require_masks_on_all_frames(result: list[dict[str, Any]], clip: SampleClip) -> None:
    found = masks(result)
    assert set(found) == set(range(N_FRAMES))
    truth = clip.labels[0] == 1
    overlap = (found[0] & truth).sum() / (found[0] | truth).sum()
    assert overlap > 0.5
    assert all(mask.any() for mask in found.values())
    assert [region["id"] for region in result if region["type"] == "keypointlabels"] == ["click0001"]


def _require_nothing_doubled(demo: Demo) -> None:
    """One of everything, and the backend at the new start's address."""
    project_id, task_id = demo.ids
    assert [project["id"] for project in demo.api.projects()] == [project_id]
    assert [task["id"] for task in demo.api.tasks(project_id)] == [task_id]
    assert len(demo.api.local_storages(project_id)) == 1
    (backend,) = demo.api.backends(project_id)
    assert backend["url"] == demo.backend_url
    assert backend["title"] == BACKEND_TITLE
    assert backend["is_interactive"] is True
    webhooks = demo.api.webhooks(project_id)
    assert [webhook["url"] for webhook in webhooks] == [f"{demo.backend_url}/webhook"]
