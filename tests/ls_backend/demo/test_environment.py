"""Installing an environment from a lock: the real uv, and a lock of one small package from this project's own lock."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ls_backend.demo.environment import ENVIRONMENTS_KEPT, LOCK_PATH, environment_name, label_studio_python
from ls_backend.demo.local_server import DemoError
from tests.clips import REPOSITORY


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    text = (REPOSITORY / "requirements.lock").read_text()
    found = re.search(r"^iniconfig==.*\n(?:    --hash=.*\n)+", text, flags=re.MULTILINE)
    assert found
    path = tmp_path / "small.lock"
    path.write_text(found[0])
    return path


def test_the_lock_names_label_studio_hashes_and_no_registry() -> None:
    text = LOCK_PATH.read_text()
    assert re.search(r"^label-studio==1\.23\.\d+ ", text, flags=re.MULTILINE)
    assert "://" not in text
    pins = re.findall(r"^\S+==\S+(?: ;.*?)? \\$", text, flags=re.MULTILINE)
    names = re.findall(r"^[a-z]\S*", text, flags=re.MULTILINE)
    assert len(pins) == len(names) > 50


def test_installed_once_and_again_for_another_lock(tmp_path: Path, lock_path: Path) -> None:
    folder = tmp_path / "environments"
    messages: list[str] = []
    python = label_studio_python(folder, lock_path=lock_path, on_progress=messages.append)
    subprocess.run([str(python), "-c", "import iniconfig"], check=True)
    assert any("installing" in message for message in messages)

    messages.clear()
    assert label_studio_python(folder, lock_path=lock_path, on_progress=messages.append) == python
    assert messages == []

    lock_path.write_text(lock_path.read_text() + "# changed\n")
    other = label_studio_python(folder, lock_path=lock_path, on_progress=messages.append)
    assert other != python
    assert messages


def test_an_incomplete_environment_is_installed_again(tmp_path: Path, lock_path: Path) -> None:
    folder = tmp_path / "environments"
    environment = folder / environment_name(lock_path)
    (environment / "bin").mkdir(parents=True)
    (environment / "rubbish").touch()
    python = label_studio_python(folder, lock_path=lock_path)
    subprocess.run([str(python), "-c", "import iniconfig"], check=True)
    assert not (environment / "rubbish").exists()


def test_the_output_of_uv_is_shown_when_a_hash_does_not_match(tmp_path: Path, lock_path: Path) -> None:
    lock_path.write_text(re.sub(r"sha256:[0-9a-f]+", "sha256:" + "0" * 64, lock_path.read_text()))
    folder = tmp_path / "environments"
    with pytest.raises(DemoError, match=r"(?s)installation failed.*[Hh]ash"):
        label_studio_python(folder, lock_path=lock_path)
    assert not (folder / environment_name(lock_path) / ".complete").exists()


def test_environments_of_old_locks_are_deleted(tmp_path: Path, lock_path: Path) -> None:
    folder = tmp_path / "environments"
    for number in range(ENVIRONMENTS_KEPT + 1):
        old = folder / f"old-{number}"
        old.mkdir(parents=True)
        (old / ".complete").touch()
    label_studio_python(folder, lock_path=lock_path)
    kept = {path.parent.name for path in folder.glob("*/.complete")}
    assert len(kept) == ENVIRONMENTS_KEPT
    assert environment_name(lock_path) in kept
