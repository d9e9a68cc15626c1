"""Where a project's Label Studio is, its token, and requests to it: kept, private, repeated."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from ls_backend.label_studio.connections import Connections, LabelStudioAuth, retrying_session, same_origin
from ls_backend.settings import Settings
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, PERSONAL_TOKEN, MediaServer


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


@pytest.mark.parametrize(
    ("url", "other", "same"),
    [
        ("http://ls:8080/data/x", "http://ls:8080", True),
        ("http://ls/data", "http://ls:80/", True),
        ("https://ls:443", "https://ls", True),
        ("http://ls:8080", "http://ls:8081", False),
        ("http://ls", "https://ls", False),
        ("http://ls.evil.example", "http://ls", False),
        ("http://ls@evil.example", "http://ls", False),
    ],
)
def test_same_origin(url: str, other: str, same: bool) -> None:
    assert same_origin(url, other) is same


def test_legacy_token_goes_to_label_studio_only(media: MediaServer) -> None:
    media.files["a"] = b"x"
    session = retrying_session(0)
    auth = LabelStudioAuth(media.url, LEGACY_TOKEN)
    assert session.get(f"{media.url}/data/local-files/?d=a", auth=auth, timeout=5).ok
    assert media.requests == [("a", f"Token {LEGACY_TOKEN}")]
    elsewhere = LabelStudioAuth("http://label-studio.example", LEGACY_TOKEN)
    assert session.get(f"{media.url}/open/a", auth=elsewhere, timeout=5).ok
    assert media.requests[-1] == ("a", "")


def test_personal_token_is_traded_once_and_renewed_before_its_end(media: MediaServer) -> None:
    auth = LabelStudioAuth(media.url, PERSONAL_TOKEN)
    first = auth.header()
    assert first.startswith("Bearer ")
    assert auth.header() == first
    assert media.refreshes == 1
    media.access_life_s = 5.0
    short = LabelStudioAuth(media.url, PERSONAL_TOKEN)
    short.header()
    short.header()
    assert media.refreshes == 3


def test_refused_personal_token_is_an_error(media: MediaServer) -> None:
    with pytest.raises(requests.HTTPError, match="401"):
        LabelStudioAuth(media.url, "not.a.token").header()


def test_passing_faults_are_repeated(media: MediaServer) -> None:
    media.files["a"] = b"x"
    media.status["a"] = [503, 502]
    answer = retrying_session(3).get(
        f"{media.url}/data/local-files/?d=a", auth=LabelStudioAuth(media.url, LEGACY_TOKEN), timeout=5
    )
    assert answer.status_code == 200
    assert media.asked("a") == 3
