"""Answers of `ivos segment --online`: what they are parsed to, and the errors of invalid ones."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.streaming.protocol import BoxAnswer, PointAnswer, SkipAnswer, prompt_of, protocol_schema, read_answer
from pipeline.types import BoxPrompt, PointPrompt

HERE = {"object_id": 1, "frame_index": 4}


def line(**keys: Any) -> bytes:
    return json.dumps({**HERE, **keys}).encode()


@pytest.mark.parametrize(
    ("data", "answer", "prompt"),
    [
        (line(x_px=3, y_px=4.5), PointAnswer(**HERE, x_px=3, y_px=4.5), PointPrompt(1, 4, 3, 4.5, True)),
        (
            line(x_px=3, y_px=4, positive=False),
            PointAnswer(**HERE, x_px=3, y_px=4, positive=False),
            PointPrompt(1, 4, 3, 4, False),
        ),
        (
            line(box_xyxy_px=[1, 2, 3, 4]),
            BoxAnswer(**HERE, box_xyxy_px=(1, 2, 3, 4)),
            BoxPrompt(1, 4, (1, 2, 3, 4)),
        ),
        (line(skip=True), SkipAnswer(**HERE, skip=True), None),
    ],
)
def test_answers_become_prompts(data: bytes, answer: PointAnswer | BoxAnswer | SkipAnswer, prompt: object) -> None:
    assert read_answer(data) == answer
    assert prompt_of(answer) == prompt


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1, 2]", "expected an object with object_id, frame_index and either x_px and y_px, or box_xyxy_px, or skip"),
        (line(), "expected an object with object_id"),
        (line(x_px=1, y_px=1, box_xyxy_px=[1, 2, 3, 4]), "expected an object with object_id"),
        (line(x_px=1), "y_px: missing"),
        (line(x_px=1, y_px="2"), "y_px: expected a valid number, but got '2'"),
        (line(x_px=1, y_px=2, frame_index=-1), "frame_index: expected greater than or equal to 0, but got -1"),
        (line(x_px=1, y_px=2, object_id=256), "object_id: expected less than or equal to 255, but got 256"),
        (line(x_px=1, y_px=2, colour="red"), "colour: unknown key"),
        (line(x_px=float("nan"), y_px=2), "x_px: expected a finite number, but got nan"),
        (line(skip=False), "skip: expected True, but got False"),
        (line(box_xyxy_px=[1, 2, 3]), "box_xyxy_px.3: missing"),
    ],
)
def test_errors_of_invalid_answers(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_answer(data)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(read_answer(data), PointAnswer | BoxAnswer | SkipAnswer)


def test_the_schema_has_both_directions() -> None:
    schema = protocol_schema()
    assert set(schema) == {"event", "answer"}
    assert set(schema["event"]["discriminator"]["mapping"]) == {
        "start",
        "frame",
        "request",
        "answer_taken",
        "answer_refused",
        "end",
    }
    assert {"PointAnswer", "BoxAnswer", "SkipAnswer"} == set(schema["answer"]["$defs"])
