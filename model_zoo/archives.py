"""Official code that arrives as an archive: unpacked safely, and checked against the tree of its git commit."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from model_zoo.download import CHUNK_BYTES

MAX_UNPACKED_BYTES = 2**30
MAX_FILES = 20_000
_LEFT_OUT = "__pycache__"
"""What running the code leaves among its files; no commit of a pinned repository has it."""


class ArchiveError(ValueError):
    """An archive is damaged, unsafe, or not the commit that was pinned. The message is one line."""


def unpack_commit(archive: Path, folder: Path, tree: str) -> None:
    """Unpack the archive of a git commit into a new folder, which appears complete or not at all.

    Args:
        archive: a tar.gz with everything below one top folder, as GitHub makes them.
        folder: where the files go; the top folder's name is dropped.
        tree: the SHA-1 of the commit's tree, `git rev-parse COMMIT^{tree}`.

    Raises:
        ArchiveError: the archive cannot be read, has links, or paths that lead outside, or has other files than the
            commit.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _unpack(archive, temporary)
        arrived = git_tree(temporary)
        if arrived != tree:
            raise ArchiveError(
                f"expected the files of a commit with tree {tree}, but {archive.name} has tree {arrived}; "
                "it is not the pinned commit, or not all of it"
            )
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    unpacked_bytes = n_files = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                path = _inside(member.name, archive)
                if member.isdir():
                    continue
                if not member.isfile():
                    raise ArchiveError(f"expected files only, but {archive.name} has a link or device, {member.name!r}")
                unpacked_bytes, n_files = unpacked_bytes + member.size, n_files + 1
                if unpacked_bytes > MAX_UNPACKED_BYTES or n_files > MAX_FILES:
                    raise ArchiveError(
                        f"{archive.name} unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB or {MAX_FILES} files"
                    )
                content = tar.extractfile(member)
                if path is None or content is None:
                    raise ArchiveError(f"expected one top folder, but {archive.name} has {member.name!r} beside it")
                _write(content, folder / path, executable=bool(member.mode & 0o100))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(f"{archive.name} cannot be unpacked: {error}") from error


def _inside(name: str, archive: Path) -> PurePosixPath | None:
    """A member's path without the top folder; None for the top folder itself."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ArchiveError(f"{archive.name} has a path that leads outside, {name!r}; it was not unpacked")
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else None


def _write(content: IO[bytes], path: Path, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as output:
        shutil.copyfileobj(content, output, CHUNK_BYTES)
    path.chmod(0o755 if executable else 0o644)


def git_tree(folder: Path) -> str:
    """The SHA-1 that git gives a folder's content, 40 hexadecimal digits; files that Python compiled are left out."""
    return _tree(folder).hex()


def _tree(folder: Path) -> bytes:
    entries: list[tuple[bytes, bytes]] = []
    for path in folder.iterdir():
        name = os.fsencode(path.name)
        if path.is_symlink():
            raise ArchiveError(f"expected files only, but {path} is a link")
        if path.is_dir():
            if path.name != _LEFT_OUT:
                # git sorts folders as if their names ended in a slash.
                entries.append((name + b"/", b"40000 " + name + b"\0" + _tree(path)))
        else:
            mode = b"100755 " if path.stat().st_mode & 0o100 else b"100644 "
            entries.append((name, mode + name + b"\0" + _object(b"blob", path.read_bytes())))
    return _object(b"tree", b"".join(entry for _, entry in sorted(entries)))


def _object(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest()
