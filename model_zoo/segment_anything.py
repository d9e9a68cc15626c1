"""SAM from a checkpoint file, through the model registry of segment-anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import segment_anything
import torch
from segment_anything.modeling import Sam

_TYPE_BY_ENCODER = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
"""Width and number of blocks of the image encoders that Kirillov et al., "Segment Anything", published."""


def load_sam(model_type: str, checkpoint: Path, device: str = "cpu") -> Sam:
    """Build a model and load its weights; it is in evaluation mode and needs no gradients.

    Args:
        model_type: a key of `segment_anything.sam_model_registry`: vit_b, vit_l or vit_h.
        checkpoint: a state dictionary as the package's authors publish it. Nothing in it is executed.
        device: a torch device.

    Raises:
        ValueError: the type is unknown, the file is missing or no checkpoint, or belongs to another type; in one line.
    """
    registry = segment_anything.sam_model_registry
    if model_type not in registry:
        known = ", ".join(sorted(set(registry) - {"default"}))
        raise ValueError(f"unknown SAM model type {model_type!r}; known are {known}")
    weights = _read(checkpoint)
    model = registry[model_type]()
    problem = _mismatch(model.state_dict(), weights)
    if problem:
        raise ValueError(
            f"expected a checkpoint of SAM {model_type}, but {checkpoint} holds {_describe(weights, model_type)} "
            f"({problem}); choose the model type that belongs to the file, or another file"
        )
    model.load_state_dict(weights)
    return model.to(device).eval().requires_grad_(False)


def _read(checkpoint: Path) -> Mapping[str, torch.Tensor]:
    if not checkpoint.is_file():
        raise ValueError(f"expected a SAM checkpoint at {checkpoint}, but there is no such file; check the path")
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise ValueError(f"the SAM checkpoint {checkpoint} may not be read; check the file's permissions") from error
    except Exception as error:  # A damaged pickle can raise nearly anything.
        size_mib = checkpoint.stat().st_size / 2**20
        raise ValueError(
            f"expected a SAM checkpoint, but {checkpoint} ({size_mib:.1f} MiB) cannot be read as one "
            f"({type(error).__name__}); it is damaged, incomplete or something else: download it again"
        ) from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(
            f"expected a SAM checkpoint, a dictionary of tensors, but {checkpoint} holds "
            f"{_kind(weights)}; use the file as published by the model's authors"
        )
    return weights


def _kind(loaded: object) -> str:
    if isinstance(loaded, Mapping):
        return "a dictionary with other things in it: " + ", ".join(str(key) for key in list(loaded)[:3])
    return f"a {type(loaded).__name__}"


def _mismatch(expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> str:
    """What first keeps the weights from fitting, in a few words; empty when they fit."""
    for key, tensor in expected.items():
        if key not in weights:
            return f"{key} is missing"
        if weights[key].shape != tensor.shape:
            return f"{key} is {tuple(weights[key].shape)}, not {tuple(tensor.shape)}"
    surplus = [key for key in weights if key not in expected]
    return f"{surplus[0]} is not part of it" if surplus else ""


def _describe(weights: Mapping[str, torch.Tensor], wanted_type: str) -> str:
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
