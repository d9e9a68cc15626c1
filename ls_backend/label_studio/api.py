"""The few calls of Label Studio's REST interface this project needs, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ls_backend.label_studio.connections import LabelStudioAuth, retrying_session
from ls_backend.protocol.payloads import Json

PAGE_TASKS = 20
"""Tasks per page where annotations come along: masks of a long video are megabytes."""

_RETRIES = 3
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ADVICE = {
    400: "check the values named in the answer",
    401: "check the token: legacy tokens must be allowed in the organization's settings, personal ones expire",
    403: "give the token's user access to it",
    404: "check the id and the address",
    413: "send less at once, or raise the size limit of the proxy before Label Studio",
}


class LabelStudioError(Exception):
    """A call of Label Studio's REST interface failed.

    ``status`` is the HTTP status, or None where no answer came; ``address`` is what was called.
    """

    def __init__(self, status: int | None, address: str, what: str) -> None:
        super().__init__(f"{address}: {what}")
        self.status = status
        self.address = address


class LabelStudioAPI:
    """A thin client: JSON in, JSON out. Not for use by several threads at once.

    Args:
        host_url: Label Studio's address, with the path it is served under, if any.
        token: legacy token or personal access token.
        timeout_s: per request.

    Every method raises `LabelStudioError` when Label Studio cannot be reached or refuses.
    """

    def __init__(self, host_url: str, token: str, *, timeout_s: float = 30.0) -> None:
        self.host_url = host_url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = retrying_session(_RETRIES)
        self._session.auth = LabelStudioAuth(self.host_url, token, timeout_s=timeout_s)
        # A proxy cannot reach this machine's loopback.
        self._session.trust_env = urlsplit(self.host_url).hostname not in _LOOPBACK

    def whoami(self) -> Json:
        """The user the token belongs to."""
        return self._object("GET", "/api/current-user/whoami")

    def create_project(self, title: str, label_config: str) -> int:
        """Create a project; ``title`` has 3 characters or more. Returns its id."""
        body = {"title": title, "label_config": label_config, "show_collab_predictions": False}
        return int(self._object("POST", "/api/projects/", body)["id"])

    def project(self, project_id: int) -> Json:
        """One project."""
        return self._object("GET", f"/api/projects/{project_id}/")

    def projects(self) -> list[Json]:
        """All projects the token's user sees."""
        return list(self._pages("/api/projects/", {}, "results", "count", page_size=100))

    def update_project(self, project_id: int, changes: Mapping[str, Any]) -> Json:
        """Change fields of a project. Returns the project."""
        return self._object("PATCH", f"/api/projects/{project_id}/", dict(changes))

    def add_local_storage(self, project_id: int, path: Path | str, *, title: str = "") -> int:
        """Allow files below a sub-folder of Label Studio's document root in this project. Returns the storage's id."""
        body = {"project": project_id, "path": str(path), "title": title or Path(path).name, "use_blob_urls": True}
        return int(self._object("POST", "/api/storages/localfiles", body)["id"])

    def local_storages(self, project_id: int) -> list[Json]:
        """The local-files storages of a project."""
        return self._list("/api/storages/localfiles", {"project": project_id})

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import tasks, each ``{"data": {...}}``. Returns their ids in order."""
        path = f"/api/projects/{project_id}/import?return_task_ids=1"
        return [int(task_id) for task_id in self._object("POST", path, list(tasks))["task_ids"]]

    def tasks(self, project_id: int, *, with_annotations: bool = False) -> Iterator[Json]:
        """The tasks of a project, page by page; with annotations, drafts and predictions where wanted."""
        parameters: Json = {"project": project_id, **({"fields": "all"} if with_annotations else {})}
        yield from self._pages("/api/tasks", parameters, "tasks", "total", PAGE_TASKS if with_annotations else 100)

    def task(self, task_id: int) -> Json:
        """One task with its annotations, drafts and predictions."""
        return self._object("GET", f"/api/tasks/{task_id}/")

    def annotations(self, task_id: int) -> list[Json]:
        """The submitted annotations of a task."""
        return self._list(f"/api/tasks/{task_id}/annotations/", {})

    def iter_project_annotations(self, project_id: int) -> Iterator[tuple[Json, list[Json]]]:
        """Every task of a project with its submitted annotations (an empty list where there are none), page by page."""
        for task in self.tasks(project_id, with_annotations=True):
            yield task, list(task.get("annotations") or [])

    def create_annotation(self, task_id: int, result: Sequence[Mapping[str, Any]]) -> int:
        """Submit an annotation for a task. Returns its id."""
        body = {"result": list(result)}
        return int(self._object("POST", f"/api/tasks/{task_id}/annotations/", body)["id"])

    def annotation(self, annotation_id: int) -> Json:
        """One submitted annotation."""
        return self._object("GET", f"/api/annotations/{annotation_id}/")

    def update_annotation(self, annotation_id: int, result: Sequence[Mapping[str, Any]]) -> None:
        """Replace the regions of an annotation."""
        self._object("PATCH", f"/api/annotations/{annotation_id}/", {"result": list(result)})

    def predictions(self, task_id: int) -> list[Json]:
        """The predictions of a task."""
        return self._list("/api/predictions/", {"task": task_id})

    def create_prediction(
        self, task_id: int, result: Sequence[Mapping[str, Any]], *, score: float = 0.0, model_version: str = ""
    ) -> int:
        """Add a prediction to a task; an open page shows it after a reload. Returns its id."""
        body = {"task": task_id, "result": list(result), "score": score, "model_version": model_version}
        return int(self._object("POST", "/api/predictions/", body)["id"])

    def backends(self, project_id: int) -> list[Json]:
        """The model backends connected to a project."""
        return self._list("/api/ml", {"project": project_id})

    def connect_backend(
        self, project_id: int, url: str, user: str, password: str, *, title: str = "Interactive video segmentation"
    ) -> int:
        """Connect a backend as interactive, or update the one connected at this address. Returns its id.

        Label Studio calls its /health and /setup before it answers, so the backend must be running.
        """
        login = {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
        body = {"project": project_id, "url": url, "title": title, "is_interactive": True}
        body |= login if user else {"auth_method": "NONE"}
        for backend in self.backends(project_id):
            if str(backend["url"]).rstrip("/") == url.rstrip("/"):
                return int(self._object("PATCH", f"/api/ml/{backend['id']}", body)["id"])
        return int(self._object("POST", "/api/ml", body)["id"])

    def disconnect_backend(self, project_id: int, backend_id: int) -> None:
        """Disconnect a backend, and delete the webhook Label Studio made with it."""
        address = str(self._object("GET", f"/api/ml/{backend_id}")["url"]).rstrip("/")
        self._call("DELETE", f"/api/ml/{backend_id}")
        for webhook in self.webhooks(project_id):
            if webhook["url"] == f"{address}/webhook":
                self._call("DELETE", f"/api/webhooks/{webhook['id']}/")

    def webhooks(self, project_id: int) -> list[Json]:
        """The webhooks of a project."""
        return self._list("/api/webhooks/", {"project": project_id})

    def interactive_annotating(
        self, backend_id: int, task_id: int, context: Mapping[str, Any], *, timeout_s: float = 120.0
    ) -> Json:
        """Ask the backend through Label Studio, as the editor does after each click.

        Returns:
            ``{"data": {"result": [...], ...}}``, or ``{"errors": [...]}`` where the backend failed.
        """
        body = {"task": task_id, "context": dict(context)}
        return self._object("POST", f"/api/ml/{backend_id}/interactive-annotating", body, timeout_s=timeout_s)

    def _pages(self, path: str, parameters: Json, rows_key: str, total_key: str, page_size: int) -> Iterator[Json]:
        seen, page = 0, 1
        while True:
            answer = self._json("GET", path, parameters={**parameters, "page": page, "page_size": page_size})
            rows = answer[rows_key]
            yield from rows
            seen += len(rows)
            if not rows or seen >= int(answer[total_key]):
                return
            page += 1

    def _object(self, method: str, path: str, body: object = None, *, timeout_s: float | None = None) -> Json:
        answer = self._json(method, path, body=body, timeout_s=timeout_s)
        if not isinstance(answer, dict):
            raise LabelStudioError(
                200, self.host_url + path, f"expected a JSON object, but got {type(answer).__name__}"
            )
        return answer

    def _list(self, path: str, parameters: Json) -> list[Json]:
        answer = self._json("GET", path, parameters=parameters)
        if not isinstance(answer, list):
            raise LabelStudioError(200, self.host_url + path, f"expected a list, but got {type(answer).__name__}")
        return answer

    def _json(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        parameters: Json | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        response = self._call(method, path, body=body, parameters=parameters, timeout_s=timeout_s)
        try:
            return response.json()
        except requests.JSONDecodeError as error:
            kind = response.headers.get("Content-Type", "nothing")
            what = f"expected JSON, but got {kind}; is this Label Studio's own address?"
            raise LabelStudioError(response.status_code, response.url, what) from error

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        parameters: Json | None = None,
        timeout_s: float | None = None,
    ) -> requests.Response:
        address = self.host_url + path
        try:
            response = self._session.request(
                method, address, json=body, params=parameters, timeout=timeout_s or self._timeout_s
            )
        except requests.HTTPError as error:  # Raised when a personal access token is exchanged for an access token.
            status = error.response.status_code
            raise LabelStudioError(status, address, f"the personal access token was refused ({status})") from error
        except requests.RequestException as error:
            what = f"Label Studio does not answer ({type(error).__name__}); is it running at {self.host_url}?"
            raise LabelStudioError(None, address, what) from error
        if not response.ok:
            advice = _ADVICE.get(response.status_code, "see Label Studio's log")
            what = f"Label Studio answered {response.status_code}: {_error_text(response)}; {advice}"
            raise LabelStudioError(response.status_code, address, what)
        return response


def _error_text(response: requests.Response) -> str:
    """The error message in Label Studio's answer, shortened to 500 characters, or the HTTP reason."""
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        return response.reason or "no explanation"
    if not isinstance(answer, dict):
        return str(answer)[:500]
    details = answer.get("validation_errors") or answer.get("detail") or answer
    return str(details)[:500]
