"""One step of training, the weights that come in and go out, and the commands."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from ls_backend.cli.main import LazyGroup
from model_zoo.checkpoints import Weights
from model_zoo.lite.decoder import N_PLANES, Decoder, Plane
from model_zoo.lite.network import LiteNetwork, load_lite
from model_zoo.lite.trunk import InvertedResidual, SameConv, Trunk
from tools.train_lite import __main__ as commands
from tools.train_lite import weights
from tools.train_lite.batches import mean_key
from tools.train_lite.train import Settings, losses, train
from tools.train_lite.weights import NORM_EPSILON, _fold, export, folded, load_trunk

SHORT = Settings(steps=1, phases=((0.0, 64, 2),))


def convolutions(trunk: Trunk) -> dict[str, tuple[nn.Conv2d, str]]:
    """The trunk's convolutions by their published names, with the names of the batch norms after them."""
    found = {"_conv_stem": (trunk.stem, "_bn0")}
    blocks = [cast(InvertedResidual, block) for stage in trunk.stages for block in cast(nn.Sequential, stage)]
    for index, block in enumerate(blocks):
        parts = {"_expand_conv": (block.expand, "_bn0"), "_depthwise_conv": (block.depthwise, "_bn1")}
        parts["_project_conv"] = (block.project, "_bn2")
        found |= {f"_blocks.{index}.{k}": (c, f"_blocks.{index}.{n}") for k, (c, n) in parts.items() if c is not None}
    return found


def random_state(name: str, norm: str, conv: nn.Conv2d, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random weights of a convolution and of the batch norm after it."""
    channels = conv.out_channels
    state = {
        f"{norm}.{part}": torch.randn(channels, generator=generator) for part in ("weight", "bias", "running_mean")
    }
    state[f"{norm}.running_var"] = torch.rand(channels, generator=generator) + 0.1
    return state | {f"{name}.weight": torch.randn(conv.weight.shape, generator=generator)}


def published(seed: int) -> dict[str, torch.Tensor]:
    """A state dictionary of random numbers with the names and shapes of the published network."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, (conv, norm) in convolutions(Trunk()).items():
        state |= random_state(name, norm, conv, generator)
    return state


def same(first: Weights, second: Weights) -> bool:
    """Whether two state dictionaries are equal."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def unfolded(name: str, norm: str, conv: nn.Conv2d, state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What a convolution without bias and the batch norm after it give."""
    plain = copy.deepcopy(conv)
    plain.load_state_dict({"weight": state[f"{name}.weight"], "bias": torch.zeros(conv.out_channels)})
    mean, var, scale, bias = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(plain(x), mean, var, scale, bias, eps=NORM_EPSILON)


@torch.no_grad()
def test_every_convolution_of_the_trunk_is_folded() -> None:
    state = published(0)
    for name, (conv, norm) in convolutions(folded(state)).items():
        x = torch.randn(1, conv.weight.shape[1] * conv.groups, 6, 6)
        assert torch.allclose(conv(x), unfolded(name, norm, conv, state, x), rtol=1e-3, atol=1e-3), name


@given(st.integers(0, 2**31), st.integers(1, 6), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.booleans())
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_a_folded_convolution_equals_convolution_and_batch_norm(
    seed: int, channels: int, size: int, stride: int, depthwise: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    conv = SameConv(channels, channels, size, stride, groups=channels if depthwise else 1)
    state = random_state("conv", "norm", conv, generator)
    _fold(conv, state, "conv", "norm")
    x = torch.randn(2, channels, 8, 8, generator=generator)
    assert torch.allclose(conv(x), unfolded("conv", "norm", conv, state, x), rtol=1e-3, atol=1e-3)


def test_the_trunk_is_read_from_the_package(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected efficientnet-lite0"):
        load_trunk(tmp_path)
    torch.save(published(0), tmp_path / "efficientnet-lite0-12345678.pth")
    assert same(load_trunk(tmp_path).state_dict(), folded(published(0)).state_dict())


def test_a_step_changes_the_decoder_and_not_the_trunk(pairs_folder: Path, trunk: Trunk, tmp_path: Path) -> None:
    before = copy.deepcopy(trunk.state_dict())
    train(pairs_folder, trunk, tmp_path, SHORT)
    torch.manual_seed(SHORT.seed)
    first, trained = Decoder().state_dict(), torch.load(tmp_path / "decoder.pt", weights_only=True)
    assert first.keys() == trained.keys()
    assert sum(not torch.equal(first[name], trained[name]) for name in first) > len(first) / 2
    assert all(torch.isfinite(value).all() for value in trained.values())
    assert same(trunk.state_dict(), before)


def test_a_report_comes_every_twenty_steps(pairs_folder: Path, trunk: Trunk, tmp_path: Path) -> None:
    train(pairs_folder, trunk, tmp_path, Settings(steps=20, phases=((0.0, 32, 1),)))
    (line,) = (json.loads(text) for text in (tmp_path / "history.jsonl").read_text().splitlines())
    assert line.keys() == {"step", "minutes", "side_px", "loss", "iou_first", "iou_last"}
    assert (line["step"], line["side_px"]) == (20, 32)


def test_training_without_pairs_says_what_to_do(trunk: Trunk, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tools\.train_lite data"):
        train(tmp_path, trunk, tmp_path / "run", SHORT)


@given(st.integers(1, 5000), st.floats(0, 0.999))
def test_the_rate_stays_below_its_start_and_above_nothing(steps: int, share: float) -> None:
    plan = Settings(steps=steps)
    assert 0 < plan.rate(int(share * steps)) <= plan.learning_rate
    assert plan.phase(share) in [(side_px, n) for _, side_px, n in plan.phases]


def test_a_right_mask_has_less_loss_than_a_wrong_one() -> None:
    truth = torch.zeros(1, 32, 32)
    truth[:, 8:24, 8:24] = 1
    logits, valid, unsure = 8 * (2 * truth - 1), torch.ones_like(truth), torch.zeros(1)
    right, wrong = (losses(each, unsure, truth, valid) for each in (logits, -logits))
    assert right[0] < wrong[0]
    assert (right[1], wrong[1]) == (1.0, 0.0)


def test_exported_weights_give_the_same_masks(
    trunk: Trunk, pairs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    network = LiteNetwork()
    network.trunk = trunk
    torch.save(network.decoder.state_dict(), tmp_path / "decoder.pt")
    monkeypatch.setattr(weights, "iou_scale", lambda *_: torch.tensor([1.0, 0.0]))
    export(trunk, tmp_path / "decoder.pt", pairs_folder, pairs_folder, tmp_path / "lite.safetensors")
    loaded = load_lite(file=tmp_path / "lite.safetensors")
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 64, 3), np.uint8)
    planes = rng.uniform(-1, 1, (N_PLANES, 64, 64)).astype(np.float32)
    planes[Plane.VALID] = 1
    (wanted, wanted_iou), (found, iou) = (
        each.eval().masks(each.features([crop]), [crop], [planes])[0] for each in (network, loaded)
    )
    np.testing.assert_allclose(found, wanted, atol=0.01 * float(np.abs(wanted).max()))
    assert iou == pytest.approx(wanted_iou, abs=0.01)
    assert torch.allclose(loaded.key_mean, mean_key(trunk, pairs_folder), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("missing", ["decoder", "pairs"])
def test_export_says_what_is_missing(missing: str, trunk: Trunk, tmp_path: Path) -> None:
    if missing == "pairs":
        torch.save(Decoder().state_dict(), tmp_path / "decoder.pt")
    with pytest.raises(FileNotFoundError, match=f"expected .*{missing}.*python -m tools.train_lite"):
        export(trunk, tmp_path / "decoder.pt", tmp_path, tmp_path, tmp_path / "out.safetensors")


def test_the_expected_iou_is_fitted_to_the_iou_of_masks(trunk: Trunk, pairs_folder: Path) -> None:
    torch.manual_seed(2)
    network = LiteNetwork()
    network.trunk = trunk
    last = cast(nn.Linear, network.decoder.iou[-1])
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    # The head says the same of every mask: the best it can say is their mean IoU, which is low with random weights.
    _, summand = weights.iou_scale(network, pairs_folder, n_batches=4).tolist()
    assert 0 < 1 / (1 + np.exp(-summand)) < 0.6


@pytest.mark.parametrize("sequences", ["", "libby"])
def test_evaluate_asks_bench_for_options_that_exist(
    sequences: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(commands, "_ivos", lambda words: asked.append(words) or 0)
    words = ["evaluate", "--data", "davis", "--out", str(tmp_path / "bench"), "--sequences", sequences]
    assert CliRunner().invoke(commands.app, words).exit_code == 0
    assert len(asked) == 2
    command: Any = LazyGroup().get_command(None, "bench")
    options = {option for each in command.params for option in each.opts}
    for each in asked:
        assert each[0] == "bench"
        assert {word for word in each if word.startswith("--")} <= options


def test_evaluate_stops_with_the_exit_code_of_bench(tmp_path: Path) -> None:
    words = ["evaluate", "--data", str(tmp_path / "nothing"), "--out", str(tmp_path)]
    assert CliRunner().invoke(commands.app, words).exit_code == 1


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    for words, said in (
        (["data", "--shards", "1-15"], "expected --shards SEED:NUMBER such as 1:20,2:20, but got '1-15'"),
        (["train"], "expected efficientnet-lite0"),
        (["export"], "expected efficientnet-lite0"),
    ):
        result = CliRunner().invoke(commands.app, [*words, "--folder", str(tmp_path)])
        assert result.exit_code == 1
        assert said in result.stderr
