"""An RTSP camera on the loopback: JPEG frames over RTP, interleaved with RTSP on one connection.

RTSP 1.0 (RFC 2326): OPTIONS, DESCRIBE, SETUP and PLAY, as much as a player needs. RTP (RFC 3550) with the payload for
JPEG (RFC 2435).
"""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

_PAYLOAD_BYTES = 1400
_JPEG_PAYLOAD, _MARKER_BIT = 26, 0x80
_CLOCK_HZ, _FRAMES_PER_S = 90_000, 25
_TYPE_420, _TABLES_INSIDE = 1, 255


@contextmanager
def rtsp_camera(images: Iterable[np.ndarray], pause_s: float = 0.0) -> Iterator[str]:
    """The address of a camera that sends these images, (H, W, 3) RGB uint8 with sides that 8 divides, to its first
    listener and hangs up."""
    stopped = threading.Event()
    waiting = [images]

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (request := self._request()) is not None:
                method, sequence = request
                if method == "PLAY":
                    self._answer(sequence, "Session: 1\r\nRange: npt=0-\r\n")
                    self._play()
                    return
                self._answer(sequence, *_ANSWERS.get(method, ("",)))

        def _request(self) -> tuple[str, str] | None:
            head = self.rfile.readline().decode()
            if not head.strip():
                return None
            sequence = ""
            while line := self.rfile.readline().decode().strip():
                if line.lower().startswith("cseq:"):
                    sequence = line.partition(":")[2].strip()
            return head.split()[0], sequence

        def _answer(self, sequence: str, headers: str = "", body: str = "") -> None:
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{headers}{length}\r\n{body}".encode())

        def _play(self) -> None:
            number = 0
            for frame_index, image in enumerate(waiting.pop() if waiting else ()):
                for payload, is_last in _payloads(image):
                    kind = _JPEG_PAYLOAD | (_MARKER_BIT if is_last else 0)
                    clock = frame_index * _CLOCK_HZ // _FRAMES_PER_S
                    packet = struct.pack(">BBHII", 0x80, kind, number & 0xFFFF, clock, 1) + payload
                    number += 1
                    try:
                        self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    except OSError:
                        return
                if stopped.wait(pause_s):
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Connection) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{server.server_address[1]}/camera"
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


_DESCRIPTION = "\r\n".join(
    (
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=camera",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        f"m=video 0 RTP/AVP {_JPEG_PAYLOAD}",
        "a=control:video",
        f"a=framerate:{_FRAMES_PER_S}",
        "",
    )
)
_ANSWERS: dict[str, tuple[str, ...]] = {
    "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",),
    "DESCRIBE": ("Content-Type: application/sdp\r\n", _DESCRIPTION),
    "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",),
}


def _payloads(image: np.ndarray) -> Iterator[tuple[bytes, bool]]:
    """One frame's RTP payloads, and whether each is its last (RFC 2435, 3.1)."""
    tables, scan = _tables_and_scan(image)
    kinds = (0, _TYPE_420, _TABLES_INSIDE, image.shape[1] // 8, image.shape[0] // 8)
    for at in range(0, len(scan), _PAYLOAD_BYTES):
        head = bytes([kinds[0]]) + at.to_bytes(3, "big") + bytes(kinds[1:])
        if at == 0:
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables
        yield head + scan[at : at + _PAYLOAD_BYTES], at + _PAYLOAD_BYTES >= len(scan)


def _tables_and_scan(image: np.ndarray) -> tuple[bytes, bytes]:
    """A frame's quantisation tables and entropy-coded data; 4:2:0 with the standard's Huffman tables."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111]
    data: Any = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    at, tables = 2, b""
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xDB:  # tables of 1 + 64 bytes each
            tables += b"".join(segment[k + 1 : k + 65] for k in range(0, len(segment), 65))
        elif marker == 0xDA:
            return tables, data[at:-2]
