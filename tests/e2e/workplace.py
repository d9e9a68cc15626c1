"""A project in a real Label Studio with a real backend behind it, and one browser that is logged in."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image

from ls_backend.demo.servers import BackendServer, LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI
from ls_backend.protocol.label_config import recommended_label_config
from ls_backend.protocol.regions import brush_rle_to_mask
from pipeline.video.sample_clip import render_sample_clip
from tests.clips import Clip
from tests.e2e.browser import open_page
from tests.e2e.editor import Editor
from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
SCREENSHOTS = REPOSITORY / "build" / "e2e"
LABELS = ("obj1", "obj2")

SMALL_SIZE_HW_PX = (240, 428)
BACKGROUND = (0.06, 0.9)
"""A place in the small clip where no object ever is."""

Masks = dict[int, NDArray[np.bool_]]
"""One object's masks by frame, (H, W) bool."""


@dataclass(frozen=True)
class Workplace:
    """What a test drives and what it reads back from."""

    api: LabelStudioAPI
    backend: BackendServer
    editor: Editor
    media_root: Path
    project_id: int

    def import_clip(self, name: str, image_paths: Sequence[Path]) -> int:
        """Copy a clip below Label Studio's document root and import it; returns the task's id."""
        folder = self.media_root / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in image_paths:
            shutil.copyfile(path, folder / path.name)
        self.api.add_local_storage(self.project_id, folder)
        frames = [f"/data/local-files/?d={name}/{path.name}" for path in image_paths]
        return self.api.import_tasks(self.project_id, [{"data": {"frames": frames}}])[0]

    def open_task(self, task_id: int) -> Editor:
        """The editor with a task in it."""
        self.editor.open_task(self.project_id, task_id)
        return self.editor

    def wait_for_draft(
        self, task_id: int, is_there: Callable[[list[dict[str, Any]]], bool], timeout_s: float = 20.0
    ) -> list[dict[str, Any]]:
        """Wait until the editor has saved a draft with something in it; returns the draft's regions.

        The editor would wait up to 5 s for further changes before it saves; here it is told not to.

        Raises:
            TimeoutError: it is not there in time.
        """
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            self.editor.save_draft()
            for draft in self.api.task(task_id)["drafts"]:
                if is_there(draft["result"]):
                    return list(draft["result"])
            time.sleep(0.2)
        raise TimeoutError(f"no such draft of task {task_id} after {timeout_s:.0f} s")

    def known_to_backend(self, task_id: int) -> list[dict[str, Any]]:
        """The regions the backend itself would show for a task: what it answers to a request without a prompt."""
        task = self.api.task(task_id)
        body = {
            "tasks": [{"id": task_id, "data": task["data"]}],
            "project": str(self.project_id),
            "label_config": recommended_label_config(list(LABELS)),
            "params": {"context": None},
        }
        login = self.backend.user, self.backend.password
        answer = requests.post(f"{self.backend.url}/predict", json=body, auth=login, timeout=30)
        answer.raise_for_status()
        return list(answer.json()["results"][0]["result"])

    def suggestions(self, task_id: int, count: int = 3) -> list[dict[str, Any]]:
        """Where the backend says to look next, in the only annotation of a task that is being made."""
        login = self.backend.user, self.backend.password
        query: dict[str, int] = {"project": self.project_id, "task": task_id, "count": count}
        answer = requests.get(f"{self.backend.url}/suggestions", params=query, auth=login, timeout=30)
        answer.raise_for_status()
        (session,) = answer.json()["sessions"]
        return list(session["suggestions"])

    def submitted(self, task_id: int) -> list[dict[str, Any]]:
        """The regions of the task's only annotation, through the API."""
        (annotation,) = self.api.annotations(task_id)
        return list(annotation["result"])


@contextmanager
def workplace(label_studio: LabelStudioServer, api: LabelStudioAPI, folder: Path) -> Iterator[Workplace]:
    """Start a backend, make a project for it and log in; everything but Label Studio's data is gone afterwards."""
    password = secrets.token_urlsafe(16)
    backend = BackendServer(
        folder / "backend",
        free_port(),
        user="label-studio",
        password=password,
        label_studio_url=label_studio.url,
        label_studio_token=label_studio.token,
    )
    with backend, open_page() as page:
        project_id = api.create_project(folder.name, recommended_label_config(list(LABELS)))
        api.connect_backend(project_id, backend.url, backend.user, password)
        editor = Editor(page, label_studio.url)
        editor.login(label_studio.email, label_studio.password)
        yield Workplace(api, backend, editor, label_studio.media_root, project_id)


def small_clip(folder: Path, n_frames: int) -> Clip:
    """A few small frames with two objects, so that a round takes a second."""
    sample = render_sample_clip(n_frames, SMALL_SIZE_HW_PX)
    paths = tuple(folder / f"{frame_index:05d}.png" for frame_index in range(n_frames))
    for path, frame in zip(paths, sample.frames, strict=True):
        Image.fromarray(frame).save(path)
    return Clip("small", paths, sample.labels)


def masks_of(regions: Sequence[dict[str, Any]], label: str) -> Masks:
    """The masks of a label by frame.

    Raises:
        AssertionError: a frame has two masks of the label.
    """
    found: Masks = {}
    for region in regions:
        if region["type"] != "brushlabels" or region["value"]["brushlabels"] != [label]:
            continue
        frame_index = int(region["item_index"])
        assert frame_index not in found, f"two masks of {label} on frame {frame_index}"
        size_hw_px = region["original_height"], region["original_width"]
        found[frame_index] = brush_rle_to_mask(region["value"]["rle"], *size_hw_px)
    return found


def prompt_ids(regions: Sequence[dict[str, Any]]) -> list[str]:
    """Ids of the clicks and boxes among regions."""
    return [region["id"] for region in regions if region["type"] in ("keypointlabels", "rectanglelabels")]
