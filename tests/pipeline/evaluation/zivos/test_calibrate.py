"""`ivos calibrate` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.clips import REPOSITORY
from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tests.pipeline.evaluation.ivos_command import check_refused, ivos

KEYS = {"schema_version", "complete", "method", "segmenter", "settings", "options", "thresholds", "left_out", "counts"}
KEYS |= {"spearman_median", "quantiles", "curves", "sequences", "machine", "versions", "memory_keys"}
JUDGED = {"threshold", "precision", "recall", "f1", "per_100_frames", "alarms", "events"}
TAUS = {"tau_u", "tau_p", "tau_m"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "davis"
    write_rendered_clip(folder, "one", 6, object_ids=(1,))
    write_rendered_clip(folder, "two", 6, object_ids=(2,))
    return folder


def calibrate(*arguments: str | Path) -> Result:
    return ivos("calibrate", "--device", "cpu", *arguments)


def test_thresholds_by_a_wanted_rate(data: Path, tmp_path: Path) -> None:
    """The rendered clips hold no failure: the rate gives tau_u, and nothing gives the others."""
    file = tmp_path / "x.json"
    result = calibrate("--data", data, "--calls-per-100-frames", "30", "--iou-bound", "0.05", "--json", file)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(file.read_text())
    assert set(document) == KEYS
    assert document["complete"] is True
    assert document["counts"] == {"clips": 2, "objects": 2, "frames": 12, "failures": 0, "failed_frames": 0} | {
        "falls": document["counts"]["falls"]
    }
    assert set(document["thresholds"]) == set(document["left_out"]) == set(document["curves"]) == TAUS
    tau_u = document["thresholds"]["tau_u"]
    assert 0 < tau_u["threshold"] < 1
    assert 0 < tau_u["per_100_frames"] <= 30
    assert document["options"][0] == f"tau_u={tau_u['threshold']:g}"
    assert f"--option tau_u={tau_u['threshold']:g}" in result.output
    assert document["thresholds"]["tau_m"]["threshold"] is None
    assert "no tau_m: 0 events in the clips, at least 5 are needed" in result.output
    curve = document["curves"]["tau_u"]
    assert all(set(point) == JUDGED for point in curve)
    rates = [point["per_100_frames"] for point in curve]
    assert rates == sorted(rates, reverse=True)
    keys = document["memory_keys"]
    # Two frames of each clip ask a third one.
    assert (keys["queries"], keys["temperature"], keys["top_k"]) == (4, 1.0, 20)
    assert set(keys["effective_cells"]) == {"1", "4", "16", "64"}
    assert 1 < keys["effective_cells"]["1"] < keys["effective_cells"]["16"] <= 20.001
    assert f"memory keys: mean |k|^2 {keys['mean_squared_norm']:.1f}, memory_temperature 1" in result.output
    changes = document["quantiles"]["change"]
    assert changes == sorted(changes)
    assert len(changes) == len(document["quantiles"]["at"])


def test_no_threshold_can_be_reached_in_the_passes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No threshold of the method can be reached, so that nothing is corrected or left out of the memory."""
    from pipeline.methods import choice as methods

    chosen: list[Any] = []

    def noted(choice: Any, **_: Any) -> Any:
        chosen.append(choice.options)
        raise ValueError("that is enough")

    monkeypatch.setattr(methods, "build_method", noted)
    result = calibrate("--data", data, "--option", "pseudo_agreement=0.7")
    assert "that is enough" in result.output
    assert chosen == [{"pseudo_agreement": "0.7", "tau_u": "inf", "tau_p": "inf", "tau_m": "inf"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--option", "tau_u=0.3"), "--option tau_u is what this command finds; leave it out"),
        (("--iou-bound", "1"), "an IoU and its fall must be between 0 and 1, but got 1.0 and 0.1"),
        (("--fall-frames", "0"), "at least 1 for a fall"),
        (("--calls-per-100-frames", "0"), "the wanted calls per 100 frames must be above 0"),
        (("--sequences", "swan"), "no sequence swan in"),
        (("--segmenter", "best"), "unknown segmenter 'best'"),
        (("--json", "no/such/folder/x.json"), "--json no/such/folder/x.json cannot be written"),
    ],
)
def test_wrong_options_are_refused_in_one_line(data: Path, arguments: tuple[str, ...], message: str) -> None:
    result = calibrate("--data", data, *arguments)
    check_refused(result, message)


def test_the_document_names_every_key_and_option() -> None:
    page = (REPOSITORY / "docs" / "bench.md").read_text().split("## `ivos calibrate`")[1].split("\n## ")[0]
    assert [key for key in sorted(KEYS | JUDGED | TAUS) if not re.search(rf"[`.]{key}`", page)] == []
    options = set(re.findall(r"--[a-z][a-z0-9-]+", calibrate("--help").output)) - {"--help"}
    assert len(options) > 10
    assert [option for option in sorted(options) if f"`{option}" not in page] == []
