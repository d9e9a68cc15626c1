"""SAM 2.1 and EdgeTAM of transformers' own classes with random weights: all their parts, on a small square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

MODELS = ("sam2_1_hiera_tiny", "edgetam")
SIDE_PX = 256
WIDTH = 128
_MEMORY_WIDTH = 64
_GRIDS = [[64, 64], [32, 32], [16, 16]]
_SHARED: dict[str, Any] = {
    "image_size": SIDE_PX,
    "num_maskmem": 4,
    "max_object_pointers_in_encoder": 6,
    "memory_attention_hidden_size": WIDTH,
    "memory_attention_num_layers": 2,
    "memory_attention_rope_feat_sizes": [16, 16],
    "memory_encoder_hidden_size": WIDTH,
    "memory_encoder_output_channels": _MEMORY_WIDTH,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": 64,
}
_PROMPT_ENCODER = {"hidden_size": WIDTH, "image_size": SIDE_PX}
_MASK_DECODER = {"hidden_size": WIDTH, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": WIDTH}


def _sam2_config() -> Any:
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE_PX, SIDE_PX],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        global_attention_blocks=[3],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=_GRIDS,
        fpn_hidden_size=WIDTH,
    )
    return transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=transformers.Sam2VideoPromptEncoderConfig(**_PROMPT_ENCODER),
        mask_decoder_config=transformers.Sam2VideoMaskDecoderConfig(**_MASK_DECODER),
        memory_attention_feed_forward_hidden_size=64,
        **_SHARED,
    )


def _edgetam_config() -> Any:
    backbone = transformers.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={
            "in_chans": 3,
            "features_only": True,
            "out_indices": [0, 1, 2, 3],
            "embed_dim": [8, 16, 24, 32],
            "depth": [1, 1, 1, 1],
        },
    )
    vision = transformers.EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[32, 24, 16, 8],
        backbone_feature_sizes=_GRIDS,
        fpn_hidden_size=WIDTH,
    )
    return transformers.EdgeTamVideoConfig(
        vision_config=vision,
        prompt_encoder_config=transformers.EdgeTamVideoPromptEncoderConfig(**_PROMPT_ENCODER),
        mask_decoder_config=transformers.EdgeTamVideoMaskDecoderConfig(**_MASK_DECODER),
        memory_attention_mlp_hidden_size=64,
        memory_attention_rope_k_sizes=[8, 8],
        perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=64,
        perceiver_resampler_hidden_size=_MEMORY_WIDTH,
        perceiver_resampler_attention_head_dim=_MEMORY_WIDTH,
        perceiver_resampler_mlp_intermediate_size=32,
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
        **_SHARED,
    )


def build_tiny_sam2(name: str = "sam2_1_hiera_tiny", *, seed: int = 0, present: bool = True) -> Any:
    """A seeded model; it believes that the object is there on every frame, or with ``present`` false on none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "edgetam":
            model = transformers.EdgeTamVideoModel(_edgetam_config())
        else:
            model = transformers.Sam2VideoModel(_sam2_config())
        for parameter_name, parameter in model.named_parameters():
            # Small or zero in a fresh model, where memory, pointers and positions would hardly show in a mask.
            if not parameter_name.startswith("vision_encoder"):
                torch.nn.init.normal_(parameter, std=0.2)
    for parameter_name, parameter in model.named_parameters():
        if "layer_norm" in parameter_name and parameter_name.endswith("weight"):
            torch.nn.init.ones_(parameter)
    torch.nn.init.zeros_(model.mask_decoder.pred_obj_score_head.proj_out.weight)
    torch.nn.init.constant_(model.mask_decoder.pred_obj_score_head.proj_out.bias, 2.0 if present else -2.0)
    return model.eval().requires_grad_(False)


def save_folder(folder: Path, name: str = "sam2_1_hiera_tiny", *, seed: int = 0) -> Path:
    """Write such a model as the published folders are laid out: config.json and model.safetensors."""
    build_tiny_sam2(name, seed=seed).save_pretrained(folder)
    return folder
