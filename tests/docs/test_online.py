"""docs/online.md says what `ivos segment --online` does: events, answers, options, defaults."""

from __future__ import annotations

import re
import shlex
from typing import get_args

from ls_backend.cli.main import LazyGroup
from pipeline.batch.summary import OnlineSummary
from pipeline.methods import ONLINE_METHODS
from pipeline.streaming.answers import MAX_KEPT
from pipeline.streaming.image_pipe import MAX_IMAGE_MIB
from pipeline.streaming.input_queue import FRAMES_MIB
from pipeline.streaming.options import END_NAME, IDLE_S, RECONNECTS
from pipeline.streaming.protocol import Event, ObjectOnFrame, kind_of, read_answer
from pipeline.streaming.run_folder import REQUEST_IMAGES_MIB
from pipeline.streaming.sources import MAX_GAP
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


def test_the_defaults_are_those_of_the_code() -> None:
    for said in (
        f"`--idle-s` ({IDLE_S:g} s)",
        f"a file named `{END_NAME}`",
        f"`--reconnects` times ({RECONNECTS})",
        f"{MAX_IMAGE_MIB} MiB each at most",
        f"steps up to {MAX_GAP};",
        f"the newest {REQUEST_IMAGES_MIB} MiB are kept",
        f"({MAX_KEPT} of them at most)",
        f"Frames that wait take {FRAMES_MIB} MiB at most",
        f"`{ONLINE_METHODS[0]}` is the method where none is named",
    ):
        assert said in FLAT, said
    assert all(f"`{name}`" in FLAT for name in ONLINE_METHODS)
