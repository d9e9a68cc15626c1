"""A file that is still arriving: its bytes, and which version of the remote file they belong to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO

from model_zoo.files import sync_and_rename

CHUNK_BYTES = 2**20


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class PartialFile:
    """``<target>.part`` and a note beside it. One process at a time may use it; whoever does holds the model's lock.

    The note names the address and the version (an HTTP validator: a strong ETag or a date) that the bytes belong to, so
    that a later attempt goes on only with the same file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def n_bytes(self) -> int:
        """How much has arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> str:
        """The validator of the bytes here if they came from ``url``; empty where they cannot be continued."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return str(note["version"]) if note["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, url: str, version: str) -> IO[bytes]:
        """Start anew, empty."""
        self.discard()
        self._note.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
        return self.path.open("wb")

    def go_on(self) -> IO[bytes]:
        """Write behind what is here."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Throw away what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the file in its place, whole, and on the disk before its name is."""
        sync_and_rename(self.path, self.target)
        self._note.unlink(missing_ok=True)
