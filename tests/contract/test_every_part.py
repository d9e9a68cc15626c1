"""Every segmenter and tracker, chosen by name, segments a clip: from a model folder as `ivos models pull` leaves it.

NanoTrack and XFeat have their published weights where these are beside the project. Other networks are the real ones
with random weights, and official code that is no package is replaced by stand-ins with its signatures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ls_backend.cli.main import app
from model_zoo.box_trackers import load_ostrack
from model_zoo.point_trackers import load_cotracker, load_pips, load_raft, load_tapir
from model_zoo.registry import load_registry
from model_zoo.sam import load_hq_sam, load_mobile_sam
from model_zoo.store import ModelStore
from pipeline.parts.auto import VIDEO_MODELS_BEST_FIRST
from pipeline.parts.registry import PART_KINDS, own_names
from tests.pipeline.evaluation.davis_folder import write_box_prompt, write_rendered_clip
from tests.stand_ins import CO_TRACKER, FOLDER, PIPS, TAPNET
from tests.tiny_onnx import write_nanotrack, write_vittrack
from tests.tiny_xfeat import write_like_xfeat
from tests.unverified import unverified
from tests.weights import MIRROR, has_shared_weights

N_FRAMES = 3
OSTRACK = FOLDER / "ostrack"


def saved(make: Callable[[], torch.nn.Module]) -> Callable[[Path], None]:
    """Writes the weights of a network under the name of the model's published file."""

    def write(folder: Path) -> None:
        torch.save(make().state_dict(), folder / load_registry()[folder.name].file().name)

    return write


def with_code(code: Path, make: Callable[[], torch.nn.Module]) -> Callable[[Path], None]:
    """As `saved`, with a stand-in for the official code."""

    def write(folder: Path) -> None:
        pinned = load_registry()[folder.name].code
        assert pinned is not None
        shutil.copytree(code, folder / "code" / pinned.commit)
        saved(make)(folder)

    return write


def mirrored(otherwise: Callable[[Path], object]) -> Callable[[Path], None]:
    """Pulls the published files from the mirror beside the project, or writes small ones where there is none."""

    def write(folder: Path) -> None:
        if has_shared_weights():
            ModelStore(folder.parent, str(MIRROR)).pull(folder.name)
        else:
            otherwise(folder)

    return write


WRITERS: dict[str, Callable[[Path], object]] = {
    "mobile_sam": saved(lambda: load_mobile_sam(None)),
    "sam_hq_vit_tiny": saved(lambda: load_hq_sam("vit_tiny", None)),
    "raft_small": saved(lambda: load_raft("raft_small", None)),
    "cotracker3": with_code(CO_TRACKER, lambda: load_cotracker(CO_TRACKER, None).model),
    "pips": with_code(PIPS, lambda: load_pips(PIPS, None)),
    "tapir": with_code(TAPNET, lambda: load_tapir(TAPNET, None)),
    "ostrack": with_code(OSTRACK, lambda: load_ostrack(OSTRACK, None)),
    "vittrack": write_vittrack,
    "nanotrack_v2": mirrored(write_nanotrack),
    "xfeat": mirrored(lambda folder: write_like_xfeat(folder / "xfeat.onnx")),
}
SEGMENTERS_ELSEWHERE = {"lite"} | {f"sam_vit_{kind}" for kind in "blh"} | {f"sam_hq_vit_{kind}" for kind in "blh"}
"""Covered by test_every_method.py, or of the same code as one that is covered; their networks are large."""
TRACKERS_ELSEWHERE = {"lucas_kanade", "opencv_template", "raft_large", "opencv_csrt"}
"""The defaults; the large variant of a covered one; and one that the installed OpenCV does not have."""
PARTS = [
    ("segmenter", "mobile_sam"),
    ("segmenter", "sam_hq_vit_tiny"),
    *(("point_tracker", name) for name in ("raft_small", "xfeat", "cotracker3", "pips", "tapir")),
    *(("box_tracker", name) for name in ("nanotrack_v2", "vittrack", "ostrack", "mask_box", "opencv_mil")),
]


@pytest.fixture(scope="module", autouse=True)
def models_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVOS_MODEL_DIR", str(folder))
        published = {"nanotrack_v2", "xfeat"} if has_shared_weights() else set()
        unverified(patch, *(set(WRITERS) - published))
        for name, write in WRITERS.items():
            (folder / name).mkdir()
            write(folder / name)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("davis")
    write_rendered_clip(folder, "short", N_FRAMES, object_ids=(1,))
    return folder


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*part, marks=pytest.mark.long if part[1] == "sam_hq_vit_tiny" else ()) for part in PARTS],
)
def test_a_part_is_chosen_by_its_name_alone(kind: str, name: str, data: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    words = ["segment", write_box_prompt(data, "short", prompts), "-p", prompts, "-o", tmp_path / "out"]
    words += ["--segmenter", "lite", "--device", "cpu", "--option", "refinement_iterations=1"]
    words += [f"--{kind.replace('_', '-')}", name]
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary[kind], summary["complete"]) == (name, True)
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == N_FRAMES


def test_no_part_is_left_out() -> None:
    covered = {name for _, name in PARTS} | SEGMENTERS_ELSEWHERE | TRACKERS_ELSEWHERE
    assert covered == {name for kind in PART_KINDS for name in own_names(kind)} - set(VIDEO_MODELS_BEST_FIRST)
