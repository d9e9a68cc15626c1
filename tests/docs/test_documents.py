"""The documents say what the code does: tables of settings, labelling config, links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ls_backend.protocol.label_config import parse_label_config
from tests.clips import REPOSITORY

DOCUMENTS = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
)
ADMIN = (REPOSITORY / "docs" / "admin.md").read_text()


def test_the_documented_labelling_config_works() -> None:
    config = parse_label_config(re.findall(r"```xml\n(.*?)```", ADMIN, re.S)[0])
    assert config.labels == ("obj1", "obj2")
    assert config.point_controls == {"pos", "neg"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert "://" in target or (document.parent / target).exists(), f"{document}: {target}"


def test_the_tables_of_settings_are_those_of_the_classes() -> None:
    checked = subprocess.run(
        [sys.executable, REPOSITORY / "docs" / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
