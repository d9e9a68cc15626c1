"""RAFT optical flow, as torchvision builds it."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.models import optical_flow

from model_zoo.checkpoints import with_weights

VARIANTS = ("raft_large", "raft_small")


def load_raft(variant: str, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """Build RAFT (Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020).

    Run with random weights of both variants; never with published weights.

    Args:
        variant: one of `VARIANTS`.
        checkpoint: a state dictionary as torchvision publishes it. None leaves random weights: for timing, never for
            tracks.
        device: a torch device.

    Raises:
        ValueError: the variant is unknown.
        CheckpointError: the file is missing or no checkpoint, or belongs to another model; in one line.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown RAFT variant {variant!r}; known are {', '.join(VARIANTS)}")
    model: torch.nn.Module = getattr(optical_flow, variant)(weights=None, progress=False)
    with_weights(model, checkpoint, variant)
    return model.to(device).eval().requires_grad_(False)
