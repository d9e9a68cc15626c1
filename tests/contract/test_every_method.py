"""Every method answers Label Studio, `ivos segment` and `ivos bench`, with SAM and with the download-free segmenter.

SAM and SAM 2 are their packages' own code with small random weights: shapes, prompts and memory are real, the masks
mean nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from ls_backend.app import create_app
from ls_backend.cli.main import app
from ls_backend.settings import Settings
from pipeline.parts.registry import METHOD, own_names
from tests import tiny_sam2
from tests.contract.conftest import CREDENTIALS
from tests.contract.replay import Replayer, masks_of
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer
from tests.pipeline.evaluation.davis_folder import write_box_prompt, write_rendered_clip
from tests.tiny_sam import register, save_checkpoint
from tests.unverified import unverified

N_FRAMES = 3
QUICK = "refinement_iterations=1"
OF_SEGMENTERS = [name for name in own_names(METHOD) if name != "sam2"]
PAIRS = [
    *((method, segmenter) for method in OF_SEGMENTERS for segmenter in ("lite", "sam_vit_b")),
    *(("sam2", model) for model in tiny_sam2.MODELS),
]
FEW = {("i_pt", "lite"), ("idpro", "sam_vit_b"), ("sam2", tiny_sam2.MODELS[0])}
ONE_OF_EACH = FEW | {(method, "lite") for method in OF_SEGMENTERS}


def every_pair(*, without_long: set[tuple[str, str]]) -> pytest.MarkDecorator:
    """All pairs; those that are not named are marked `long`."""
    cases = [pytest.param(*pair, marks=() if pair in without_long else pytest.mark.long) for pair in PAIRS]
    return pytest.mark.parametrize(("method", "segmenter"), cases)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth")


@pytest.fixture
def parts(method: str, segmenter: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command-line options of a method and a segmenter."""
    words = ["--method", method, "--segmenter", segmenter, "--device", "cpu"]
    if segmenter == "sam_vit_b":
        register(monkeypatch)
        words += ["--checkpoint", str(checkpoint)]
    return words if method == "sam2" else [*words, "--option", QUICK]


@pytest.fixture(scope="module", autouse=True)
def models_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small models of SAM 2 stand where `ivos models pull` would put the published ones."""
    folder = tmp_path_factory.mktemp("models")
    for name in tiny_sam2.MODELS:
        tiny_sam2.save_folder(folder / name, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVOS_MODEL_DIR", str(folder))
        unverified(patch, *tiny_sam2.MODELS)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of three frames with one object, in the layout of DAVIS."""
    folder = tmp_path_factory.mktemp("davis")
    write_rendered_clip(folder, "short", N_FRAMES, object_ids=(1,))
    return folder


def ivos(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})


@every_pair(without_long=ONE_OF_EACH)
def test_label_studio_gets_masks(
    method: str, segmenter: str, checkpoint: Path, media: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, password = CREDENTIALS
    if segmenter == "sam_vit_b":
        register(monkeypatch)
    settings = Settings(
        basic_auth_user=user,
        basic_auth_pass=SecretStr(password),
        cache_dir=tmp_path,
        method=method,
        segmenter=segmenter,
        device="cpu",
        checkpoint=checkpoint if segmenter == "sam_vit_b" else None,
    )
    replayer = Replayer(create_app(settings), CREDENTIALS, media.url, LEGACY_TOKEN)
    assert replayer.post("/setup", replayer.body("setup")).get_json() == {"model_version": f"{method}+{segmenter}"}
    masks = masks_of(replayer.predict("first_box")[0]["result"], "obj1")
    assert len({region["item_index"] for region in masks}) == len(masks) > 0


@every_pair(without_long=FEW)
def test_a_folder_of_frames_is_segmented(parts: list[str], data: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    frames = write_box_prompt(data, "short", prompts)
    result = ivos("segment", frames, "--prompts", prompts, "--output", tmp_path / "out", *parts)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == N_FRAMES
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"]


@every_pair(without_long=FEW)
def test_the_bench_measures_it(parts: list[str], data: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    result = ivos("bench", "--data", data, "--rounds", "1", "--json", target, *parts)
    assert result.exit_code == 0, result.output
    figures = json.loads(target.read_text())
    assert (figures["method"], figures["segmenter"]) == (parts[1], parts[3])
    assert 0.0 <= figures["rounds"][0]["jf"] <= 1.0
    assert figures["seconds_per_frame_by_part"]["segment"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "magic"), "known are civos, i_pt, idpro, lazy, sam2, sam_pd, sam_pt"),
        (("--segmenter", "sam_vit_b"), "sam_vit_b are not on this machine; .*ivos models pull sam_vit_b"),
        (("--method", "sam2"), "method sam2 cannot use the segmenter lite; choose one of sam2_1_hiera_large, "),
        (("--segmenter", "edgetam"), "edgetam is a video model, .* choose the method sam2"),
        (("--point-tracker", "pips"), "ivos models pull pips"),
        (("--box-tracker", "vittrack"), "ivos models pull vittrack"),
        (("--segmenter", "sam_vit_b", "--checkpoint", "nowhere.pth"), "nowhere.pth"),
        (("--device", "cuda:77"), "cannot be used on this machine; use auto or cpu"),
        (("--option", "colour=3"), "unknown option colour of method i_pt; known are positive_points, "),
        (("--option", "refinement_iterations=many"), "option refinement_iterations of method i_pt: .*many"),
        (("--option", "refinement_iterations"), "form NAME=VALUE, but got 'refinement_iterations'"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(words: tuple[str, ...], message: str, data: Path) -> None:
    result = ivos("bench", "--data", data, "--rounds", "1", *words)
    assert result.exit_code == 1
    line = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert len(line) == 1
    assert re.search(message, line[0])


@pytest.mark.parametrize(
    ("saved_as", "message"), [("vit_l", "vit_b"), ("broken", "checkpoint")], ids=["another type", "corrupt"]
)
def test_weights_that_do_not_fit_are_refused(
    saved_as: str, message: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.pth"
    if saved_as == "broken":
        file.write_bytes(b"not a checkpoint")
    else:
        save_checkpoint(file, width=64)
    register(monkeypatch)
    words = ("--segmenter", "sam_vit_b", "--checkpoint", file)
    result = ivos("bench", "--data", data, "--rounds", "1", *words)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
