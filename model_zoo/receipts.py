"""Which files of a model's folder have been checked already, so that gigabytes are not hashed at every start."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from model_zoo.files import write_atomically

NAME = "checked.json"


@dataclass(frozen=True)
class Receipt:
    """A file as it was when its SHA-256 was computed."""

    size_bytes: int
    modified_ns: int
    sha256: str


def read_receipt(path: Path) -> Receipt | None:
    """The receipt of a file; None if it has none, or has changed since."""
    receipt = _read(path.with_name(NAME)).get(path.name)
    state = path.stat()
    if receipt is None or (receipt.size_bytes, receipt.modified_ns) != (state.st_size, state.st_mtime_ns):
        return None
    return receipt


def write_receipt(path: Path, sha256: str) -> None:
    """Note that a file has been checked. In a folder that may not be written, nothing is noted."""
    state = path.stat()
    book = path.with_name(NAME)
    receipts = _read(book) | {path.name: Receipt(state.st_size, state.st_mtime_ns, sha256)}
    with suppress(OSError):
        write_atomically(book, json.dumps({name: asdict(receipt) for name, receipt in receipts.items()}, indent=1))


def _read(book: Path) -> dict[str, Receipt]:
    try:
        return {str(name): Receipt(**entry) for name, entry in json.loads(book.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
