"""The documents say what the code does: settings, labelling config, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ls_backend.label_config import parse_label_config
from ls_backend.settings import PREFIX, Settings
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
