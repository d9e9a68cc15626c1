"""PIPS from its authors' code."""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.checkpoints import with_weights
from model_zoo.official_code import load_module

FRAMES = 8
"""PIPS sees this many frames at a time, no more and no fewer."""


def load_pips(code: Path, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """Build the network of Harley et al., "Particle Video Revisited", ECCV 2022.

    Run with the official code of aharley/pips at commit a05a120 and random weights; never with published weights.

    Args:
        code: the official code: ``nets`` and ``utils``.
        checkpoint: the reference model, ``model-000200000.pth``. Nothing in it is executed. None leaves random
            weights: for timing, never for tracks.
        device: a torch device.

    Raises:
        OfficialCodeError: the code is missing or incomplete.
        MissingExtraError: einops is not installed.
        CheckpointError: the weights are missing, damaged, or of another model.
    """
    module = load_module(code, "nets.pips", part="point tracker pips", packages={"einops": "einops"})
    model: torch.nn.Module = module.Pips(S=FRAMES, stride=4)
    with_weights(model, checkpoint, "PIPS", inner_key="model_state_dict")
    return model.to(device).eval().requires_grad_(False)
