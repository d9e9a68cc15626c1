"""CoTracker 3 (offline) from its authors' code, by way of the entry point that the code offers to torch.hub."""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.checkpoints import with_weights
from model_zoo.official_code import importing


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
