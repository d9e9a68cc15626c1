"""``IVOS_SEGMENTER=auto`` in a running process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ls_backend.method_provider import MethodProvider
from ls_backend.settings import Settings
from model_zoo.sam import load_mobile_sam
from model_zoo.store import ModelStore
from tests.tiny_sam import register, save_checkpoint
from tests.unverified import put_here, unverified

Made = Callable[..., MethodProvider]


@pytest.fixture
def provider(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Made:
    """Makes a provider whose models are below the test's folder, and waits until its background work is over."""
    caplog.set_level(logging.INFO)

    def make(mirror: Path | str = "", **settings: object) -> MethodProvider:
        given = {"auth_disabled": True, "device": "cpu", "model_dir": tmp_path / "models", "model_mirror": str(mirror)}
        return MethodProvider(Settings.model_validate(given | settings))

    return make


def finished(provider: MethodProvider) -> str:
    """The model version once nothing goes on in the background."""
    until_s = time.monotonic() + 60
    while provider.is_pulling and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not provider.is_pulling
    return provider.current.model_version


def test_the_small_one_takes_over_when_it_is_here(
    provider: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    unverified(monkeypatch, "mobile_sam")
    (tmp_path / "mirror" / "mobile_sam").mkdir(parents=True)
    torch.save(load_mobile_sam(None).state_dict(), tmp_path / "mirror" / "mobile_sam" / "mobile_sam.pt")
    made = provider(tmp_path / "mirror")
    before = made.current
    assert before.model_version == "i_pt+lite"
    assert finished(made) == "i_pt+mobile_sam"
    assert made.current.method is not before.method
    assert "pulling mobile_sam" in caplog.text
    assert "mobile_sam is here" in caplog.text
    # The next start finds it and pulls nothing.
    caplog.clear()
    again = provider(tmp_path / "no mirror")
    assert (again.current.model_version, again.is_pulling) == ("i_pt+mobile_sam", False)


def test_offline_it_says_so_once(provider: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    assert finished(provider(tmp_path / "empty")) == "i_pt+lite"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "ivos models pull mobile_sam" in warnings[0]
    assert "IVOS_SEGMENTER=lite" in warnings[0]


def test_weights_that_are_none_do_not_stop_the_work(
    provider: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    unverified(monkeypatch, "mobile_sam")
    put_here(tmp_path / "mirror", "mobile_sam")
    (tmp_path / "mirror" / "mobile_sam" / "mobile_sam.pt").write_bytes(b"no weights at all")
    assert finished(provider(tmp_path / "mirror")) == "i_pt+lite"
    assert "could not be taken into use" in caplog.text


def test_closing_stops_the_download(
    provider: Made, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(_store: ModelStore, _model: str, report: Callable[[str, int, int | None], None]) -> None:
        while True:
            report("mobile_sam.pt", 1, None)
            time.sleep(0.01)

    monkeypatch.setattr(ModelStore, "pull", endless)
    made = provider()
    assert made.is_pulling
    made.close()
    assert not made.is_pulling
    assert "was stopped" in caplog.text


def test_a_named_segmenter_pulls_nothing(provider: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[str] = []
    monkeypatch.setattr(ModelStore, "pull", lambda _store, model, **_: pulled.append(model))
    assert finished(provider(segmenter="lite")) == "i_pt+lite"
    assert pulled == []


def test_a_large_model_on_a_cpu_is_warned_of(
    provider: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    unverified(monkeypatch, "sam_vit_b")
    register(monkeypatch)
    (tmp_path / "models" / "sam_vit_b").mkdir(parents=True)
    save_checkpoint(tmp_path / "models" / "sam_vit_b" / "sam_vit_b_01ec64.pth")
    assert finished(provider()) == "i_pt+sam_vit_b"
    assert "sam_vit_b takes long on a CPU; name one of lite, mobile_sam" in caplog.text
