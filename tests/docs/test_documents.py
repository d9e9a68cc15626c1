"""What the documents show a reader works: links, commands, the labelling config, files of prompts and answers."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ls_backend.cli.main import LazyGroup
from ls_backend.protocol.label_config import parse_label_config
from pipeline.batch.prompt_file import pipeline_prompts, read_prompt_file
from pipeline.streaming.protocol import kind_of, read_answer
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt
from tests.clips import REPOSITORY

DOCUMENTS = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
)
COMMANDS = sorted({line for path in DOCUMENTS for line in re.findall(r"\.venv/bin/(ivos .+)$", path.read_text(), re.M)})


def block(document: str, language: str) -> str:
    """The first fenced block of a language."""
    return str(re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / "docs" / document).read_text(), re.S)[0])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert "://" in target or (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line.split("`")[0], comments=True)[1:]
    command: Any = LazyGroup()
    options: set[str] = set()
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        command = command.get_command(None, words.pop(0))
        assert command is not None, line
        options |= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_labelling_config_works() -> None:
    config = parse_label_config(block("admin.md", "xml"))
    assert config.labels == ("obj1", "obj2")
    assert config.point_controls == {"pos", "neg"}


def test_the_file_of_prompts_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(block("segment.md", "json"))
    (tmp_path / "masks").mkdir()
    labels = np.zeros((480, 854), np.uint8)
    labels[10:90, 10:90] = 2
    Image.fromarray(labels).save(tmp_path / "masks" / "00003.png")
    prompts = pipeline_prompts(read_prompt_file(path), path, n_frames=50, size_hw_px=(480, 854))
    assert {type(prompt) for prompt in prompts} == {BoxPrompt, PointPrompt, ScribblePrompt, MaskPrompt}


def test_the_answers_are_answers() -> None:
    lines = block("online.md", "json").splitlines()
    assert [kind_of(read_answer(line.encode())) for line in lines] == ["point", "point", "box", "skip"]


def test_the_tables_of_settings_are_those_of_the_classes() -> None:
    checked = subprocess.run(
        [sys.executable, REPOSITORY / "docs" / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
