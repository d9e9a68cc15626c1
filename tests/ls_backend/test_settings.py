from __future__ import annotations

import pytest
from pydantic import ValidationError

from ls_backend.settings import Settings
from tests.ls_backend.conftest import PASSWORD


def test_credentials_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IVOS_BASIC_AUTH_USER", raising=False)
    with pytest.raises(ValidationError, match="IVOS_AUTH_DISABLED=true"):
        Settings()
    monkeypatch.setenv("IVOS_AUTH_DISABLED", "true")
    assert Settings().auth_disabled


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IVOS_PROT", "1", "unknown setting IVOS_PROT; known are .*IVOS_PORT"),
        ("IVOS_PORT", "70000", "less than or equal to 65535"),
        ("IVOS_RESPONSE_BUDGET_S", "100", "less than 100"),
        ("IVOS_STORE_LIMIT_MIB", "1", "greater than or equal to 16"),
        ("IVOS_EMBEDDING_DISK_MIB", "63", r"expected 0 \(none\), or 64 MiB or more"),
        ("IVOS_STORE_URL", "mysql://host/database", "expected postgresql://"),
        ("IVOS_BOX_TRACKER", "magic", "unknown box tracker 'magic'; known are .*opencv_mil"),
        ("IVOS_METHOD", "magic", "unknown method .magic.; known are .*i_pt"),
        ("IVOS_SEGMENTER", "magic", "unknown segmenter 'magic'; known are auto, .*lite, .*; choose one of these"),
    ],
)
def test_bad_values_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    assert settings.port == 9090
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=message):
        Settings()


def test_secrets_are_not_printed(settings: Settings) -> None:
    assert settings.basic_auth_pass.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(settings)
