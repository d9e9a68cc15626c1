"""SAM 2.1 and EdgeTAM video models through the package transformers, from a folder of local files.

The published folders hold ``config.json``, from which the network is built, and ``model.safetensors``. Built with
random weights and run so with transformers 4.57, 5.0 and 5.23; never run with published weights, but a file written
from each of these networks has the published file's length to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model_zoo.checkpoints import CheckpointError, load_into, read_weights
from model_zoo.extras import MissingExtraError, require

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

_HIERA: dict[str, dict[str, Any]] = {
    "sam2_1_hiera_tiny": {},
    "sam2_1_hiera_small": {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "sam2_1_hiera_base_plus": {
        "hidden_size": 112,
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "sam2_1_hiera_large": {
        "hidden_size": 144,
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
"""Where the image encoders of Ravi et al., "SAM 2", as published in version 2.1, differ from the smallest."""

MODELS = (*_HIERA, "edgetam")
"""Names of the models, those of SAM 2.1 and of Zhou et al., "EdgeTAM"."""


def load_sam2(folder: Path | None, name: str, device: str = "cpu") -> Any:
    """Build a video model and load its weights; it is in evaluation mode and needs no gradients.

    Nothing is fetched from anywhere, and no code is taken from the folder.

    Args:
        folder: holds ``config.json`` and ``model.safetensors`` as published for transformers. None leaves the random
            weights of a fresh model of the published architecture: for timing, never for masks.
        name: one of `MODELS`; says whether a SAM 2.1 or an EdgeTAM is expected, and the architecture without a folder.
        device: a torch device.

    Returns:
        A `transformers.Sam2VideoModel` or `transformers.EdgeTamVideoModel`.

    Raises:
        ValueError: the name is unknown.
        MissingExtraError: transformers or timm is missing or too old.
        CheckpointError: a file is missing or damaged, or belongs to another model; in one line.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    kind = "EdgeTamVideo" if name == "edgetam" else "Sam2Video"
    if name == "edgetam":
        require("timm", extra="sam2", part=f"model {name}")
    model_class = _class_of(f"{kind}Model", name)
    if folder is None:
        model = model_class(_published_config(name))
    else:
        model = _from_folder(folder, name, model_class, _class_of(f"{kind}Config", name))
    return model.to(device).eval().requires_grad_(False)


def new_inference_session(model: Any) -> Any:
    """An empty inference session of the kind that a model from `load_sam2` takes, on the model's device, in float32."""
    kind = type(model).__name__.removesuffix("Model")
    session_class = _class_of(f"{kind}InferenceSession", kind)
    device = model.device
    return session_class(
        inference_device=device, inference_state_device=device, video_storage_device=device, dtype=torch.float32
    )


def _class_of(class_name: str, model_name: str) -> Callable[..., Any]:
    """A class of transformers.

    Raises:
        MissingExtraError: the package is missing or too old to have it.
    """
    transformers = require("transformers", extra="sam2", part=f"model {model_name}")
    found: Callable[..., Any] | None = getattr(transformers, class_name, None)
    if found is None:
        raise MissingExtraError(
            f"model {model_name} needs transformers 4.57 or newer, but {transformers.__version__} is installed; "
            "bring a newer one with: uv pip install --upgrade 'label-studio-ivos[sam2]' (or pip install, likewise)"
        )
    return found


def _published_config(name: str) -> Any:
    """The configuration that the published files of a model have, but for what does not shape the network."""
    if name == "edgetam":
        backbone = _class_of("TimmWrapperConfig", name)(
            architecture="repvit_m1",
            model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
        )
        return _class_of("EdgeTamVideoConfig", name)(
            vision_config=_class_of("EdgeTamVisionConfig", name)(backbone_config=backbone),
            enable_temporal_pos_encoding_for_object_pointers=False,
            enable_occlusion_spatial_embedding=False,
        )
    backbone = _class_of("Sam2HieraDetConfig", name)(**_HIERA[name])
    channels = list(reversed(backbone.embed_dim_per_stage))
    vision = _class_of("Sam2VisionConfig", name)(backbone_config=backbone, backbone_channel_list=channels)
    return _class_of("Sam2VideoConfig", name)(vision_config=vision)


def _from_folder(folder: Path, name: str, model_class: Any, config_class: Any) -> Any:
    """The model that the configuration describes, with the weights beside it.

    Not by transformers' ``from_pretrained``: before 5.x that asks the network for an EdgeTAM's backbone.
    """
    for file_name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file_name).is_file():
            raise CheckpointError(
                f"expected {CONFIG_FILE} and {WEIGHTS_FILE} of {name} in {folder}, but there is no {file_name}; "
                "check the folder, or fetch the model again"
            )
    content = _read_config(folder / CONFIG_FILE, name, config_class.model_type)
    weights = read_weights(folder / WEIGHTS_FILE, name)
    try:
        model = model_class(config_class(**content))
    except ImportError:
        raise
    except Exception as error:  # What an odd value breaks is up to the network.
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"expected the configuration of {name}, but no model can be built from {folder / CONFIG_FILE} "
            f"({type(error).__name__}: {reason}); fetch the model again"
        ) from error
    load_into(model, weights, f"{name}, as {CONFIG_FILE} beside it describes it", folder / WEIGHTS_FILE)
    return model


def _read_config(path: Path, name: str, model_type: str) -> dict[str, Any]:
    """The configuration as it is on disk.

    Raises:
        CheckpointError: the file is no JSON object, or says that it belongs to another kind of model.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"expected the configuration of {name}, but {path} cannot be read as JSON ({type(error).__name__}); "
            "fetch the model again"
        ) from error
    found = content.get("model_type") if isinstance(content, dict) else None
    if found != model_type:
        raise CheckpointError(
            f"expected the configuration of {name}, of model type {model_type}, but {path} has {found!r}; "
            "choose the model that belongs to the folder, or another folder"
        )
    return dict(content)
