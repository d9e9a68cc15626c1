"""File and folder names for a task, from the addresses of its frames."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts eight hexadecimal digits before the name of an uploaded file."""
_NOT_PLAIN = re.compile(r"[^\w.\- ]")


@dataclass(frozen=True)
class ClipNames:
    """Names of one task. ``folder`` is empty where the addresses name none.

    ``numbered`` says that the addresses gave no usable names and the frames are numbered instead.
    """

    folder: str
    frame_names: tuple[str, ...]
    numbered: bool = False


def clip_names(frame_urls: Sequence[str]) -> ClipNames:
    """The folder that the frames share and the file name of each, safe to use as file names.

    Stems come out unique, because a mask's file is named after the stem of its frame: where the addresses repeat
    one, all frames are numbered (00000, 00001, ...).
    """
    paths = [_path(url) for url in frame_urls]
    names = [_safe(path.name) for path in paths]
    folders = {_safe(path.parent.name) for path in paths}
    folder = folders.pop() if len(folders) == 1 else ""
    stems = Counter(PurePosixPath(name).stem.casefold() for name in names)
    if not all(names) or max(stems.values(), default=0) > 1:
        numbers = (f"{frame_index:05d}{PurePosixPath(name).suffix}" for frame_index, name in enumerate(names))
        return ClipNames(folder, tuple(numbers), numbered=True)
    return ClipNames(folder, tuple(names))


def unique_folders(folders: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """One folder per clip: its own name where only one clip has it, else with its suffix ("task12") behind."""
    wanted = [folder or suffix for folder, suffix in zip(folders, suffixes, strict=True)]
    claims = Counter(name.casefold() for name in wanted)
    taken = {name.casefold() for name in wanted if claims[name.casefold()] == 1}
    unique = []
    for name, suffix in zip(wanted, suffixes, strict=True):
        if claims[name.casefold()] > 1:
            name = f"{name}-{suffix}"
            while name.casefold() in taken:
                name += "_"
            taken.add(name.casefold())
        unique.append(name)
    return unique


def _path(url: str) -> PurePosixPath:
    """Where a frame lies, as far as its address tells: in local files, uploads, a bucket, or on a web server."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    path = unquote(parts.path)
    if path.rstrip("/").endswith("/data/local-files") and "d" in query:
        path = query["d"][0]
    elif "fileuri" in query:
        path = _bucket_path(query["fileuri"][0])
    elif "/data/upload/" in path:
        # Uploads lie in a folder named after the project, which says nothing about the clip.
        path = _UPLOAD_PREFIX.sub("", PurePosixPath(path).name)
    return PurePosixPath(path.replace("\\", "/"))


def _bucket_path(encoded: str) -> str:
    try:
        uri = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return unquote(urlsplit(uri).path)


def _safe(name: str) -> str:
    """The name with nothing in it that could leave its folder or confuse a file system."""
    return _NOT_PLAIN.sub("_", name).strip(" .")
