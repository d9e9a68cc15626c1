from __future__ import annotations

import pytest
from werkzeug.datastructures import Authorization

from ls_backend.app import is_allowed
from ls_backend.settings import Settings
from tests.ls_backend.conftest import PASSWORD


def basic(user: str, password: str) -> Authorization:
    return Authorization("basic", {"username": user, "password": password})


@pytest.mark.parametrize(
    ("path", "authorization", "allowed"),
    [
        ("/predict", basic("ivos", PASSWORD), True),
        ("/predict", basic("ivos", "wrong"), False),
        ("/predict", basic("wrong", PASSWORD), False),
        ("/predict", basic("ivös", "ü"), False),
        ("/predict", Authorization("bearer", token="x"), False),
        ("/predict", None, False),
        ("/setup", None, False),
        ("/nothing", None, False),
        ("/health", None, True),
        ("/webhook", None, True),
    ],
)
def test_credentials(settings: Settings, path: str, authorization: Authorization | None, allowed: bool) -> None:
    assert is_allowed(path, authorization, settings) is allowed
    assert is_allowed(path, authorization, settings.model_copy(update={"auth_disabled": True}))
