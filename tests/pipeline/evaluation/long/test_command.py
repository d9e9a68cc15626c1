"""`ivos bench long` as a user runs it, on small clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.evaluation.long.command import run_in_process
from pipeline.evaluation.options import BenchError
from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tests.pipeline.evaluation.ivos_command import check_refused, ivos


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two clips of 10 frames."""
    for name in ("a", "b"):
        write_rendered_clip(tmp_path / "data", name, 10, object_ids=(1,))
    return tmp_path / "data"


def test_two_lengths_are_measured_in_processes_of_their_own(data: Path, tmp_path: Path) -> None:
    words = ("bench", "long", "--data", data, "--sequences", "a,b", "--frames", "20,24", "--method", "idpro")
    result = ivos(*words, "--frame-disk-mib", "1", "--json", tmp_path / "long.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "long.json").read_text())
    assert document["complete"]
    assert [entry["frames"] for entry in document["lengths"]] == [20, 24]
    assert set(document["ratios"]) == {"peak_rss", "end_vs_start_20", "end_vs_start_24"}
    assert document["disk_inside_bound"]
    for entry in document["lengths"]:
        assert entry["peak_rss_mib"] > entry["rss_mib_before"] > 50
        assert entry["rss_mib"][-1][0] <= entry["frames"]
        assert entry["seconds_per_frame_start"] > 0
        assert entry["j_start"] > 0.5
        assert entry["frame_disk_mib"] <= 1
    assert [entry["frames_kept_on_disk"] for entry in document["lengths"]] == [20, 24], "1 MiB holds so small ones"
    for word in ("peak memory", "J, last tenth", "peak_rss: ", "disk: inside its bounds"):
        assert word in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frames", "300,many"], "--frames needs different lengths of 20 frames or more"),
        (["--frames", ""], "--frames needs different lengths"),
        (["--frames", "5,50"], "--frames needs different lengths"),
        (["--sequences", "c"], "no sequence c"),
        (["--embedding-disk-mib", "7"], "--embedding-disk-mib must be 0, or 64 or more"),
        (["--json", "/nowhere/long.json"], "cannot be written"),
        (["--method", "sam2", "--segmenter", "lite"], "cannot use the segmenter lite"),
    ],
)
def test_wrong_options_are_refused_in_one_line(words: list[str], message: str, data: Path) -> None:
    check_refused(ivos("bench", "long", "--data", data, "--sequences", "a", *words), message)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="ended with 1: KeyError: 'video'"):
        run_in_process({}, tmp_path, lambda _: None)
