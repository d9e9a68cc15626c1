"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_zoo.files import atomic_path, write_atomically


@pytest.mark.parametrize("content", ["größer\n", b"\x00\xff"])
def test_content_takes_the_place_of_the_old_one(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "note.json"
    path.write_text("old")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_content_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as draft:
            assert draft.suffix == ".png"
            draft.write_bytes(b"half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
