"""Seconds per frame of models, and what keeps one from being timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ls_backend.cli.main import app
from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.evaluation.speed.models import TASK_BY_NAME, SampleFrames, time_model
from tests.tiny_onnx import write_nanotrack
from tests.tiny_sam import register
from tests.unverified import unverified

N_FRAMES = 4


@pytest.fixture(scope="module")
def frames() -> SampleFrames:
    return SampleFrames.render(N_FRAMES)


@pytest.mark.parametrize(
    ("name", "weights", "n_frames"),
    [
        ("lucas_kanade", "none needed", N_FRAMES),
        ("opencv_template", "none needed", N_FRAMES),
        ("classical", "none needed", N_FRAMES - 1),
        ("raft_small", "random", N_FRAMES),
        ("sam_vit_b", "random", N_FRAMES - 1),
    ],
)
def test_a_model_is_timed(
    name: str, weights: str, n_frames: int, frames: SampleFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    speed = time_model(name, frames, ModelStore(tmp_path))
    assert (speed.task, speed.weights, speed.frames, speed.problem) == (TASK_BY_NAME[name], weights, n_frames, "")
    assert speed.seconds_per_frame is not None
    assert speed.seconds_per_frame > 0


def test_weights_that_are_here_are_used(frames: SampleFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unverified(monkeypatch, "nanotrack_v2")
    (tmp_path / "nanotrack_v2").mkdir()
    write_nanotrack(tmp_path / "nanotrack_v2")
    assert time_model("nanotrack_v2", frames, ModelStore(tmp_path)).weights == "published"


@pytest.mark.parametrize("name", ["xfeat", "pips", "vittrack"])
def test_what_random_weights_cannot_replace_is_said(name: str, frames: SampleFrames, tmp_path: Path) -> None:
    speed = time_model(name, frames, ModelStore(tmp_path))
    assert (speed.seconds_per_frame, speed.weights) == (None, "")
    assert f"ivos models pull {name}" in speed.problem


def test_a_slow_segmenter_gets_fewer_frames(
    frames: SampleFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    assert time_model("sam_vit_b", frames, ModelStore(tmp_path), budget_s=0).frames == 2


def test_every_model_of_the_registry_can_be_timed() -> None:
    assert {name: model.task for name, model in load_registry().items()}.items() <= TASK_BY_NAME.items()


def test_the_command_writes_what_it_shows(tmp_path: Path) -> None:
    words = ["models", "speed", "lucas_kanade", "xfeat", "--frames", "3", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "speed.json")], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "speed.json").read_text())
    timed, missing = document["models"]
    assert f"{timed['seconds_per_frame']:.3f}" in result.output
    assert missing["problem"] in result.output
    assert document["machine"]["device_name"]


def test_an_unknown_name_is_refused() -> None:
    result = CliRunner().invoke(app, ["models", "speed", "magic"], env={"COLUMNS": "400"})
    assert result.exit_code == 1
    assert "unknown model magic; known are classical, " in result.output
