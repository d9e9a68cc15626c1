"""A SAM of the package's own classes with random weights: real shapes of prompts, masks and memory, a small encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import segment_anything
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def build_tiny_sam(checkpoint: str | None = None, *, seed: int = 0, width: int = 32, depth: int = 2) -> Sam:
    """A seeded model, put together as `segment_anything.build_sam` does, with an encoder of that width and depth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = Sam(
            image_encoder=ImageEncoderViT(
                img_size=1024,
                patch_size=16,
                embed_dim=width,
                depth=depth,
                num_heads=2,
                mlp_ratio=2,
                out_chans=256,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=14,
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
            ),
            mask_decoder=MaskDecoder(
                transformer_dim=256, transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=256)
            ),
        )
        # Zeros in a fresh model; a trained one has none, and zeros would hide a frame's positions.
        torch.nn.init.normal_(sam.image_encoder.pos_embed, std=0.1)
        # Untrained scores lie around 0, where the range [0, 1] would cut half of them off.
        torch.nn.init.constant_(sam.mask_decoder.iou_prediction_head.layers[-1].bias, 0.5)
    if checkpoint is not None:
        sam.load_state_dict(torch.load(checkpoint, weights_only=True))
    return sam.eval()


def save_checkpoint(path: Path, *, seed: int = 0, width: int = 32, depth: int = 2) -> Path:
    """Write the weights of such a model as the package's checkpoints are written."""
    torch.save(build_tiny_sam(seed=seed, width=width, depth=depth).state_dict(), path)
    return path


def register(monkeypatch: pytest.MonkeyPatch, model_type: str = "vit_b", *, width: int = 32, depth: int = 2) -> None:
    """Let a type of the package's registry mean such a model, with other weights than `save_checkpoint` writes."""
    builder = partial(build_tiny_sam, seed=99, width=width, depth=depth)
    monkeypatch.setitem(segment_anything.sam_model_registry, model_type, builder)
