"""HQ-SAM from a checkpoint file, through the model registry of segment-anything-hq (extra ``hq``)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from model_zoo.checkpoints import load_into, read_weights
from model_zoo.extras import require

_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""Of TinyViT's pre-training; nothing runs it here."""


def load_hq_sam(model_type: str, checkpoint: Path | None, device: str = "cpu") -> Any:
    """Build a model and load its weights; it is in evaluation mode and needs no gradients.

    Run with random weights; never with the published ones.

    Args:
        model_type: a key of `segment_anything_hq.sam_model_registry`: vit_tiny (Light HQ-SAM), vit_b, vit_l or vit_h.
        checkpoint: a state dictionary as the authors publish it, ``sam_hq_<model_type>.pth``. Nothing in it is
            executed. None leaves the random weights of a fresh model: for timing, never for masks.
        device: a torch device.

    Returns:
        A `segment_anything_hq.modeling.Sam`.

    Raises:
        ValueError: the type is unknown.
        MissingExtraError: the package is not installed.
        CheckpointError: the file is missing or no checkpoint, or belongs to another type; in one line.
    """
    registry = _registry(model_type)
    if model_type not in registry:
        known = ", ".join(sorted(set(registry) - {"default"}))
        raise ValueError(f"unknown HQ-SAM model type {model_type!r}; known are {known}")
    weights = None if checkpoint is None else read_weights(checkpoint, "HQ-SAM")
    # Without a checkpoint: the package would unpickle it, and take weights that lack whole layers without a word.
    model = registry[model_type]()
    if weights is not None and checkpoint is not None:
        unused = {key: tensor for key, tensor in model.state_dict().items() if key.startswith(_CLASSIFIER)}
        load_into(model, {**unused, **weights}, f"HQ-SAM {model_type}", checkpoint)
    # The mode is set after loading: that is when the package's TinyViT gathers the biases of its attention.
    return model.to(device).eval().requires_grad_(False)


def _registry(model_type: str) -> Any:
    # On import, timm says that modules have moved, and that the package replaces TinyViT models in timm's registry.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = require("segment_anything_hq", extra="hq", part=f"segmenter sam_hq_{model_type}")
    return package.sam_model_registry
