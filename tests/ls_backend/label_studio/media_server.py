"""A small stand-in for a Label Studio host: serves frames, checks tokens, trades personal access tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import jwt
import numpy as np
from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

from pipeline.types import FrameRGB

LEGACY_TOKEN = "0123456789abcdef0123456789abcdef01234567"
PERSONAL_TOKEN = jwt.encode({"token_type": "refresh"}, "k" * 32)


@dataclass
class MediaServer:
    """What is served, and what was asked: change ``files`` and ``status`` while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    access_life_s: float = 300.0
    refreshes: int = 0
    url: str = ""

    def put(self, name: str, frame_rgb: FrameRGB) -> str:
        """Serve a frame as PNG; returns its address as a task names it."""
        self.files[name] = png(frame_rgb)
        return f"/data/local-files/?d={name}"

    def asked(self, name: str) -> int:
        """How often a file was asked for."""
        return sum(name == asked for asked, _ in self.requests)


def png(frame_rgb: FrameRGB) -> bytes:
    """A frame (H, W, 3) as PNG bytes."""
    return bytes(cv2.imencode(".png", np.ascontiguousarray(frame_rgb[..., ::-1]))[1])


def _build(server: MediaServer) -> Flask:
    app = Flask("media")

    @app.get("/data/local-files/")
    def local_file() -> Response:
        name, header = request.args["d"], request.headers.get("Authorization", "")
        server.requests.append((name, header))
        planned = server.status.get(name, [])
        if planned:
            return Response(status=planned.pop(0))
        if header != f"Token {LEGACY_TOKEN}" and not header.startswith("Bearer "):
            return Response("who are you", 401)
        return Response(server.files[name]) if name in server.files else Response(status=404)

    @app.get("/open/<name>")
    def open_file(name: str) -> Response:
        server.requests.append((name, request.headers.get("Authorization", "")))
        return Response(server.files[name])

    @app.post("/api/token/refresh/")
    def refresh() -> Response:
        if request.get_json()["refresh"] != PERSONAL_TOKEN:
            return Response(status=401)
        server.refreshes += 1
        return jsonify({"access": jwt.encode({"exp": time.time() + server.access_life_s}, "k" * 32)})

    return app


@contextmanager
def media_server() -> Iterator[MediaServer]:
    """Serve on a free loopback port."""
    server = MediaServer()
    http = make_server("127.0.0.1", 0, _build(server), threaded=True)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join(5)
