"""SAM from a checkpoint file, through the model registry of segment-anything."""

from __future__ import annotations

from pathlib import Path

import segment_anything
from segment_anything.modeling import Sam

from model_zoo.checkpoints import CheckpointError, Weights, mismatch, read_weights

_TYPE_BY_ENCODER = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
"""Width and number of blocks of the image encoders that Kirillov et al., "Segment Anything", published."""


def load_sam(model_type: str, checkpoint: Path | None, device: str = "cpu") -> Sam:
    """Build a model and load its weights; it is in evaluation mode and needs no gradients.

    Args:
        model_type: a key of `segment_anything.sam_model_registry`: vit_b, vit_l or vit_h.
        checkpoint: a state dictionary as the package's authors publish it. Nothing in it is executed. None leaves
            the random weights of a fresh model: for timing, never for masks.
        device: a torch device.

    Raises:
        ValueError: the type is unknown.
        CheckpointError: the file is missing or no checkpoint, or belongs to another type; in one line.
    """
    registry = segment_anything.sam_model_registry
    if model_type not in registry:
        known = ", ".join(sorted(set(registry) - {"default"}))
        raise ValueError(f"unknown SAM model type {model_type!r}; known are {known}")
    weights = None if checkpoint is None else read_weights(checkpoint, "SAM")
    model = registry[model_type]()
    if weights is not None:
        problem = mismatch(model.state_dict(), weights)
        if problem:
            raise CheckpointError(
                f"expected a checkpoint of SAM {model_type}, but {checkpoint} holds {_describe(weights, model_type)} "
                f"({problem}); choose the model type that belongs to the file, or another file"
            )
        model.load_state_dict(weights)
    return model.to(device).eval().requires_grad_(False)


def _describe(weights: Weights, wanted_type: str) -> str:
    """What a checkpoint that does not fit is, judged by its image encoder."""
    patches = weights.get("image_encoder.patch_embed.proj.weight")
    blocks = {key.split(".")[2] for key in weights if key.startswith("image_encoder.blocks.")}
    if patches is None or not blocks:
        return "none with an image encoder of segment-anything"
    width, depth = patches.shape[0], len(blocks)
    found = _TYPE_BY_ENCODER.get((width, depth))
    if found is not None and found != wanted_type:
        return f"one of {found}"
    return f"one of an unknown variant, its encoder {width} wide with {depth} blocks"
