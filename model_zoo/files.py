"""Files that appear whole or not at all: no reader and no crash ever meets half of one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file in one step: afterwards ``path`` has either its new content or, if this fails, its old one.

    Args:
        path: the file; its folder must exist.
        content: text is written as UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(path) as draft:
        draft.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A hidden file beside ``path`` to write to, with the same suffix. It takes the name ``path`` after the block.

    If the block raises an error, the hidden file is removed and ``path`` stays as it was. Each thread has a hidden
    file of its own, so several may write the same ``path``; the last one wins.

    Raises:
        OSError: the file cannot take its name.
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.part{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def sync_and_rename(source: Path, target: Path) -> None:
    """Give a finished file its name once its bytes are on the disk, so that a power cut cannot leave an empty file.

    Raises:
        OSError: one of the two steps fails.
    """
    with source.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)
