"""An HQ-SAM of the package's own classes with random weights: real shapes of prompts and masks, a small encoder."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from segment_anything_hq.modeling import ImageEncoderViT, MaskDecoderHQ, PromptEncoder, Sam, TwoWayTransformer


def build_tiny_hq_sam(*, seed: int = 0, width: int = 32) -> Any:
    """A seeded model, put together as `segment_anything_hq.build_sam` does; two of three blocks attend globally."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = Sam(
            image_encoder=ImageEncoderViT(
                img_size=1024,
                patch_size=16,
                embed_dim=width,
                depth=3,
                num_heads=2,
                mlp_ratio=2,
                out_chans=256,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=14,
                global_attn_indexes=(1, 2),
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
            ),
            mask_decoder=MaskDecoderHQ(
                transformer_dim=256,
                transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=256),
                vit_dim=width,
            ),
        )
        # Zeros in a fresh model; a trained one has none, and zeros would hide a frame's positions.
        torch.nn.init.normal_(sam.image_encoder.pos_embed, std=0.1)
        # Untrained scores lie around 0, where the range [0, 1] would cut half of them off.
        torch.nn.init.constant_(sam.mask_decoder.iou_prediction_head.layers[-1].bias, 0.5)
        # Fresh, what the early features add is a hundredth of what the last ones do.
        torch.nn.init.normal_(sam.mask_decoder.compress_vit_feat[-1].weight, std=0.2)
    return sam.eval()
