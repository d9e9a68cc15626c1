"""Seconds of the segmenter by kind of question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tools.train_lite import speed as module
from tools.train_lite.__main__ import app

ASKED = {"embed", "box", "corrective_click", "lone_click", "propagation_1_object", "propagation_5_objects"}


def test_every_kind_of_question_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEATS", 1)
    write_rendered_clip(tmp_path, "one", 2, object_ids=(1,))
    words = ["speed", "--data", str(tmp_path), "--clip", "one", "--json", str(tmp_path / "speed.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["seconds"].keys() == ASKED
    assert all(0 < seconds < 60 for seconds in found["seconds"].values())
    assert found["seconds"]["propagation_5_objects"] > found["seconds"]["propagation_1_object"]
    assert found["machine"]["torch_threads"] == 1
