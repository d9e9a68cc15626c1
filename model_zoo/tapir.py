"""TAPIR from its authors' code, in PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.checkpoints import with_weights
from model_zoo.official_code import load_module


def load_tapir(code: Path, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """Build the network of Doersch et al., "TAPIR: Tracking Any Point with per-frame Initialization", ICCV 2023.

    Run with the official code of google-deepmind/tapnet at commit c2cbab8 and random weights; never with published
    weights.

    Args:
        code: the official code: ``tapnet`` with its ``torch`` part.
        checkpoint: ``bootstapir_checkpoint_v2.pt``. Nothing in it is executed. None leaves random weights: for timing,
            never for tracks.
        device: a torch device.

    Raises:
        OfficialCodeError: the code is missing or incomplete.
        MissingExtraError: dm-tree or einshape is not installed.
        CheckpointError: the weights are missing, damaged, or of another model.
    """
    packages = {"tree": "dm-tree", "einshape": "einshape", "absl": "absl-py"}
    module = load_module(code, "tapnet.torch.tapir_model", part="point tracker tapir", packages=packages)
    model: torch.nn.Module = module.TAPIR(pyramid_level=1)
    with_weights(model, checkpoint, "TAPIR")
    return model.to(device).eval().requires_grad_(False)
