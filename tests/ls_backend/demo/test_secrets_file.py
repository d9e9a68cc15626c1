"""The demo's secrets: made once, private, and never guessed around when the file is damaged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ls_backend.demo.errors import DemoError
from ls_backend.demo.secrets_file import DemoSecrets


def test_made_once_and_readable_by_the_user_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = DemoSecrets.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert DemoSecrets.load_or_create(path) == made
    assert re.fullmatch(r"[0-9a-f]{40}", made.token)
    assert len(made.password) >= 12
    assert len(made.backend_password) >= 24


def test_two_demos_have_different_secrets(tmp_path: Path) -> None:
    one, two = (DemoSecrets.load_or_create(tmp_path / name) for name in ("a.json", "b.json"))
    assert {one.token, one.password, one.backend_password}.isdisjoint({two.token, two.password, two.backend_password})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"email": "a"}', "not json"])
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(DemoError, match=r"secrets\.json is damaged"):
        DemoSecrets.load_or_create(path)
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"missing.*secrets\.json"):
        DemoSecrets.load_or_create(tmp_path / "missing" / "secrets.json")
