"""Choosing a method and its parts by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from pipeline.methods.choice import MethodChoice, online_methods, works_online
from pipeline.parts import registry
from tests.built_methods import built


@pytest.mark.parametrize(
    ("name", "segmenter", "box_tracker", "device", "message"),
    [
        ("other", "lite", "mask_box", "cpu", "i_pt"),
        ("i_pt", "other", "mask_box", "cpu", "lite"),
        ("i_pt", "lite", "other", "cpu", "opencv_template"),
        ("i_pt", "lite", "mask_box", "abacus", "auto, cpu, cuda"),
        ("i_pt", "lite", "mask_box", "cuda:99", "cannot be used|use auto"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    name: str, segmenter: str, box_tracker: str, device: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        built(MethodChoice(name, segmenter, box_tracker=box_tracker), device=device)


def test_importing_the_session_does_not_import_torch() -> None:
    code = "import sys, pipeline.session.session, pipeline.methods.choice; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@dataclass(frozen=True)
class OfferedSettings:
    speed: int = 1


@dataclass(frozen=True)
class OfferedMethod:
    """A method as another package has it."""

    segmenter: Any
    embeddings: Any
    settings: OfferedSettings = OfferedSettings()


def test_a_package_can_offer_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{__name__}:OfferedMethod", registry.entry_point_group(registry.METHOD))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    method = built(MethodChoice("mine", "lite", options={"speed": "3"}))
    assert isinstance(method, OfferedMethod)
    assert method.settings == OfferedSettings(3)
    assert not works_online("mine")
    with pytest.raises(ValueError, match="unknown option box of method mine; known are speed"):
        built(MethodChoice("mine", "lite", options={"box": 1}))


def test_the_default_online_method_comes_first() -> None:
    assert online_methods() == ("lazy", "idpro")
