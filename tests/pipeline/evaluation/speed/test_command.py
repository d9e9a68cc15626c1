"""`ivos bench speed` as a user runs it, with a small SAM and small video models of the real classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from typer.testing import Result

import pipeline.methods.choice
from pipeline.evaluation.speed.command import METHOD
from pipeline.evaluation.speed.measurement import SpeedBench
from pipeline.evaluation.speed.report import implausible
from tests import tiny_sam2
from tests.clips import REPOSITORY
from tests.pipeline.evaluation.ivos_command import check_refused, ivos
from tests.pipeline.evaluation.speed.box_method import BoxMethod, BoxSegmenter
from tests.tiny_sam import register
from tests.unverified import unverified

N_FRAMES, N_OBJECTS = 5, 2
RATIOS = {
    "round1_vs_encoder",
    "ten_objects_vs_one",
    "later_round_vs_round1",
    "first_mask_vs_decoder",
    "encoder_busy",
    "memory_share",
}


def speed(*arguments: str | Path) -> Result:
    """Run the command on a small SAM."""
    words = ["--device", "cpu", "--segmenter", "sam_vit_b", "--frames", str(N_FRAMES), "--objects", str(N_OBJECTS)]
    return ivos("bench", "speed", *words, *arguments)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The document of one run of everything, and what was shown."""
    folder, file = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("out") / "speed.json"
    for name in tiny_sam2.MODELS:
        tiny_sam2.save_folder(folder / name, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVOS_MODEL_DIR", str(folder))
        unverified(patch, *tiny_sam2.MODELS)
        register(patch, width=16, depth=1)
        result = speed("--json", file)
    assert result.exit_code == 0, result.output
    return json.loads(file.read_text()), result.output


def test_every_ratio_is_the_quotient_of_its_raw_seconds(measured: tuple[dict[str, Any], str]) -> None:
    document, _ = measured
    seconds, counts = document["seconds"], document["counts"]
    assert set(document["ratios"]) == set(document["targets"]) == set(document["met"]) == RATIOS
    (round_1_s,) = seconds["round1_one_object"]
    (later_s,), (n_propagated,) = seconds["later_round"], counts["later_round_frames"]
    later_s = [s / n_frames for s, n_frames in zip(later_s, n_propagated, strict=True)]
    (encoder_s,), (decoder_s,), (first_mask_s,) = (
        seconds[key] for key in ("encoder_per_frame", "decoder_call", "first_mask")
    )
    assert len(encoder_s) == N_FRAMES
    by_part = seconds["round1_one_object_by_part"] + seconds["later_rounds_by_part"]
    expected = {
        "round1_vs_encoder": round_1_s / N_FRAMES / fmean(encoder_s),
        "ten_objects_vs_one": seconds["round1_many_objects"][0] / round_1_s,
        "later_round_vs_round1": median(later_s) / (round_1_s / N_FRAMES),
        "first_mask_vs_decoder": median(first_mask_s) / median(decoder_s),
        "encoder_busy": seconds["round1_one_object_encoder"][0] / round_1_s,
        "memory_share": max(each["memory"] / sum(each.values()) for each in by_part),
    }
    for name, ratio in document["ratios"].items():
        assert ratio == pytest.approx(expected[name], rel=1e-3), name
        ((kind, limit),) = document["targets"][name].items()
        assert document["met"][name] == (ratio <= limit if kind == "at_most" else ratio >= limit)


def test_no_frame_is_embedded_twice_and_every_round_reaches_all_frames(measured: tuple[dict[str, Any], str]) -> None:
    counts = measured[0]["counts"]
    assert counts["embeddings_per_frame"] == 1
    assert counts["embeddings_one_object"] == counts["embeddings_many_objects"] == [N_FRAMES]
    assert counts["round1_frames_one_object"] == counts["round1_frames_many_objects"] == [N_FRAMES]
    # All frames without a prompt follow again: one fewer with every round.
    assert counts["later_round_frames"] == [[3, 2, 1]]
    assert counts["masks"] == [N_OBJECTS * N_FRAMES]
    assert measured[0]["problems"] == {}


def test_the_method_is_compared_with_baselines(measured: tuple[dict[str, Any], str]) -> None:
    document, shown = measured
    rows = {(row["name"], row["objects"]): row for row in document["side_by_side"]}
    own = f"{METHOD}, sam_vit_b"
    naive = "loop over objects, no cache"
    assert set(rows) == {
        *((f"{own}, round 1", n) for n in (1, N_OBJECTS)),
        (f"{own}, a later round", 1),
        *((naive, n) for n in (1, N_OBJECTS)),
        *((f"sam2, {name}", 1) for name in ("sam2_1_hiera_tiny", "edgetam")),
    }
    for (name, _), row in rows.items():
        assert row["seconds_per_frame"] > 0
        assert row["problem"] == ""
        assert row["weights"] == ("published" if name.startswith("sam2") else "random")
        assert row["frames_timed"] == (N_FRAMES if name.startswith(own) else 2 if name == naive else 4)
        assert f"{row['seconds_per_frame']:.3f}" in shown
    for name, ratio in document["ratios"].items():
        assert f"{ratio:.3f}" in shown, name


def test_machine_memory_and_disk_are_reported(measured: tuple[dict[str, Any], str]) -> None:
    document, _ = measured
    memory = document["memory_mib"]
    assert memory["one_object_embeddings"] == pytest.approx(4 * N_FRAMES)
    assert memory["many_objects_session"] > memory["one_object_session"] > 0
    assert memory["peak_rss"] >= memory["many_objects_peak_rss"] >= memory["one_object_peak_rss"] > 100
    disk = document["disk_mib"]
    assert 0 < disk["frames"] < 2
    assert disk["many_objects_stored"] > disk["one_object_stored"] > 0
    assert document["clip"] == {"name": "rendered", "frames": N_FRAMES, "height_px": 480, "width_px": 854}
    assert (document["method"], document["weights"], document["repeats"]) == (METHOD, "random", 1)
    assert document["machine"]["torch_threads"] >= 1
    assert document["machine"]["load_average_before"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", document["date"])
    assert document["complete"] is True


def keys_of(document: Any) -> set[str]:
    """Keys at any depth, but not those that are names of parts, packages or quotients' limits."""
    if isinstance(document, list):
        return {key for each in document for key in keys_of(each)}
    if not isinstance(document, dict):
        return set()
    inner = (keys_of(value) for key, value in document.items() if key not in ("versions", "problems", "met"))
    return set(document).union(*inner)


def test_the_document_names_every_key_and_option(measured: tuple[dict[str, Any], str]) -> None:
    page = (REPOSITORY / "docs" / "bench.md").read_text()
    assert [key for key in sorted(keys_of(measured[0])) if not re.search(rf"[`.]{key}`", page)] == []
    shown = ivos("bench", "speed", "--help").output
    options = set(re.findall(r"--[a-z][a-z-]+", shown)) - {"--help"}
    assert len(options) == 11
    assert [option for option in sorted(options) if f"`{option}" not in page] == []


def quick_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command work with a method that computes nothing."""
    monkeypatch.setattr(pipeline.methods.choice, "build_method", lambda *_, **__: BoxMethod(BoxSegmenter(0.01, 0.01)))


def failing(name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one part end with an error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(SpeedBench, name, fail)


def test_a_part_that_fails_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_parts(monkeypatch)
    failing("_decode", RuntimeError("no room\nleft"), monkeypatch)
    result = speed("--no-baselines", "--json", tmp_path / "x.json")
    assert result.exit_code == 1
    assert "decoder: RuntimeError: no room left" in result.output
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["problems"]["decoder"] == "RuntimeError: no room left"
    ratios = document["ratios"]
    assert {name for name in RATIOS if ratios[name] is None} == {"first_mask_vs_decoder"}


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_parts(monkeypatch)
    many = SpeedBench._many_objects
    calls: list[int] = []

    def stop_after_warming_up(bench: SpeedBench, current: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        many(bench, current)

    monkeypatch.setattr(SpeedBench, "_many_objects", stop_after_warming_up)
    result = speed("--no-baselines", "--json", tmp_path / "x.json")
    assert result.exit_code == 130
    assert "stopped; what was measured before is kept" in result.output
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["complete"] is False
    assert {name for name in RATIOS if document["ratios"][name] is None} == {"ten_objects_vs_one"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "tpu"), "device 'tpu' is none of auto, cpu, cuda, cuda:N, mps"),
        (("--method", "best"), "unknown method 'best'"),
        (("--segmenter", "best"), "unknown segmenter 'best'"),
        (("--json", "no/such/folder/x.json"), "--json no/such/folder/x.json cannot be written"),
        (("--clip", "no/such/folder"), "no/such/folder"),
    ],
)
def test_wrong_options_are_refused_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = speed(*arguments)
    check_refused(result, message)


def twice(counts: dict[str, Any]) -> None:
    counts["embeddings_per_frame"] = 2


def left_out(counts: dict[str, Any]) -> None:
    counts["round1_frames_many_objects"] = [10, 9]


def nowhere(counts: dict[str, Any]) -> None:
    counts["empty_masks"] = [0, 40]


@pytest.mark.parametrize(
    ("change", "part", "problem"),
    [
        (twice, "embeddings", "a frame was embedded 2 times in one session"),
        (left_out, "round1_frames_many_objects", "a round has masks of 9 frames, not of all 10"),
        (nowhere, "masks", "40 of 200 masks are empty: objects that are nowhere cost less than others"),
    ],
)
def test_implausible_figures_are_named(change: Callable[[dict[str, Any]], None], part: str, problem: str) -> None:
    counts: dict[str, Any] = {
        "embeddings_per_frame": 1,
        "round1_frames_one_object": [10, 10],
        "round1_frames_many_objects": [10, 10],
        "masks": [100, 100],
        "empty_masks": [0, 5],
    }
    document = {"clip": {"frames": 10}, "counts": counts}
    assert implausible(document) == {}
    change(counts)
    assert implausible(document) == {part: problem}
