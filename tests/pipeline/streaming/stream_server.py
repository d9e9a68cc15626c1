"""HTTP servers on the loopback: a camera's stream, JPEGs as parts of one endless response, and files."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np


class MjpegServer:
    """Every connection gets the next list of images, then is closed; when no list is left it is refused.

    Attributes:
        connections: how many there were.
        go_on: cleared while no image is to be sent.
        stopped: set when the test is over.
    """

    def __init__(self, images_by_connection: Sequence[Iterable[np.ndarray]], pause_s: float = 0.0) -> None:
        self._left = list(images_by_connection)
        self.pause_s = pause_s
        self.connections = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.stopped = threading.Event()

    def next_connection(self) -> Iterable[np.ndarray] | None:
        """What the connection that just opened is to send."""
        self.connections += 1
        return self._left.pop(0) if self._left else None


@contextmanager
def serving(camera: MjpegServer) -> Iterator[str]:
    """The address of the stream."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            images = camera.next_connection()
            if images is None:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for image in images:
                camera.go_on.wait(30)
                data = _jpeg(image)
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                try:
                    self.wfile.write(head + data + b"\r\n")
                except OSError:
                    return
                if camera.stopped.wait(camera.pause_s):
                    return

        def log_message(self, *_: Any) -> None:
            pass

    with _running(Handler) as address:
        try:
            yield f"{address}/camera.mjpg"
        finally:
            camera.stopped.set()
            camera.go_on.set()


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files."""
    with _running(partial(_QuietFiles, directory=str(folder))) as address:
        yield address


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _running(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _jpeg(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
