"""`ivos bench memory` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tests.pipeline.evaluation.ivos_command import check_refused, ivos

N_FRAMES = 13


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("davis")
    write_rendered_clip(folder, "ours", 4, object_ids=(1,))
    write_rendered_clip(folder, "other", 2, object_ids=(2,))
    return folder


def memory(data: Path, *arguments: str | Path) -> Result:
    return ivos("bench", "memory", "--device", "cpu", "--data", data, "--frames", str(N_FRAMES), *arguments)


@pytest.mark.parametrize("method", ["idpro", "i_pt"])
def test_both_policies_on_one_clip(data: Path, tmp_path: Path, method: str) -> None:
    file, plot = tmp_path / "memory.json", tmp_path / "memory.png"
    asked = ("--method", method, "--slots", "2", "--interval", "2", "--json", file, "--plot", plot)
    result = memory(data, "--sequences", "ours,other", *asked)
    assert result.exit_code == 0, result.output
    document = json.loads(file.read_text())
    assert document["complete"] is True
    found = document["clip"]
    assert (found["name"], found["frames"], found["objects"]) == ("ours+other", N_FRAMES, 1)
    assert document["clip"]["absent"] == [*[False] * 7, *[True] * 3, *[False] * 3]
    assert list(document["policies"]) == ["fifo", "readmem"]
    for found in document["policies"].values():
        assert found["jf_present"] > 0.4
        assert [len(curve) for curve in found["curves"].values()] == [N_FRAMES, N_FRAMES]
        assert len(found["kept"]["1"]) == 2
        assert found["log_det"] is not None
    assert "memory_slots=2" in document["settings"]["options"]
    assert Image.open(plot).size == (1500, 900)
    for word in ("fifo", "readmem", "jf_present", "log_det"):
        assert word in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sequences", "nobody"), "no sequence nobody"),
        (("--sequences", ","), "--sequences needs a clip"),
        (("--sequences", "ours", "--option", "memory_policy=fifo"), "memory_policy must be left out"),
        (("--sequences", "ours", "--method", "sam_pd"), "unknown option"),
        (("--sequences", "ours", "--plot", "memory.exe"), "must end in one of"),
    ],
)
def test_wrong_options_are_refused_in_one_line(data: Path, arguments: tuple[str, ...], said: str) -> None:
    check_refused(memory(data, *arguments), said)
