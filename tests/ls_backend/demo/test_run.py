"""What `ivos demo` refuses before it starts anything: one clear line and nothing changed. And its secrets."""

from __future__ import annotations

import fcntl
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ls_backend.cli.main import app
from ls_backend.demo.local_server import DemoError
from ls_backend.demo.run import SECRETS_NAME, DemoSecrets


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@pytest.fixture
def ports() -> list[str]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return ["--port", str(one.getsockname()[1]), "--backend-port", str(two.getsockname()[1])]


def demo(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


def refusal(result: Result) -> str:
    """The one line on standard error."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    line, *rest = result.stderr.splitlines()
    assert rest == []
    assert line.startswith("ivos demo: ")
    return line


@pytest.mark.parametrize("option", ["--port", "--backend-port"])
def test_a_taken_port_is_named(tmp_path: Path, taken_port: int, ports: list[str], option: str) -> None:
    ports[ports.index(option) + 1] = str(taken_port)
    line = refusal(demo("--data-dir", tmp_path / "new", *ports))
    assert f"port {taken_port} " in line
    assert line.endswith(option)
    assert not (tmp_path / "new").exists()


def test_one_port_for_both_servers(tmp_path: Path) -> None:
    line = refusal(demo("--data-dir", tmp_path / "new", "--port", 9090, "--backend-port", 9090))
    assert "both 9090" in line


def test_two_clips_at_once(tmp_path: Path, ports: list[str]) -> None:
    line = refusal(demo("--data-dir", tmp_path / "new", "--video", "a.mp4", "--frames", "b", *ports))
    assert "not both" in line


def test_a_label_given_twice(tmp_path: Path, ports: list[str]) -> None:
    line = refusal(demo("--data-dir", tmp_path / "new", "--label", "car", "--label", "car", *ports))
    assert "--label: " in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("option", "kind"), [("--video", "file"), ("--frames", "folder")])
def test_a_missing_clip(tmp_path: Path, ports: list[str], option: str, kind: str) -> None:
    line = refusal(demo("--data-dir", tmp_path / "new", option, tmp_path / "missing", *ports))
    assert f"{option} {tmp_path / 'missing'}: there is no such {kind}" in line
    assert not (tmp_path / "new").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, ports: list[str]) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("mine")
    line = refusal(demo("--data-dir", tmp_path, *ports))
    assert "holds other files" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_another_demo_uses(tmp_path: Path, ports: list[str]) -> None:
    DemoSecrets.load_or_create(tmp_path / SECRETS_NAME)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = refusal(demo("--data-dir", tmp_path, *ports))
    assert "another demo is using" in line


def test_a_file_in_place_of_the_folder(tmp_path: Path, ports: list[str]) -> None:
    (tmp_path / "file").touch()
    assert "cannot be used" in refusal(demo("--data-dir", tmp_path / "file", *ports))


def test_wrong_settings_of_the_caller_are_named_before_anything_starts(
    tmp_path: Path, ports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IVOS_COLOUR", "blue")
    line = refusal(demo("--data-dir", tmp_path / "new", *ports))
    assert "IVOS_COLOUR" in line
    assert not (tmp_path / "new").exists()


def test_secrets_are_made_once_and_readable_by_the_user_only(tmp_path: Path) -> None:
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
def test_a_damaged_secrets_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(DemoError, match=r"secrets\.json is damaged"):
        DemoSecrets.load_or_create(path)
    assert path.read_text() == content


def test_a_secrets_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"missing.*secrets\.json"):
        DemoSecrets.load_or_create(tmp_path / "missing" / "secrets.json")
