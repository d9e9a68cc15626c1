"""The documents say what the code does: settings, labelling config, links."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from ls_backend.protocol.label_config import parse_label_config
from ls_backend.settings import Settings
from pipeline.methods.civos import CivosSettings
from pipeline.methods.concurrent_video import ConcurrentSettings
from pipeline.methods.i_pt import IPtSettings
from pipeline.methods.lazy_video import LazySettings
from pipeline.methods.sam2_video import Sam2Settings
from pipeline.methods.sam_pd import SamPdSettings
from pipeline.methods.sam_pt import SamPtSettings
from pipeline.settings import PREFIX
from tests.clips import REPOSITORY

DOCUMENTS = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
)
ADMIN = (REPOSITORY / "docs" / "admin.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| (`IVOS_.*?`) \| (.*?) \|", ADMIN, re.M))
    named = {name for cell in rows for name in re.findall(r"`(IVOS_\w+)`", cell)}
    assert named == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = rows.get(f"`{PREFIX}{name.upper()}`")
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert default == f"{field.default:g}", name


def test_the_documented_labelling_config_works() -> None:
    config = parse_label_config(re.findall(r"```xml\n(.*?)```", ADMIN, re.S)[0])
    assert config.labels == ("obj1", "obj2")
    assert config.point_controls == {"pos", "neg"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert "://" in target or (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("i_pt", IPtSettings()),
        ("sam_pt", SamPtSettings()),
        ("sam_pd", SamPdSettings()),
        ("idpro", ConcurrentSettings()),
        ("civos", CivosSettings()),
        ("lazy", LazySettings()),
        ("sam2", Sam2Settings()),
    ],
)
def test_every_option_of_a_method_is_documented_with_its_default(name: str, settings: object) -> None:
    text = (REPOSITORY / "docs" / "methods.md").read_text()
    section = text.split(f"### {name}\n")[1].split("\n#")[0]
    documented: dict[str, str] = {}
    for cell, defaults in re.findall(r"^\| (`.*?`) \| (.*?) \|", section, re.M):
        names = re.findall(r"`(\w+)`", cell)
        values = defaults.split(", ") if len(names) > 1 else [defaults]
        documented |= dict(zip(names, values, strict=True))
    shown = {field.name: getattr(settings, field.name) for field in fields(settings)}  # type: ignore[arg-type]
    assert documented == {key: str(list(v) if isinstance(v, tuple) else v) for key, v in shown.items()}
