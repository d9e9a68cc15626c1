"""A stand-in backend for the recorder: keeps every request as it came, answers with boxes by the rules of the loop.

Only `record.py` uses it. The tests replay what it kept against the project's own backend.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flask import Flask, request
from werkzeug.serving import make_server

from ls_backend.protocol.regions import mask_to_brush_rle


@dataclass(frozen=True)
class Recorded:
    """One request as Label Studio sent it."""

    path: str
    has_basic_auth: bool
    body: dict[str, Any]


@dataclass
class RecordingBackend:
    """Serves on loopback inside a ``with`` block.

    ``fail_next`` makes the next /predict answer 500. ``silent`` makes all answers echo the prompts and bring no mask.
    """

    port: int
    requests: list[Recorded] = field(default_factory=list)
    fail_next: bool = False
    silent: bool = False

    def __enter__(self) -> RecordingBackend:
        self._server = make_server("127.0.0.1", self.port, self._app(), threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where Label Studio finds it."""
        return f"http://127.0.0.1:{self.port}"

    def last(self, path: str) -> Recorded:
        """The newest request to a path."""
        return next(recorded for recorded in reversed(self.requests) if recorded.path == path)

    def last_webhook(self, action: str) -> Recorded | None:
        """The newest webhook of one kind, if it came."""
        found = (r for r in reversed(self.requests) if r.path == "/webhook" and r.body.get("action") == action)
        return next(found, None)

    def _app(self) -> Flask:
        app = Flask("recording_backend")

        @app.get("/health")
        def health() -> dict[str, str]:
            return {"status": "UP"}

        @app.post("/setup")
        def setup() -> dict[str, str]:
            self._keep()
            return {"model_version": "recording"}

        @app.post("/webhook")
        def webhook() -> dict[str, str]:
            self._keep()
            return {}

        @app.post("/predict")
        def predict() -> tuple[dict[str, Any], int]:
            body = self._keep()
            if self.fail_next:
                self.fail_next = False
                return {"error": "asked to fail"}, 500
            context = (body.get("params") or {}).get("context")
            return {"results": [_answer(task, context, self.silent) for task in body["tasks"]]}, 200

        return app

    def _keep(self) -> dict[str, Any]:
        body: dict[str, Any] = request.get_json()
        self.requests.append(Recorded(request.path, request.authorization is not None, body))
        return body


def _answer(task: dict[str, Any], context: dict[str, Any] | None, silent: bool) -> dict[str, Any]:
    prompts = (context or {}).get("result") or []
    echoed = [{**prompt, "meta": {"prompt": {"pos": _is_positive(prompt)}}} for prompt in prompts]
    n_masks = len(task["data"]["frames"]) if prompts and not silent else 0
    masks = [_mask(prompts, frame_index) for frame_index in range(n_masks)]
    return {"result": echoed + masks, "score": 0.5, "model_version": "recording"}


def _is_positive(prompt: dict[str, Any]) -> bool:
    echoed = (prompt.get("meta") or {}).get("prompt")
    return echoed["pos"] if echoed else prompt["from_name"] != "neg" and prompt.get("is_positive") is not False


def _mask(prompts: list[dict[str, Any]], frame_index: int) -> dict[str, Any]:
    """A box that moves with the frame and grows with the prompts, so that every round changes every mask."""
    last = prompts[-1]
    label = last["value"][last["type"]][0]
    width_px, height_px = last["original_width"], last["original_height"]
    top_px = 4 if label.endswith("1") else height_px // 2
    mask = np.zeros((height_px, width_px), dtype=np.bool_)
    mask[top_px : top_px + 12 + len(prompts), 30 + 4 * frame_index : 44 + 4 * frame_index] = True
    return {
        "id": f"{label}-{frame_index:05d}",
        "from_name": "brush",
        "to_name": last["to_name"],
        "type": "brushlabels",
        "origin": "prediction",
        "score": 0.5,
        "item_index": frame_index,
        "original_width": width_px,
        "original_height": height_px,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": mask_to_brush_rle(mask), "brushlabels": [label]},
    }
