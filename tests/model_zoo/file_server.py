"""A real web server on loopback that serves files well, or as badly as a test asks for. Also a proxy."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """How one request is answered. The defaults are a good server's.

    Attributes:
        status: another status than 200 or 206 sends no body.
        body: other bytes than the file's.
        cut_at: the connection breaks after so many bytes of the body.
        location: where to redirect to.
        ranges: whether `Range` is understood.
        content_range: another `Content-Range` than the true one.
        etag: whether the file's version is told.
        framing: how the end of the body is told: by its length, in chunks, or only by closing the connection.
        wait: answered only when this is set.
    """

    status: int = 200
    body: bytes | None = None
    cut_at: int | None = None
    location: str = ""
    ranges: bool = True
    content_range: str = ""
    etag: bool = True
    framing: str = "length"
    wait: threading.Event | None = None


@dataclass
class FileServer:
    """What is served, how the next requests for a path are answered, and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    plan: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    url: str = ""

    def ranges(self, path: str) -> list[str]:
        """The `Range` header of each request for a path, empty where there was none."""
        return [headers.get("Range", "") for asked, headers in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FileServer

    def do_GET(self) -> None:
        self.close_connection = True
        path = urlsplit(self.path).path
        self.served.targets.append(self.path)
        self.served.requests.append((path, dict(self.headers)))
        planned = self.served.plan.get(path, [])
        answer = planned.pop(0) if planned else Answer()
        if answer.wait is not None:
            answer.wait.wait(20)
        body = answer.body if answer.body is not None else self.served.files.get(path)
        if answer.location:
            self._say(302, {"Location": answer.location, "Content-Length": "0"})
        elif answer.status != 200 or body is None:
            self._say(answer.status if answer.status != 200 else 404, {"Content-Length": "0"})
        else:
            self._send(answer, body)

    def _send(self, answer: Answer, body: bytes) -> None:
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": tag} if answer.etag else {}
        wanted = self.headers.get("Range", "")
        status, start = 200, 0
        if wanted and answer.ranges and self.headers.get("If-Range", tag) == tag:
            status, start = 206, int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = answer.content_range or f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        if answer.framing == "length":
            headers["Content-Length"] = str(len(rest))
        elif answer.framing == "chunks":
            headers["Transfer-Encoding"] = "chunked"
        self._say(status, headers)
        sent = rest if answer.cut_at is None else rest[: answer.cut_at]
        if answer.framing == "chunks":
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            self.wfile.write(b"0\r\n\r\n" if answer.cut_at is None else b"")
        else:
            self.wfile.write(sent)

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server on a free port of loopback, in a thread."""
    served = FileServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
