"""Frames of a task: fetched with the right token, kept in a bounded disk cache, decoded into a bounded RAM cache."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

import requests
from cachetools import LRUCache, TTLCache
from diskcache import Cache

from ls_backend.errors import TaskError
from ls_backend.label_studio.connections import LabelStudioAuth, retrying_session, same_origin
from ls_backend.protocol.payloads import TaskPayload
from ls_backend.settings import Settings
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, UniformFrames, decode_image

logger = logging.getLogger(__name__)
MIB = 1024 * 1024
CHUNK_BYTES = 256 * 1024
CONTENTS_KNOWN, CONTENT_KNOWN_S = 65536, 3600.0
"""How many frames' contents are remembered, at some 300 bytes each, and how long."""
KEEP_S = 7 * 24 * 3600
"""A frame on disk is fetched again after a week, in case the file behind its address was replaced."""
PAUSE_S = 10.0
"""No requests are sent to a server for this long after it could not be reached or refused a token.

Otherwise a task of 3,000 frames would send 3,000 requests that fail.
"""
SERVER_WIDE_STATUSES = (401, 502, 503, 504)
"""HTTP statuses that concern the whole server, not one file."""


def frame_urls(task: TaskPayload, frames_field: str) -> tuple[str, ...]:
    """The addresses of a task's frames, in order.

    Raises:
        TaskError: the field is missing, empty, or not a list of addresses.
    """
    urls = task.data.get(frames_field)
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) and url for url in urls):
        raise TaskError(
            f'task {task.id} has no frames: its data needs "{frames_field}": a list with one address per frame, '
            f"but it has {_shown(urls)}"
        )
    return tuple(urls)


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


class MediaFetcher:
    """Fetches frame files for all sessions and owns both caches. Thread-safe."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._http = retrying_session(settings.fetch_retries)
        self._disk = Cache(
            str(folder),
            size_limit=settings.frame_disk_mib * MIB,
            eviction_policy="least-recently-used",
            cull_limit=64,
        )
        self._ram: LRUCache[str, FrameRGB] = LRUCache(
            settings.frame_ram_mib * MIB, getsizeof=lambda image: image.nbytes
        )
        self._contents: TTLCache[bytes, bytes] = TTLCache(maxsize=CONTENTS_KNOWN, ttl=CONTENT_KNOWN_S)
        self._ram_lock = threading.Lock()
        self._paused: TTLCache[tuple[str, int], str] = TTLCache(maxsize=64, ttl=PAUSE_S)

    def image(self, url: str, auth: LabelStudioAuth, frame_index: int) -> FrameRGB:
        """One decoded frame of any size.

        Raises:
            FrameError: it cannot be fetched or decoded; says why and what to do.
        """
        address = self._absolute(url, auth, frame_index)
        with self._ram_lock:
            cached = self._ram.get(address)
        if cached is not None:
            return cached
        image = decode_image(self._bytes(address, auth, frame_index), frame_index)
        image.setflags(write=False)
        with self._ram_lock:
            if image.nbytes <= self._ram.maxsize:
                self._ram[address] = image
        return image

    def identity(self, url: str, auth: LabelStudioAuth, frame_index: int) -> str:
        """Names a frame's content, whatever its address; fetches it if it is not on disk.

        Raises:
            FrameError: it cannot be fetched.
        """
        address = self._absolute(url, auth, frame_index)
        key = _digest(address.encode())
        with self._ram_lock:
            known = self._contents.get(key)
        if known is None:
            known = _digest(self._bytes(address, auth, frame_index))
            with self._ram_lock:
                self._contents[key] = known
        return known.hex()

    def _absolute(self, url: str, auth: LabelStudioAuth, frame_index: int) -> str:
        scheme = urlsplit(url).scheme
        if scheme in ("http", "https"):
            return url
        if scheme or not url.startswith("/"):
            raise FrameError(
                frame_index, f"{url} is not an address this backend can fetch; expected http(s):// or /data/..."
            )
        if not auth.host_url:
            raise FrameError(
                frame_index,
                f"{url} lies in Label Studio, whose address is not known yet; reload the project's page or set "
                "IVOS_LABEL_STUDIO_URL and IVOS_LABEL_STUDIO_TOKEN",
            )
        return auth.host_url + url

    def _bytes(self, address: str, auth: LabelStudioAuth, frame_index: int) -> bytes:
        cached = self._disk.get(address)
        if isinstance(cached, bytes):
            return cached
        data = self._download(address, auth, frame_index)
        # Only what decodes is kept: an error page served as 200 must not stay for a week.
        decode_image(data, frame_index)
        try:
            self._disk.set(address, data, expire=KEEP_S)
        except OSError as error:
            logger.warning("frame %d could not be kept on disk: %s", frame_index, error)
        return data

    def _download(self, address: str, auth: LabelStudioAuth, frame_index: int) -> bytes:
        shown = address.split("?X-Amz")[0]
        server = (urlsplit(address).netloc, id(auth))
        with self._ram_lock:
            earlier_error = self._paused.get(server)
        if earlier_error:
            raise FrameError(frame_index, f"{shown} was not asked for again: {earlier_error}")
        try:
            with self._http.get(address, auth=auth, timeout=self._settings.fetch_timeout_s, stream=True) as answer:
                if answer.status_code == requests.codes.ok:
                    return self._body(answer, shown, frame_index)
                reason = _refusal(shown, answer.status_code, auth)
                concerns_all = answer.status_code in SERVER_WIDE_STATUSES
        except requests.RequestException as error:
            reason = f"{shown} cannot be fetched: {type(error).__name__}: {error}"
            concerns_all = isinstance(error, requests.ConnectionError | requests.Timeout | requests.HTTPError)
        if concerns_all:
            with self._ram_lock:
                self._paused[server] = reason
        raise FrameError(frame_index, reason)

    def _body(self, answer: requests.Response, shown: str, frame_index: int) -> bytes:
        data = bytearray()
        for chunk in answer.iter_content(CHUNK_BYTES):
            data += chunk
            if len(data) > self._settings.fetch_max_mib * MIB:
                limit = f"IVOS_FETCH_MAX_MIB={self._settings.fetch_max_mib}"
                raise FrameError(frame_index, f"{shown} is larger than {limit}")
        return bytes(data)

    @property
    def ram_bytes(self) -> int:
        """How much the decoded frames in memory take."""
        with self._ram_lock:
            return int(self._ram.currsize)

    def close(self) -> None:
        """Close the connections and the disk cache."""
        self._http.close()
        self._disk.close()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _refusal(address: str, status: int, auth: LabelStudioAuth) -> str:
    refusal = f"{address} answered {status}"
    if status in (401, 403) and same_origin(address, auth.host_url):
        return f"{refusal}: Label Studio refused the token; set IVOS_LABEL_STUDIO_TOKEN to a valid one of yours"
    if status == requests.codes.not_found and same_origin(address, auth.host_url):
        return f"{refusal}: no such file, or no storage of the project covers it"
    return refusal


class TaskFrames(UniformFrames):
    """The frames of one task, read-only, as the pipeline's `FrameSource`."""

    def __init__(self, urls: Sequence[str], fetcher: MediaFetcher, auth: LabelStudioAuth) -> None:
        self.urls = tuple(urls)
        self._fetcher = fetcher
        self._auth = auth

    def __len__(self) -> int:
        return len(self.urls)

    def identity(self, frame_index: int) -> str | None:
        """The frame's content, see `IdentifiedFrames.identity`."""
        return self._fetcher.identity(self.urls[frame_index], self._auth, frame_index)

    def read(self, frame_index: int) -> FrameRGB:
        """One fetched frame, see `UniformFrames.read`."""
        return self._fetcher.image(self.urls[frame_index], self._auth, frame_index)
