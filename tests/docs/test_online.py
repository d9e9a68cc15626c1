"""docs/online.md says what `ivos segment --online` does: events, answers, options."""

from __future__ import annotations

import re
import shlex
from typing import get_args

from ls_backend.cli.main import LazyGroup
from pipeline.batch.summary import OnlineSummary
from pipeline.streaming.protocol import Event, ObjectOnFrame, kind_of, read_answer
from tests.clips import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "online.md").read_text()
FLAT = " ".join(DOCUMENT.split())


def test_every_event_is_documented_with_its_keys() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", DOCUMENT.split("## Events")[1].split("\n## ")[0], re.M)
    documented = {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows[1:]}
    assert documented == {
        kind.model_fields["event"].default: set(kind.model_fields) - {"event"} for kind in get_args(Event)
    }
    said = FLAT.split("`objects` has ")[1].split(" of every object")[0]
    assert set(re.findall(r"`(\w+)`", said)) == set(ObjectOnFrame.model_fields)
    said = FLAT.split("`online` has ")[1].split(". ")[0]
    assert set(re.findall(r"`(\w+)`", said)) == set(OnlineSummary.model_fields)


def test_the_answers_are_answers() -> None:
    lines = re.findall(r"```json\n(.*?)```", DOCUMENT, re.S)[0].splitlines()
    assert [kind_of(read_answer(line.encode())) for line in lines] == ["point", "point", "box", "skip"]


def test_the_commands_and_options_exist() -> None:
    lines = re.findall(r"\.venv/bin/ivos (segment .*--online.*)$", DOCUMENT, re.M)
    assert len(lines) == 4
    command = LazyGroup().get_command(None, "segment")
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    named = {word for line in lines for word in shlex.split(line)} | set(re.findall(r"`(--[a-z-]+)`", DOCUMENT))
    assert {word for word in named if word.startswith("--")} <= options
