"""OSTrack from its official code, which `ivos models pull ostrack` brings, and its weights file.

The code is botaoye/OSTrack at commit 33b5e12586216b7fd0e95d255bd01ba44cbec759. This module has been run with that code
and random weights, never with the published weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

from model_zoo.checkpoints import Weights, load_into, read_weights
from model_zoo.extras import require
from model_zoo.official_code import OfficialCodeError, load_module

_PART = "box tracker ostrack"


def load_ostrack(code: Path, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """OSTrack-256 with candidate elimination; in evaluation mode, needs no gradients.

    Args:
        code: folder with the official code: it holds ``lib/models/ostrack``.
        checkpoint: OSTrack_ep0300.pth.tar of vitb_256_mae_ce_32x4_ep300. Nothing in it is executed. None leaves the
            random weights of a fresh network: for timing, never for boxes.
        device: a torch device.

    Raises:
        CheckpointError: the file is missing, damaged or another model's; in one line.
        MissingExtraError: a package that the official code imports is not installed; in one line.
        OfficialCodeError: the folder is missing or not the official code; in one line.
    """
    require("timm", extra="trackers", part=_PART)
    weights = None if checkpoint is None else _read(checkpoint)
    module = load_module(code, "lib.models.ostrack.ostrack", part=_PART)
    build: Callable[..., torch.nn.Module] | None = getattr(module, "build_ostrack", None)
    if build is None:
        raise OfficialCodeError(
            f"expected a function build_ostrack in lib/models/ostrack/ostrack.py under {code}, but there is none; "
            "pull it again with: ivos models pull ostrack"
        )
    network = build(_vitb_256_ce(), training=False)
    if weights is not None and checkpoint is not None:
        load_into(network, weights, "OSTrack-256 with candidate elimination", checkpoint)
    return network.to(device).eval().requires_grad_(False)


def _vitb_256_ce() -> SimpleNamespace:
    """What the official builder reads of its settings file vitb_256_mae_ce_32x4_ep300, and of that file's defaults."""
    backbone = SimpleNamespace(
        TYPE="vit_base_patch16_224_ce",
        STRIDE=16,
        CAT_MODE="direct",
        SEP_SEG=False,
        CE_LOC=[3, 6, 9],
        CE_KEEP_RATIO=[0.7, 0.7, 0.7],
    )
    model = SimpleNamespace(
        # Weights to start a training from: none, as this network only predicts.
        PRETRAIN_FILE="",
        RETURN_INTER=False,
        RETURN_STAGES=[],
        BACKBONE=backbone,
        HEAD=SimpleNamespace(TYPE="CENTER", NUM_CHANNELS=256),
    )
    data = SimpleNamespace(SEARCH=SimpleNamespace(SIZE=256), TEMPLATE=SimpleNamespace(SIZE=128))
    return SimpleNamespace(MODEL=model, DATA=data, TRAIN=SimpleNamespace(DROP_PATH_RATE=0.1))


class _Leftover:
    """Stands for whatever a training run left in its file beside the weights; it keeps nothing and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _read(path: Path) -> Weights:
    """The weights of a file that holds objects of the training code as well; those are not built, only skipped."""
    try:
        others = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # Missing or damaged: reading it says how.
        others = []
    with torch.serialization.safe_globals([(_Leftover, name) for name in others]):
        return read_weights(path, "OSTrack", inner_key="net")
