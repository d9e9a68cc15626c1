"""Optional packages: what is there, and the line that says how to get what is not."""

from __future__ import annotations

from typing import Any

import pytest

import model_zoo.extras
from model_zoo.extras import MissingExtraError, is_installed, require, require_extra
from model_zoo.registry import load_registry

HOW = r"segmenter x needs the package {}, which is not installed; .*uv pip install 'label-studio-ivos\[hq\]'"


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Let one package not be installed."""
    real = model_zoo.extras.find_spec
    monkeypatch.setattr(model_zoo.extras, "find_spec", lambda module: None if module == missing else real(module))


@pytest.mark.parametrize("extra", ["", *sorted({model.extra for model in load_registry().values()} - {""})])
def test_every_extra_is_installed_here(extra: str) -> None:
    assert is_installed(extra)
    require_extra(extra, "any part")


@pytest.mark.parametrize("missing", ["segment_anything_hq", "timm"])
def test_one_missing_package_is_named_with_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, missing)
    assert not is_installed("hq")
    with pytest.raises(MissingExtraError, match=HOW.format(missing)):
        require_extra("hq", "segmenter x")


def test_what_an_installed_package_misses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(_name: str) -> Any:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr(model_zoo.extras, "import_module", import_module)
    with pytest.raises(MissingExtraError, match=HOW.format("timm")):
        require("segment_anything_hq", extra="hq", part="segmenter x")


def test_a_module_that_is_there_is_given() -> None:
    assert require("json", extra="hq", part="segmenter x").loads("1") == 1
