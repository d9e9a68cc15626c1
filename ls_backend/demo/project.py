"""The demo's project in Label Studio. Every step reuses what an earlier start created, so all may be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ls_backend.demo.clips import CLIPS_FOLDER, DemoClip
from ls_backend.demo.local_server import DemoError, Progress, silent
from ls_backend.demo.servers import BackendServer
from ls_backend.label_studio.api import LabelStudioAPI, LabelStudioError
from ls_backend.protocol.label_config import recommended_label_config

TITLE = "Objects in video (demo)"
BACKEND_TITLE = "Interactive video segmentation"
DEFAULT_LABELS = ("obj1", "obj2")


@dataclass(frozen=True)
class DemoProject:
    """The ids of the project, its task and its backend connection."""

    project_id: int
    task_id: int
    backend_id: int

    def address(self, label_studio_url: str) -> str:
        """The page that opens the task for labelling."""
        return f"{label_studio_url}/projects/{self.project_id}/data?task={self.task_id}"


def prepare_project(
    api: LabelStudioAPI,
    backend: BackendServer,
    clip: DemoClip,
    media_root: Path,
    labels: Sequence[str],
    on_progress: Progress = silent,
) -> DemoProject:
    """Find or create the project, its storage, the clip's task and the connection to the backend.

    Args:
        api: with the administrator's token.
        backend: running; Label Studio calls it before it connects.
        clip: below ``media_root``.
        media_root: Label Studio's document root for local files.
        labels: one per object; empty: the project's own, or `DEFAULT_LABELS` for a new one.
        on_progress: called with what is being done.

    Raises:
        DemoError: Label Studio refused a step; the message quotes its answer.
    """
    try:
        on_progress("looking for the project")
        project_id = _project(api, labels)
        on_progress("allowing the clip's folder")
        _storage(api, project_id, media_root / CLIPS_FOLDER)
        on_progress("importing the task")
        task_id = _task(api, project_id, clip)
        on_progress("connecting the backend")
        backend_id = _backend(api, project_id, backend)
    except LabelStudioError as error:
        if error.status == 401:
            what = "Label Studio does not know the demo's token: its database is older than the demo's secrets"
            raise DemoError(f"{what}. Restore secrets.json, or choose another --data-dir") from error
        raise DemoError(str(error)) from error
    return DemoProject(project_id, task_id, backend_id)


def demo_label_config(labels: Sequence[str]) -> str:
    """The labelling config for these labels, or for `DEFAULT_LABELS` where there are none.

    Raises:
        DemoError: a label is given twice.
    """
    try:
        return recommended_label_config(list(labels) or DEFAULT_LABELS)
    except ValueError as error:
        raise DemoError(f"--label: {error}") from error


def _project(api: LabelStudioAPI, labels: Sequence[str]) -> int:
    wanted = demo_label_config(labels)
    for project in api.projects():
        if project["title"] == TITLE:
            if labels and project["label_config"] != wanted:
                api.update_project(int(project["id"]), {"label_config": wanted})
            return int(project["id"])
    return api.create_project(TITLE, wanted)


def _storage(api: LabelStudioAPI, project_id: int, folder: Path) -> None:
    paths = {str(storage["path"]) for storage in api.local_storages(project_id)}
    if str(folder.resolve()) not in paths:
        api.add_local_storage(project_id, folder.resolve(), title="Clips")


def _task(api: LabelStudioAPI, project_id: int, clip: DemoClip) -> int:
    frames = clip.frame_addresses
    for task in api.tasks(project_id):
        if task["data"].get("frames") == frames:
            return int(task["id"])
    return api.import_tasks(project_id, [{"data": {"frames": frames}}])[0]


def _backend(api: LabelStudioAPI, project_id: int, backend: BackendServer) -> int:
    for connected in api.backends(project_id):
        # From an earlier start with another --backend-port.
        if connected["title"] == BACKEND_TITLE and connected["url"] != backend.url:
            api.disconnect_backend(project_id, int(connected["id"]))
    return api.connect_backend(project_id, backend.url, backend.user, backend.password, title=BACKEND_TITLE)
