from __future__ import annotations

import pytest
import requests

from ls_backend.label_studio.connections import LabelStudioAuth, retrying_session, same_origin
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, PERSONAL_TOKEN, MediaServer


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
