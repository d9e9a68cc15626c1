"""Point trackers: RAFT as torchvision builds it, the others by their authors' code."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from model_zoo.checkpoints import CheckpointError
from model_zoo.extras import MissingExtraError
from model_zoo.official_code import OfficialCodeError
from model_zoo.point_trackers import load_cotracker, load_pips, load_raft, load_tapir
from tests.stand_ins import CO_TRACKER, PIPS, TAPNET

Load = Callable[[Path, Path | None], torch.nn.Module]


Wrap = Callable[[Mapping[str, torch.Tensor]], object]


CASES = [
    pytest.param(load_cotracker, CO_TRACKER, lambda net: net.model, lambda w: w, id="cotracker3"),
    pytest.param(load_cotracker, CO_TRACKER, lambda net: net.model, lambda w: {"model": w}, id="cotracker3 as trained"),
    pytest.param(
        load_pips,
        PIPS,
        lambda net: net,
        lambda w: {"model_state_dict": w, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        id="pips",
    ),
    pytest.param(load_tapir, TAPNET, lambda net: net, lambda w: w, id="tapir"),
]


@pytest.mark.parametrize(("load", "code", "inner", "wrap"), CASES)
def test_weights_come_from_the_file(
    tmp_path: Path, load: Load, code: Path, inner: Callable[[torch.nn.Module], torch.nn.Module], wrap: Wrap
) -> None:
    fresh = inner(load(code, None)).state_dict()
    weights = {name: torch.full_like(tensor, 0.25) for name, tensor in fresh.items()}
    torch.save(wrap(weights), tmp_path / "weights.pth")
    network = load(code, tmp_path / "weights.pth")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert weights
    assert all(torch.equal(tensor, weights[name]) for name, tensor in inner(network).state_dict().items())


@pytest.mark.parametrize(("load", "code", "inner", "wrap"), CASES)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, load: Load, code: Path, inner: Callable[[torch.nn.Module], torch.nn.Module], wrap: Wrap
) -> None:
    weights = {name + "_other": tensor for name, tensor in inner(load(code, None)).state_dict().items()}
    torch.save(wrap(weights), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="another model's"):
        load(code, tmp_path / "weights.pth")


@pytest.mark.parametrize(("load", "code"), [(load_cotracker, CO_TRACKER), (load_pips, PIPS), (load_tapir, TAPNET)])
def test_what_runs_code_when_unpickled_is_refused(tmp_path: Path, load: Load, code: Path) -> None:
    torch.save({"weights": Path("anything that is no tensor")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(code, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("load", "code", "file", "name"),
    [
        (load_cotracker, CO_TRACKER, "cotracker/predictor.py", "cotracker3"),
        (load_cotracker, CO_TRACKER, "hubconf.py", "cotracker3"),
        (load_pips, PIPS, "nets/pips.py", "pips"),
        (load_pips, PIPS, "utils/samp.py", "pips"),
        (load_tapir, TAPNET, "tapnet/torch/utils.py", "tapir"),
    ],
)
def test_incomplete_code_names_the_file_and_the_command(
    tmp_path: Path, load: Load, code: Path, file: str, name: str
) -> None:
    copy = tmp_path / "code"
    shutil.copytree(code, copy)
    (copy / file).unlink()
    with pytest.raises(OfficialCodeError, match=f"ivos models pull {name}") as caught:
        load(copy, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("load", "code", "file", "imported", "installed"),
    [
        (load_pips, PIPS, "nets/pips.py", "einops", "einops"),
        (load_tapir, TAPNET, "tapnet/torch/tapir_model.py", "tree", "dm-tree"),
        (load_tapir, TAPNET, "tapnet/torch/utils.py", "einshape.src", "einshape"),
    ],
)
def test_a_package_that_the_code_needs_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load: Load,
    code: Path,
    file: str,
    imported: str,
    installed: str,
) -> None:
    copy = tmp_path / "code"
    shutil.copytree(code, copy)
    (copy / file).write_text(f"import {imported}\n" + (copy / file).read_text())
    monkeypatch.setitem(sys.modules, imported.split(".")[0], None)
    with pytest.raises(MissingExtraError, match=f"uv pip install {installed} ") as caught:
        load(copy, None)
    assert "\n" not in str(caught.value)


def test_raft_takes_its_weights_from_the_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, path = load_raft("raft_small", None), tmp_path / "raft.pth"
    torch.save(model.state_dict(), path)
    loaded = load_raft("raft_small", path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_of_the_other_variant_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft.pth"
    torch.save(load_raft("raft_small", None).state_dict(), path)
    with pytest.raises(CheckpointError, match="raft_large"):
        load_raft("raft_large", path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file") as caught:
        load_raft("raft_small", tmp_path / "none.pth")
    assert "\n" not in str(caught.value)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="raft_large, raft_small"):
        load_raft("raft_huge", None)
