"""Official code from archives: only what the pinned commit has, and never outside its folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from model_zoo import archives
from model_zoo.archives import ArchiveError, git_tree, unpack_commit

FILES = {"a.txt": b"hello\n", "bin/run": b"#!/bin/sh\n", "lib/x.py": b"x = 1\n", "lib.d/y": b"y\n", "lib-z": b"z\n"}
TREE = "bb548a40eba44e7f3c85dfb2d1d83d62b2895cca"
"""What `git write-tree` says of FILES with bin/run executable; the names are those that git sorts in its own way."""


def write_archive(path: Path, files: Mapping[str, bytes], *extra: tarfile.TarInfo, top: str = "repo-abc/") -> Path:
    """An archive as GitHub makes them: everything below one folder."""
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0" * 40}) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size, info.mode = len(content), 0o775 if name.startswith("bin/") else 0o664
            tar.addfile(info, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """An empty member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_of_a_commit(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "code.tar.gz", FILES)
    folder = tmp_path / "code"
    unpack_commit(archive, folder, TREE)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == FILES
    assert git_tree(folder) == TREE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "code.tar.gz"]


def test_compiled_files_do_not_count_and_anything_else_does(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    unpack_commit(write_archive(tmp_path / "code.tar.gz", FILES), folder, TREE)
    (folder / "lib" / "__pycache__").mkdir()
    (folder / "lib" / "__pycache__" / "x.pyc").write_bytes(b"...")
    assert git_tree(folder) == TREE
    (folder / "lib" / "x.py").write_bytes(b"x = 2\n")
    assert git_tree(folder) != TREE


Damage = Callable[[Path], Path]
BAD: dict[str, tuple[Damage, str]] = {
    "another file": (lambda path: write_archive(path, {**FILES, "a.txt": b"hullo\n"}), f"tree {TREE}, but code"),
    "one file more": (lambda path: write_archive(path, {**FILES, "b.txt": b""}), f"tree {TREE}, but code"),
    "outside": (lambda path: write_archive(path, FILES, member("repo-abc/../../evil")), "leads outside"),
    "absolute": (lambda path: write_archive(path, FILES, member("/tmp/evil")), "leads outside"),
    "symbolic link": (lambda path: write_archive(path, FILES, member("repo-abc/l", tarfile.SYMTYPE, "/etc")), "link"),
    "hard link": (
        lambda path: write_archive(path, FILES, member("repo-abc/l", tarfile.LNKTYPE, "repo-abc/a.txt")),
        "link",
    ),
    "device": (lambda path: write_archive(path, FILES, member("repo-abc/null", tarfile.CHRTYPE)), "device"),
    "beside the top folder": (lambda path: write_archive(path, FILES, member("evil")), "one top folder"),
    "same file twice": (lambda path: write_archive(path, FILES, member("repo-abc/a.txt")), "cannot be unpacked"),
    "half": (lambda path: _cut(write_archive(path, FILES)), "cannot be unpacked"),
    "no archive": (lambda path: _write(path, b"<html>not found</html>"), "cannot be unpacked"),
}


def _cut(path: Path) -> Path:
    return _write(path, path.read_bytes()[: path.stat().st_size // 2])


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("damaged", "message"), BAD.values(), ids=BAD)
def test_bad_archive_leaves_nothing(tmp_path: Path, damaged: Damage, message: str) -> None:
    archive = damaged(tmp_path / "code.tar.gz")
    with pytest.raises(ArchiveError, match=message):
        unpack_commit(archive, tmp_path / "in" / "code", TREE)
    assert list((tmp_path / "in").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code.tar.gz", "in"]


def test_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "code.tar.gz", {"big": bytes(1000)})
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 999)
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        unpack_commit(archive, tmp_path / "code", TREE)


def test_leftovers_of_a_crash_are_replaced(tmp_path: Path) -> None:
    (tmp_path / ".code.unpacking").mkdir()
    (tmp_path / ".code.unpacking" / "half").write_bytes(b"")
    unpack_commit(write_archive(tmp_path / "code.tar.gz", FILES), tmp_path / "code", TREE)
    assert git_tree(tmp_path / "code") == TREE
