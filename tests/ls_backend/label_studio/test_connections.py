from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from ls_backend.label_studio.connections import Connections
from ls_backend.settings import Settings


def test_learned_connections_outlive_the_process(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "new" / "connections.json"
    connections = Connections(settings, file)
    assert connections.auth("5").host_url == ""
    connections.learn("5", "http://ls:8080/", "a" * 40)
    connections.learn("6", "", "")
    restarted = Connections(settings, file)
    assert restarted.auth("5").host_url == "http://ls:8080"
    assert restarted.auth("5").header() == "Token " + "a" * 40
    assert restarted.auth("5") is restarted.auth("5"), "an access token is traded once, not per session"
    assert restarted.auth("6").host_url == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_operators_word_goes_first(settings: Settings, tmp_path: Path) -> None:
    chosen = settings.model_copy(
        update={"label_studio_url": "http://inside:1", "label_studio_token": SecretStr("b" * 40)}
    )
    connections = Connections(chosen, tmp_path / "connections.json")
    connections.learn("5", "http://outside", "a" * 40)
    assert connections.auth("5").host_url == "http://inside:1"
    assert connections.auth("5").header() == "Token " + "b" * 40


@pytest.mark.parametrize("content", ["", "{", "[]", '{"5": {"host": 1}}', '{"5": 3}'])
def test_a_damaged_file_is_replaced(settings: Settings, tmp_path: Path, content: str) -> None:
    file = tmp_path / "connections.json"
    file.write_text(content)
    connections = Connections(settings, file)
    connections.learn("5", "http://ls", "t")
    assert Connections(settings, file).auth("5").host_url == "http://ls"
