"""MobileSAM from its checkpoint file: segment-anything's own prompt encoder and mask decoder behind a TinyViT.

C. Zhang et al., "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications" (2023). The classes of `Sam`
are composed here as that paper composes them, so that everything that takes a `Sam` takes this one too.
"""

from __future__ import annotations

from pathlib import Path

from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from model_zoo.checkpoints import with_weights
from model_zoo.tiny_vit import OUT_CHANNELS, TinyViTEncoder

IMAGE_SIDE_PX = 1024
CELL_PX = 16


def load_mobile_sam(checkpoint: Path | None, device: str = "cpu") -> Sam:
    """Build the model and load its weights; it is in evaluation mode and needs no gradients.

    Compared with the official code (commit 34bbbfd) on random weights; never run with the published ones.

    Args:
        checkpoint: ``mobile_sam.pt`` as the authors publish it. Nothing in it is executed. None leaves the random
            weights of a fresh model: for timing, never for masks.
        device: a torch device.

    Raises:
        CheckpointError: the file is missing or no checkpoint, or belongs to another model; in one line.
    """
    model = _build()
    with_weights(model, checkpoint, "MobileSAM")
    return model.to(device).eval().requires_grad_(False)


def _build() -> Sam:
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
