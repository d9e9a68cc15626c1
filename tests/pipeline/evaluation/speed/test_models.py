"""Seconds per frame of models, and what keeps one from being timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.evaluation.simulated_prompts import exact_box
from pipeline.evaluation.speed.models import TASK_BY_NAME, SampleFrames, time_model
from pipeline.video.sample_clip import render_sample_clip
from tests.pipeline.evaluation.ivos_command import check_refused, ivos
from tests.tiny_onnx import write_nanotrack
from tests.tiny_sam import register
from tests.unverified import unverified

N_FRAMES = 4


@pytest.fixture(scope="module")
def frames() -> SampleFrames:
    """As `SampleFrames.render` makes them, but small."""
    sample = render_sample_clip(N_FRAMES, (120, 214))
    return SampleFrames(tuple(sample.frames), exact_box(sample.labels[0] == 1))


@pytest.mark.parametrize(
    ("name", "weights", "budget_s", "n_frames"),
    [
        ("lucas_kanade", "none needed", 30, N_FRAMES),
        ("opencv_template", "none needed", 30, N_FRAMES),
        ("lite", "none needed", 0, 2),
        ("raft_small", "random", 30, N_FRAMES),
        ("sam_vit_b", "random", 30, N_FRAMES - 1),
    ],
    ids=["point tracker", "box tracker", "segmenter that is too slow", "random tracker", "random segmenter"],
)
def test_a_model_is_timed(
    name: str,
    weights: str,
    budget_s: float,
    n_frames: int,
    frames: SampleFrames,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch)
    speed = time_model(name, frames, ModelStore(tmp_path), budget_s=budget_s)
    assert (speed.task, speed.weights, speed.frames, speed.problem) == (TASK_BY_NAME[name], weights, n_frames, "")
    assert speed.seconds_per_frame is not None
    assert speed.seconds_per_frame > 0


def test_weights_that_are_here_are_used(frames: SampleFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unverified(monkeypatch, "nanotrack_v2")
    (tmp_path / "nanotrack_v2").mkdir()
    write_nanotrack(tmp_path / "nanotrack_v2")
    assert time_model("nanotrack_v2", frames, ModelStore(tmp_path)).weights == "published"


@pytest.mark.parametrize("name", ["xfeat", "pips", "vittrack"])
def test_a_model_that_needs_its_own_weights_says_so(name: str, frames: SampleFrames, tmp_path: Path) -> None:
    speed = time_model(name, frames, ModelStore(tmp_path))
    assert (speed.seconds_per_frame, speed.weights) == (None, "")
    assert f"ivos models pull {name}" in speed.problem


def test_every_model_of_the_registry_can_be_timed() -> None:
    assert {name: model.task for name, model in load_registry().items()}.items() <= TASK_BY_NAME.items()


def test_the_command_writes_what_it_shows(tmp_path: Path) -> None:
    words = ("models", "speed", "lucas_kanade", "xfeat", "--frames", "3", "--device", "cpu")
    result = ivos(*words, "--json", tmp_path / "speed.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "speed.json").read_text())
    timed, missing = document["models"]
    assert f"{timed['seconds_per_frame']:.3f}" in result.output
    assert missing["problem"] in result.output
    assert document["machine"]["device_name"]


def test_an_unknown_name_is_refused() -> None:
    check_refused(ivos("models", "speed", "magic"), "unknown model magic; known are edgetam, lite, ")
