"""Methods and parts by name: the project's own and other packages'."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import pipeline.parts.registry
from model_zoo.store import ModelStore
from pipeline.parts.context import PartContext
from pipeline.parts.registry import KINDS, PART_KINDS, build_part, entry_point_group, known_names, load, own_names
from pipeline.trackers.boxes.mask_box import MaskBox
from tests.built_methods import NOWHERE

CONTEXT = PartContext(NOWHERE)


def build_offered(context: PartContext) -> tuple[str, PartContext]:
    """A factory as another package has it."""
    return "offered", context


def offer(monkeypatch: pytest.MonkeyPatch, kind: str, **targets: str) -> None:
    """Let installed packages offer parts: name and what it points to; ``name__2`` is a second offer of the name."""
    group = entry_point_group(kind)
    points = [EntryPoint(name.removesuffix("__2"), target, group) for name, target in targets.items()]
    monkeypatch.setattr(
        pipeline.parts.registry, "entry_points", lambda group: [each for each in points if each.group == group]
    )


HERE = f"{__name__}:build_offered"


@pytest.mark.parametrize("kind", KINDS)
def test_every_own_name_can_be_loaded(kind: str) -> None:
    assert all(callable(load(kind, name)) for name in own_names(kind))


@pytest.mark.parametrize("kind", PART_KINDS)
def test_a_package_can_offer_every_kind_of_part(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, kind, mine=HERE)
    assert known_names(kind) == (*own_names(kind), "mine")
    assert build_part(kind, "mine", CONTEXT) == ("offered", CONTEXT)


def test_the_projects_own_name_keeps_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "box_tracker", mask_box=HERE)
    assert known_names("box_tracker") == own_names("box_tracker")
    assert isinstance(build_part("box_tracker", "mask_box", CONTEXT), MaskBox)


@pytest.mark.parametrize(
    ("offers", "message"),
    [
        ({}, r"unknown box tracker 'mine'; known are mask_box, "),
        ({"mine": "no_such_package_x:build"}, r"cannot be loaded \(ModuleNotFoundError.*repair or uninstall"),
        ({"mine": f"{__name__}:no_such_name"}, r"cannot be loaded \(AttributeError"),
        ({"mine": HERE, "mine__2": "other:build"}, r"offered by more than one package .*; uninstall all but one"),
    ],
)
def test_what_cannot_be_built_is_said(offers: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "box_tracker", **offers)
    with pytest.raises(ValueError, match=message):
        build_part("box_tracker", "mine", CONTEXT)


def test_metadata_without_names_asks_for_another_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.parts.registry, "_own_entry_points", pipeline.parts.registry.EntryPoints)
    with pytest.raises(ValueError, match=r"lists no box tracker; install it again with `make install`"):
        own_names("box_tracker")


def test_names_settings_and_online_methods_are_known_without_torch() -> None:
    code = (
        "import sys\n"
        "from pipeline.methods.choice import online_methods, parts_of, settings_class\n"
        "from pipeline.parts.registry import KINDS, known_names\n"
        "assert all(known_names(kind) for kind in KINDS)\n"
        "assert online_methods() == ('lazy', 'idpro')\n"
        "assert parts_of('sam_pt') == ('segmenter', 'point_tracker')\n"
        "assert settings_class('i_pt').__name__ == 'IPtSettings'\n"
        "assert not {'torch', 'scipy', 'segment_anything'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_random_weights_stand_in_only_where_asked_and_missing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert PartContext(store, random_weights=True).weights("sam_vit_b") is None
    with pytest.raises(ValueError, match="ivos models pull sam_vit_b"):
        PartContext(store).weights("sam_vit_b")
