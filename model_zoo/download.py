"""Downloads or copies one file. An interrupted transfer is resumed, and a file is checked before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from model_zoo.files import sync_and_rename
from model_zoo.registry import ModelFile

CHUNK_BYTES = 2**20
Report = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that have arrived, and its total bytes (None: unknown)."""

ATTEMPTS = 8
"""How often an interrupted transfer is resumed before the pull fails. A later pull continues from there."""
RETRIES = 4
"""How often a request is repeated that gets no response, or one of status 429 or 5xx."""
BACKOFF_S = 0.5
"""First pause before a repetition; it doubles each time."""
LONGEST_PAUSE_S = 20.0
ARRIVAL_BYTES = 2**16
"""Bytes written at a time; at most this many are lost when the connection breaks."""
TIMEOUT_S = (15.0, 60.0)
"""Timeouts for connecting, and for waiting for the next bytes."""

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


class DownloadError(ValueError):
    """A file cannot be downloaded. The message is one line: what was expected, what arrived, what to do."""


class _BrokenOffError(Exception):
    """The transfer ended early or cannot be resumed; another attempt may succeed."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def no_report(name: str, done_bytes: int, total_bytes: int | None) -> None:
    """Report nothing."""


def download(file: ModelFile, url: str, target: Path, report: Report = no_report) -> str:
    """Download a file. If the transfer fails, what has arrived stays in ``<target>.part``.

    Proxies of the environment are used (``HTTPS_PROXY``, ``NO_PROXY``). The caller holds a lock on the target.

    Returns:
        The SHA-256 of the file that is now at ``target``.

    Raises:
        DownloadError: the server does not have it, other bytes arrived than the registry states, the connection keeps
            breaking, or the disk has no room.
    """
    part = PartialFile(target)
    with _session() as session:
        _fill(session, file, url, part, report)
    return _accept(file, url, part)


def copy(file: ModelFile, source: Path, target: Path, report: Report = no_report) -> str:
    """Copy a file from a folder, with the same checks. Returns the SHA-256.

    Raises:
        DownloadError: it is missing or unreadable, or not the file that the registry states, or there is no room.
    """
    part = PartialFile(target)
    try:
        total = source.stat().st_size
        _check_length(file, str(source), total, part)
        _check_room(file, target.parent, total)
        with source.open("rb") as original, part.begin(str(source), "") as output:
            while chunk := original.read(CHUNK_BYTES):
                _write(output, chunk, file)
                report(file.name, output.tell(), total)
    except FileNotFoundError as error:
        raise DownloadError(
            f"expected {file.name} at {source}, but there is no such file; put it there, or unset IVOS_MODEL_MIRROR to "
            "pull from the official address"
        ) from error
    except OSError as error:
        raise DownloadError(f"{source} cannot be copied to {target}: {error.strerror or error}") from error
    return _accept(file, str(source), part)


def _session() -> requests.Session:
    retry = Retry(
        total=RETRIES,
        backoff_factor=BACKOFF_S,
        backoff_max=LONGEST_PAUSE_S,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET",),
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    session = requests.Session()
    session.headers["User-Agent"] = "label-studio-ivos"
    # Offsets count the bytes of the file, not of a compressed form of it.
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _fill(session: requests.Session, file: ModelFile, url: str, part: PartialFile, report: Report) -> None:
    """Request until the partial file is complete."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(BACKOFF_S * 2 ** (attempt - 1), LONGEST_PAUSE_S))
        if part.n_bytes == file.size_bytes:
            if file.sha256 is not None and file.accepts(sha256_of(part.path)):
                return
            part.discard()
        try:
            done, total = _receive(session, file, url, part, report)
        except _BrokenOffError as error:
            problem = str(error)
        else:
            if total in (None, done):
                return
            problem = f"the connection ended at {done} of {total} bytes"
    kept = f"; {part.n_bytes} bytes have arrived, and the next pull goes on from there" if part.n_bytes else ""
    raise DownloadError(f"{url} broke off {ATTEMPTS} times ({problem}){kept}; {_WHAT_TO_DO}")


def _receive(
    session: requests.Session, file: ModelFile, url: str, part: PartialFile, report: Report
) -> tuple[int, int | None]:
    """One request, its body behind the part; returns the bytes here and the bytes of the file (None: not known)."""
    version = part.version(url)
    start = part.n_bytes if version else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    try:
        answer = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise DownloadError(f"{url} cannot be reached ({_reason(error)}); {_WHAT_TO_DO}") from error
    with answer:
        _check_answer(answer, url, part)
        if answer.status_code == 206:
            total = _total_of_range(answer, start, part)
        else:
            start, total = 0, _total_of_whole(answer, file, url)
        if total is not None:
            _check_length(file, url, total, part)
            _check_room(file, part.path.parent, total - start)
        with part.append() if start else part.begin(url, _version_of(answer)) as output:
            return _write_body(answer, output, file, start, total, report), total


def _write_body(
    answer: requests.Response, output: IO[bytes], file: ModelFile, start: int, total: int | None, report: Report
) -> int:
    """Write what arrives behind the first ``start`` bytes; returns the bytes that are here then."""
    done = start
    report(file.name, done, total)
    try:
        for chunk in answer.iter_content(ARRIVAL_BYTES):
            _write(output, chunk, file)
            done += len(chunk)
            report(file.name, done, total)
            if total is not None and done > total:
                break
    except requests.RequestException as error:
        raise _BrokenOffError(_reason(error)) from error
    return done


def _check_answer(answer: requests.Response, url: str, part: PartialFile) -> None:
    if url.startswith("https:") and not answer.url.startswith("https:"):
        raise DownloadError(f"{url} leads to {answer.url}, which is not encrypted; {_WHAT_TO_DO}")
    if answer.status_code == 416:
        part.discard()
        raise _BrokenOffError("the server has no such part of the file")
    if answer.status_code not in (200, 206):
        raise DownloadError(f"{url} answers {answer.status_code} {answer.reason or ''}".rstrip() + f"; {_WHAT_TO_DO}")


def _total_of_range(answer: requests.Response, start: int, part: PartialFile) -> int | None:
    header = answer.headers.get("Content-Range", "")
    found = _RANGE.match(header)
    if found is None or int(found[1]) != start or not start:
        part.discard()
        raise _BrokenOffError(f"asked for the bytes from {start} on, the server sent {header or 'an unnamed range'}")
    return None if found[2] == "*" else int(found[2])


def _total_of_whole(answer: requests.Response, file: ModelFile, url: str) -> int | None:
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and answer.headers.get("Content-Encoding", "identity") == "identity":
        return int(length)
    if answer.headers.get("Transfer-Encoding") != "chunked" and file.sha256 is None:
        raise DownloadError(
            f"{url} does not say how long the file is, and no checksum of it is known, so it cannot be told from half "
            f"a file; {_WHAT_TO_DO}"
        )
    return file.size_bytes


def _version_of(answer: requests.Response) -> str:
    """What `If-Range` may carry (RFC 9110, 13.1.5): a strong entity tag, else a date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _check_length(file: ModelFile, origin: str, total: int, part: PartialFile) -> None:
    if file.size_bytes is not None and total != file.size_bytes:
        part.discard()
        raise DownloadError(
            f"expected {file.name} of {file.size_bytes} bytes, but {origin} has {total} bytes; {_WHAT_TO_DO}"
        )


def _check_room(file: ModelFile, folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise DownloadError(
            f"{file.name} needs {n_bytes / 2**20:.0f} MiB more, but {folder} has {free / 2**20:.0f} MiB free; "
            "make room, or set IVOS_MODEL_DIR to a folder with more"
        )


def _write(output: IO[bytes], chunk: bytes, file: ModelFile) -> None:
    try:
        output.write(chunk)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DownloadError(
            f"the disk is full after {output.tell()} bytes of {file.name}; make room and pull again: it goes on there"
        ) from error


def _accept(file: ModelFile, origin: str, part: PartialFile) -> str:
    """Give a whole file its name, or throw it away."""
    _check_length(file, origin, part.n_bytes, part)
    digest = sha256_of(part.path)
    if not file.accepts(digest):
        part.discard()
        raise DownloadError(
            f"expected {file.name} with sha256 {file.expected}, but {origin} gave one with {digest}; it was thrown "
            f"away: {_WHAT_TO_DO}"
        )
    part.finish()
    return digest


def _reason(error: Exception) -> str:
    """The innermost cause of a failed request, on one line."""
    text = str(error)
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
        text = str(error)
    reason = getattr(error, "reason", None)
    return " ".join(str(reason or text).split()) or type(error).__name__


_WHAT_TO_DO = (
    "try again later, or set IVOS_MODEL_MIRROR to a folder or address that has the models as <model name>/<file name>"
)


class PartialFile:
    """``<target>.part`` and a note next to it. The caller holds a lock on the target.

    The note names the address and the version (an HTTP validator: a strong ETag or a date) that the bytes belong to, so
    that a later attempt resumes only the same file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def n_bytes(self) -> int:
        """How many bytes have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> str:
        """The validator of the partial file if it came from ``url``; empty if it cannot be resumed."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return str(note["version"]) if note["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, url: str, version: str) -> IO[bytes]:
        """Open an empty partial file."""
        self.discard()
        self._note.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
        return self.path.open("wb")

    def append(self) -> IO[bytes]:
        """Open the partial file for writing at its end."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Delete the partial file."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete file its name, once its bytes are on the disk."""
        sync_and_rename(self.path, self.target)
        self._note.unlink(missing_ok=True)
