"""The SAM family from checkpoint files: SAM, MobileSAM and, with the extra ``hq``, HQ-SAM."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import segment_anything
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from model_zoo.checkpoints import CheckpointError, Weights, load_into, mismatch, read_weights, with_weights
from model_zoo.extras import require
from model_zoo.tiny_vit import OUT_CHANNELS, TinyViTEncoder

IMAGE_SIDE_PX = 1024
CELL_PX = 16
_TYPE_BY_ENCODER = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
"""Width and number of blocks of the image encoders that Kirillov et al., "Segment Anything", published."""
_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""Of TinyViT's pre-training; nothing runs it here."""


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


def load_mobile_sam(checkpoint: Path | None, device: str = "cpu") -> Sam:
    """Build MobileSAM (C. Zhang et al., "Faster Segment Anything", 2023): a `Sam` with a TinyViT as its encoder.

    It is in evaluation mode and needs no gradients. Compared with the official code (commit 34bbbfd) on random weights;
    never run with the published ones.

    Args:
        checkpoint: ``mobile_sam.pt`` as the authors publish it. Nothing in it is executed. None leaves the random
            weights of a fresh model: for timing, never for masks.
        device: a torch device.

    Raises:
        CheckpointError: the file is missing or no checkpoint, or belongs to another model; in one line.
    """
    model = _mobile_sam()
    with_weights(model, checkpoint, "MobileSAM")
    return model.to(device).eval().requires_grad_(False)


def _mobile_sam() -> Sam:
    """Sizes, and the preprocessing that `Sam` does by default, are those of segment-anything's models."""
    cells = IMAGE_SIDE_PX // CELL_PX
    return Sam(
        image_encoder=TinyViTEncoder(IMAGE_SIDE_PX),
        prompt_encoder=PromptEncoder(
            embed_dim=OUT_CHANNELS,
            image_embedding_size=(cells, cells),
            input_image_size=(IMAGE_SIDE_PX, IMAGE_SIDE_PX),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=OUT_CHANNELS,
            transformer=TwoWayTransformer(depth=2, embedding_dim=OUT_CHANNELS, mlp_dim=2048, num_heads=8),
        ),
    )


def load_hq_sam(model_type: str, checkpoint: Path | None, device: str = "cpu") -> Any:
    """Build HQ-SAM through the registry of segment-anything-hq and load its weights.

    It is in evaluation mode and needs no gradients. Run with random weights; never with the published ones.

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
    registry = _hq_registry(model_type)
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


def _hq_registry(model_type: str) -> Any:
    # On import, timm says that modules have moved, and that the package replaces TinyViT models in timm's registry.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = require("segment_anything_hq", extra="hq", part=f"segmenter sam_hq_{model_type}")
    return package.sam_model_registry
