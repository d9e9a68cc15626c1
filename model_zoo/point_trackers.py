"""Networks that track points: each built by its authors' code or by torchvision, with the weights of a file."""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.checkpoints import with_weights
from model_zoo.official_code import importing, load_module

PIPS_FRAMES = 8
"""PIPS sees this many frames at a time, no more and no fewer."""

RAFT_VARIANTS = ("raft_large", "raft_small")


def load_cotracker(code: Path, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """Build the predictor of Karaev et al., "CoTracker3: Simpler and Better Point Tracking", 2024.

    What ``torch.hub.load(code, "cotracker3_offline", source="local", pretrained=False)`` calls is called here without
    putting the folder on the path of the whole program. Run with the official code of facebookresearch/co-tracker at
    commit 82e02e8 and random weights; never with published weights.

    Args:
        code: the official code: ``hubconf.py`` and ``cotracker``.
        checkpoint: ``scaled_offline.pth``. Nothing in it is executed. None leaves random weights: for timing, never
            for tracks.
        device: a torch device.

    Returns:
        The authors' ``CoTrackerPredictor``: ``(video, queries) -> (tracks, visible)``.

    Raises:
        OfficialCodeError: the code is missing or incomplete.
        CheckpointError: the weights are missing, damaged, or of another model.
    """
    with importing(code, part="point tracker cotracker3") as load:
        predictor = load("hubconf").cotracker3_offline(pretrained=False)
    with_weights(predictor.model, checkpoint, "CoTracker 3 offline", inner_key="model")
    model: torch.nn.Module = predictor.to(device).eval().requires_grad_(False)
    return model


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
    model: torch.nn.Module = module.Pips(S=PIPS_FRAMES, stride=4)
    with_weights(model, checkpoint, "PIPS", inner_key="model_state_dict")
    return model.to(device).eval().requires_grad_(False)


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


def load_raft(variant: str, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """Build RAFT (Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020).

    Run with random weights of both variants; never with published weights.

    Args:
        variant: one of `RAFT_VARIANTS`.
        checkpoint: a state dictionary as torchvision publishes it. None leaves random weights: for timing, never for
            tracks.
        device: a torch device.

    Raises:
        ValueError: the variant is unknown.
        CheckpointError: the file is missing or no checkpoint, or belongs to another model; in one line.
    """
    if variant not in RAFT_VARIANTS:
        raise ValueError(f"unknown RAFT variant {variant!r}; known are {', '.join(RAFT_VARIANTS)}")
    # torchvision takes seconds to load, and no other point tracker needs it.
    from torchvision.models import optical_flow

    model: torch.nn.Module = getattr(optical_flow, variant)(weights=None, progress=False)
    with_weights(model, checkpoint, variant)
    return model.to(device).eval().requires_grad_(False)
