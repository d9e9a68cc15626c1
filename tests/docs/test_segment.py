"""docs/segment.md says what the command does: the example, the keys, the options, the commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from ls_backend.cli.main import LazyGroup
from pipeline.batch.prompt_file import json_schema, pipeline_prompts, read_prompt_file
from pipeline.batch.summary import Summary
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt
from tests.clips import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "segment.md").read_text()


def keys_of_table(section: str) -> set[str]:
    """What stands in the first column below a heading."""
    body = DOCUMENT.split(f"## {section}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", body, re.M)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_example_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(re.findall(r"```json\n(.*?)```", DOCUMENT, re.S)[0])
    (tmp_path / "masks").mkdir()
    labels = np.zeros((480, 854), np.uint8)
    labels[10:90, 10:90] = 2
    Image.fromarray(labels).save(tmp_path / "masks" / "00003.png")
    prompts = pipeline_prompts(read_prompt_file(path), path, n_frames=50, size_hw_px=(480, 854))
    assert [type(prompt) for prompt in prompts] == [BoxPrompt, PointPrompt, PointPrompt, ScribblePrompt, MaskPrompt]


def test_every_key_of_both_files_is_documented() -> None:
    schema = json_schema()
    prompt_keys = {key for part in [schema, *schema["$defs"].values()] for key in part["properties"]}
    assert keys_of_table("The prompts file") == prompt_keys - {"objects", "prompts", "positive"}
    assert keys_of_table("What is written") == set(Summary.model_fields)


def test_the_commands_and_options_exist() -> None:
    lines = re.findall(r"^\.venv/bin/(ivos segment .*)$", DOCUMENT, re.M)
    assert len(lines) == 2
    command = LazyGroup().get_command(None, "segment")
    options = {option for parameter in command.params for option in parameter.opts}
    named = {word for line in lines for word in shlex.split(line)} | set(re.findall(r"`(--[a-z-]+)`", DOCUMENT))
    assert {word for word in named if word.startswith("--")} - {"--help"} <= options
