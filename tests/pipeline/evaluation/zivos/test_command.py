"""`ivos bench --protocol zivos` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import Result

from pipeline.video.sample_clip import render_sample_clip
from tests.clips import REPOSITORY
from tests.pipeline.evaluation.davis_folder import write_clip, write_rendered_clip
from tests.pipeline.evaluation.ivos_command import check_refused, ivos

N_FRAMES = 3
ASKS_ALWAYS = ("--option", "tau_u=0", "--option", "tau_p=0")
FIGURES = {"j", "f", "jf", "robustness", "noc", "answered", "idi_s", "aci", "aci_sum", "spearman_median"}
FIGURES |= {
    "spearman_quartiles",
    "spearman_objects",
    "spearman_of_score_median",
    "seconds_per_frame",
    "seconds_per_frame_by_part",
}
TOP = {"schema_version", "protocol", "complete", "method", "segmenter", "seed", "settings", "frames", "objects"}
TOP |= {"passes", "peak_rss_mib", "machine", "versions", "sequences"}
CLIP = {"name", "frames", "height_px", "width_px", "passes"}
OBJECT = {"object_id", "first_frame", "frames_present", "j", "f", "jf", "robustness", "calls", "answered", "spearman"}
OBJECT |= {"iou", "found_iou", "uncertainty", "spearman_of_score"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose last frame is blurred, so that its mask is less certain than those before."""
    folder = tmp_path_factory.mktemp("data") / "davis"
    sample = render_sample_clip(n_frames=40, size_hw_px=(120, 214))
    frames = sample.frames[:N_FRAMES].copy()
    frames[-1] = cv2.GaussianBlur(frames[-1], (0, 0), 3.0)
    write_clip(folder, "one", (sample.labels[:N_FRAMES] == 1).astype(np.uint8), frames)
    return folder


def zivos(*arguments: str | Path) -> Result:
    return ivos("bench", "--protocol", "zivos", "--device", "cpu", *arguments)


def test_three_passes_side_by_side(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    result = zivos("--data", data, "--start", "mask", "--corrections", "all", "--json", file, *ASKS_ALWAYS)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(file.read_text())
    assert set(document) == TOP
    assert (document["protocol"], document["method"], document["complete"]) == ("zivos", "lazy", True)
    assert list(document["passes"]) == ["requested", "random", "none"]
    (entry,) = document["sequences"]
    assert set(entry) == CLIP
    for kind, figures in document["passes"].items():
        assert set(figures) == FIGURES
        assert set(entry["passes"][kind]) == FIGURES | {"unreadable", "objects"}
        (found,) = entry["passes"][kind]["objects"]
        assert set(found) == OBJECT
        assert len(found["iou"]) == N_FRAMES
        assert figures["noc"] == len(found["calls"])
        assert figures["idi_s"] == pytest.approx(N_FRAMES / (figures["noc"] + 1) / 24)
        assert figures["jf"] == pytest.approx(found["jf"])
        assert set(figures["robustness"]) == {"0.1", "0.25", "0.5"}
    asked, random, alone = (document["passes"][kind]["noc"] for kind in ("requested", "random", "none"))
    assert (asked >= 1, random, alone) == (True, asked, 0)
    assert alone == document["passes"]["none"]["answered"]
    assert document["passes"]["none"]["jf"] > 0.6
    for figure in ("R@0.25", "NoC", "IDI, seconds", "ACI, mean of objects", "Spearman", "requested", "all objects"):
        assert figure in result.output


def test_a_long_clip_with_a_given_number_of_random_corrections(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    arguments = ("--corrections", "random", "--n-corrections", "1", "--long-frames", "6", "--frame-rate", "2")
    result = zivos("--data", data, "--method", "idpro", *arguments, "--json", file)
    assert result.exit_code == 0, result.output
    document = json.loads(file.read_text())
    assert list(document["passes"]) == ["random"]
    assert (document["frames"], document["settings"]["start"]) == (6, "clicks")
    figures = document["passes"]["random"]
    assert (figures["noc"], figures["answered"]) == (1, 1)
    assert figures["idi_s"] == pytest.approx(6 / 2 / 2)
    assert len(document["sequences"][0]["passes"]["random"]["objects"][0]["iou"]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "i_pt"), "method i_pt needs a whole clip; in a single pass work lazy, idpro"),
        (("--method", "best"), "unknown method 'best'"),
        (("--start", "scribbles"), "--protocol zivos starts from mask or clicks, but got --start scribbles"),
        (("--rounds", "2", "--next-frame", "random"), "--protocol zivos has no --rounds, --next-frame; leave it out"),
        (("--sequences", "swan"), "no sequence swan in"),
        (("--json", "no/such/folder/x.json"), "--json no/such/folder/x.json cannot be written"),
        (("--option", "tau_u=no"), "option tau_u of method lazy"),
        (("--protocol", "rounds", "--corrections", "none"), "--protocol rounds has no --corrections; leave it out"),
    ],
)
def test_wrong_options_are_refused_in_one_line(data: Path, arguments: tuple[str, ...], message: str) -> None:
    result = zivos("--data", data, *arguments)
    check_refused(result, message)


def test_ctrl_c_keeps_the_finished_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second clip is stopped on its first frame."""
    from pipeline.evaluation.zivos import single_pass as protocol

    both, file = tmp_path / "davis", tmp_path / "x.json"
    write_rendered_clip(both, "a-short", 2, object_ids=(1,))
    write_rendered_clip(both, "b-stopped", 2, object_ids=(1,))
    run_pass = protocol.run_pass

    def stopped(clip: Any, *arguments: Any, **options: Any) -> Any:
        if clip.name == "b-stopped":
            raise KeyboardInterrupt
        return run_pass(clip, *arguments, **options)

    monkeypatch.setattr(protocol, "run_pass", stopped)
    result = zivos("--data", both, "--corrections", "none", "--start", "mask", "--json", file)
    assert result.exit_code == 130
    assert "stopped; 1 of 2 clips are finished and kept" in result.output
    document = json.loads(file.read_text())
    assert document["complete"] is False
    assert [entry["name"] for entry in document["sequences"]] == ["a-short"]


def test_the_document_names_every_key() -> None:
    page = (REPOSITORY / "docs" / "bench.md").read_text().split("## `ivos bench --protocol zivos`")[1].split("\n## ")[0]
    missing = [key for key in sorted(FIGURES | TOP | CLIP | OBJECT) if not re.search(rf"[`.]{key}`", page)]
    assert missing == []
