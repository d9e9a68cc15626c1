"""Record what Label Studio really sends into ``payloads/``: a real server, a real browser, a stand-in backend.

To record again, after a new Label Studio release or a change of the labelling config, run from the repository root::

    .venv/bin/python -m tests.contract.record

It takes about a minute, rewrites every file in ``payloads/`` and needs Chromium. Then run ``pytest tests/contract`` and
read the differences: they are what the release changed. Tokens, e-mail addresses, hosts and dates become placeholders.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from ls_backend.demo.environment import label_studio_python
from ls_backend.demo.servers import LabelStudioServer
from ls_backend.label_studio.api import LabelStudioAPI
from ls_backend.protocol.label_config import recommended_label_config
from tests.contract.clip import TASK_FOLDERS, frame_urls, write_media
from tests.contract.recording_backend import Recorded, RecordingBackend
from tests.e2e.browser import open_page
from tests.e2e.editor import Editor

PAYLOADS = Path(__file__).with_name("payloads")
LABEL_STUDIO_PORT, BACKEND_PORT = 8290, 9290
BACKEND_TITLE = "recording"
"""Also the only value a project accepts as its ``model_version`` while no prediction is stored."""
EMAIL, PASSWORD, TOKEN = "recorder@example.org", "recorded-payloads-1", "5ca1ab1e" * 5
DRAFT_SAVED_S = 7.0
"""The editor saves a draft up to 5 s after a change."""

HOST_PLACEHOLDER = "http://label-studio.invalid"
TOKEN_PLACEHOLDER = "0" * 40


@dataclass(frozen=True)
class Stage:
    """Everything a scene needs."""

    backend: RecordingBackend
    editor: Editor
    api: LabelStudioAPI
    host_url: str
    project_id: int
    task_ids: tuple[int, ...]

    def keep(self, name: str, what: str, recorded: Recorded | None = None) -> None:
        """Write one request under a name; without one, the newest /predict."""
        recorded = recorded or self.backend.last("/predict")
        content = {
            "what": what,
            "path": recorded.path,
            "has_basic_auth": recorded.has_basic_auth,
            "body": recorded.body,
        }
        text = scrub(json.dumps(content, indent=1, sort_keys=True), self.host_url)
        (PAYLOADS / f"{name}.json").write_text(text + "\n")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """A call that only the recorder needs."""
        headers = {"Authorization": f"Token {TOKEN}"}
        requests.request(method, self.host_url + path, json=body, headers=headers, timeout=30).raise_for_status()

    def keep_webhook(self, action: str) -> None:
        """Wait for a webhook of one kind and write it."""
        found = wait_for(lambda: self.backend.last_webhook(action), f"the webhook {action}")
        self.keep(f"webhook_{action.lower()}", f"webhook {action}", found)


def scrub(text: str, host_url: str) -> str:
    """Replace what differs from machine to machine, and lists of numbers by one line each."""
    text = text.replace(host_url, HOST_PLACEHOLDER).replace(TOKEN, TOKEN_PLACEHOLDER)
    text = text.replace(EMAIL, "annotator@example.org").replace(f"http://127.0.0.1:{BACKEND_PORT}", "http://backend")
    text = re.sub(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:[^"]*"', '"2026-01-01T00:00:00Z"', text)
    return re.sub(r"\[[\d\s,]+\]", lambda match: re.sub(r"\s+", "", match.group()), text)


def wait_for(probe: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Ask until there is an answer.

    Raises:
        TimeoutError: there was none in time.
    """
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if found := probe():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what} did not come within {timeout_s:.0f} s")


def create_project(api: LabelStudioAPI, media_root: Path, backend: RecordingBackend) -> int:
    """A project connected to the stand-in backend, with storages for the media folders and no task yet."""
    project_id = api.create_project("recorded", recommended_label_config(["obj1", "obj2"]))
    for folder in TASK_FOLDERS:
        api.add_local_storage(project_id, media_root / folder)
    api.connect_backend(project_id, backend.url, "label-studio", "recorded", title=BACKEND_TITLE)
    return project_id


def record_rounds(stage: Stage) -> None:
    """Prompts of the first task, in the order an annotator might make them."""
    editor = stage.editor
    editor.open_task(stage.project_id, stage.task_ids[0])
    stage.keep("setup", "a project page was opened", stage.backend.last("/setup"))
    editor.draw_box("obj1", 0.28, 0.40, 0.50, 0.74)
    stage.keep("first_box", "the first smart box, on frame 0")
    editor.click("obj1", 0.37, 0.56, through=True)
    stage.keep("first_click", "the first smart click, on frame 0")
    editor.click("obj1", 0.60, 0.90, negative=True)
    stage.keep("negative_alt", "Alt+click; the first click is echoed")
    editor.go_to_frame(3)
    editor.click("obj1", 0.05, 0.10, control="neg")
    stage.keep("negative_control", "a click with the control `neg`, on frame 3")
    editor.page.wait_for_timeout(DRAFT_SAVED_S * 1000)
    kept = editor.click("obj1", 0.55, 0.62, through=True)
    stage.keep("with_drafts", "a click after the draft was saved: prompts and masks of all rounds are in it")
    editor.go_to_frame(5)
    editor.click("obj2", 0.37, 0.44, through=True)
    stage.keep("second_label", "the first click with another label, on frame 5; other prompts stay away")
    editor.undo()
    editor.go_to_frame(3)
    editor.delete_region(kept.request["context"]["result"][-1]["id"])
    editor.click("obj1", 0.50, 0.62, through=True)
    stage.keep("after_delete", "a click after Undo of the last round and after the last point of obj1 was deleted")


def record_failure(stage: Stage) -> None:
    """A click the backend could not answer stays in the editor and comes again with the next one."""
    stage.backend.fail_next = True
    stage.editor.click("obj1", 0.56, 0.55, through=True)
    stage.editor.click("obj1", 0.54, 0.70, through=True)
    stage.keep("after_error", "the click after one that the backend answered with an error: both are fresh")


def record_submission(stage: Stage) -> None:
    """Submit, reopen, update, with the webhooks they raise."""
    stage.editor.submit()
    stage.keep_webhook("ANNOTATION_CREATED")
    stage.editor.open_task(stage.project_id, stage.task_ids[0])
    stage.editor.go_to_frame(3)
    stage.editor.click("obj1", 0.58, 0.64, through=True)
    stage.keep("reopened", "a click in a reopened, submitted annotation")
    stage.editor.submit()
    stage.keep_webhook("ANNOTATION_UPDATED")


def record_batches(stage: Stage) -> None:
    """Requests without a context: a task opened without predictions, and all tasks at once."""
    # The page of the first task would ask for predictions too, sooner or later.
    stage.editor.page.goto("about:blank")
    stage.api.update_project(stage.project_id, {"show_collab_predictions": True, "model_version": BACKEND_TITLE})
    stage.keep_webhook("PROJECT_UPDATED")
    stage.backend.requests.clear()
    stage.editor.open_task(stage.project_id, stage.task_ids[-1])
    wait_for(lambda: [r for r in stage.backend.requests if r.path == "/predict"], "the /predict of an opened task")
    stage.keep("opened_task", "a task was opened while predictions are shown: no context")
    chosen = {"selectedItems": {"all": True, "excluded": []}}
    action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={stage.project_id}"
    stage.call("POST", action, chosen)
    stage.keep(
        "retrieve_predictions", "Retrieve predictions for all tasks: no context, no drafts; one task has some already"
    )


def record_ends(stage: Stage) -> None:
    """What the backend is told when things are deleted, and when a person presses Start Training."""
    backend_id = stage.api.backends(stage.project_id)[0]["id"]
    stage.call("POST", f"/api/ml/{backend_id}/train", {})
    stage.keep_webhook("START_TRAINING")
    annotation_id = stage.api.annotations(stage.task_ids[0])[0]["id"]
    stage.call("DELETE", f"/api/annotations/{annotation_id}")
    stage.keep_webhook("ANNOTATIONS_DELETED")
    stage.call("DELETE", f"/api/tasks/{stage.task_ids[-1]}")
    stage.keep_webhook("TASKS_DELETED")


def record_strokes(stage: Stage) -> None:
    """Brush and eraser, in a region of one's own and on masks of the backend: in a draft, then in an annotation."""
    editor, task_id = stage.editor, stage.task_ids[1]
    editor.open_task(stage.project_id, task_id)
    editor.draw_box("obj1", 0.28, 0.40, 0.50, 0.74)
    editor.start_painting("obj2")
    editor.stroke((0.60, 0.60), (0.90, 0.60))
    editor.stroke((0.60, 0.80), (0.90, 0.80))
    editor.take_eraser()
    editor.stroke((0.75, 0.70), (0.75, 0.90))
    editor.let_go()
    erase_in_mask(editor, 0.38)
    editor.go_to_frame(2)
    erase_in_mask(editor, 0.46)
    editor.page.wait_for_timeout(DRAFT_SAVED_S * 1000)
    # The page is loaded anew, so that one of the changed frames is not shown when it is submitted.
    editor.open_task(stage.project_id, task_id)
    stage.backend.silent = True
    editor.click("obj1", 0.60, 0.90, negative=True)
    stage.keep("strokes_in_draft", "a click after strokes were saved in a draft: own region, and masks of two frames")
    editor.submit()
    editor.open_task(stage.project_id, task_id)
    editor.click("obj1", 0.05, 0.10, negative=True)
    stage.keep("strokes_submitted", "a click in the annotation that was made of it; frame 2 was not shown")
    stage.backend.silent = False


def erase_in_mask(editor: Editor, x: float) -> None:
    """Select the mask that the stand-in backend made on this frame, and draw the eraser through it."""
    editor.select_mask("obj1", x, 0.15)
    editor.take_eraser()
    editor.stroke((x - 0.1, 0.15), (x + 0.1, 0.15))
    editor.let_go()


def main() -> None:
    """Record everything."""
    PAYLOADS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ivos-record-") as folder:
        data_dir, media_root = Path(folder, "label-studio"), Path(folder, "media")
        write_media(media_root)
        account = {"email": EMAIL, "password": PASSWORD, "token": TOKEN}
        python = label_studio_python(on_progress=print)
        server = LabelStudioServer(data_dir, LABEL_STUDIO_PORT, python=python, media_root=media_root, **account)
        with RecordingBackend(BACKEND_PORT) as backend, server, open_page() as page:
            api = LabelStudioAPI(server.url, TOKEN)
            project_id = create_project(api, media_root, backend)
            task_ids = tuple(api.import_tasks(project_id, [{"data": {"frames": frame_urls(f)}} for f in TASK_FOLDERS]))
            editor = Editor(page, server.url)
            stage = Stage(backend, editor, api, server.url, project_id, task_ids)
            stage.keep_webhook("TASKS_CREATED")
            editor.login(EMAIL, PASSWORD)
            for scene in (
                record_rounds,
                record_failure,
                record_submission,
                record_batches,
                record_ends,
                record_strokes,
            ):
                scene(stage)
    for path in sorted(PAYLOADS.glob("*.json")):
        print(f"{path.stat().st_size / 1000:7.1f} kB  {path.name}")


if __name__ == "__main__":
    main()
