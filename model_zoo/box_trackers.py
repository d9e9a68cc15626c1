"""Networks that track boxes: OSTrack by its authors' code, NanoTrack V2 and OpenCV's ViT tracker by OpenCV itself.

NanoTrack has been run with its published weights. The ViT tracker has been run with a small network of the same inputs
and outputs, OSTrack with random weights; never with the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from model_zoo.checkpoints import CheckpointError, Weights, load_into, read_weights
from model_zoo.extras import require
from model_zoo.official_code import OfficialCodeError, load_module

_OSTRACK = "box tracker ostrack"


def nanotrack(backbone: Path, neckhead: Path) -> Callable[[], Any]:
    """Makes trackers of NanoTrack V2 (HonglinChu/SiamTrackers), one for each object to follow.

    Args:
        backbone: nanotrack_backbone_sim.onnx.
        neckhead: nanotrack_head_sim.onnx.

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together; in one line.
    """

    def create() -> Any:
        params: Any = cv2.TrackerNano.Params()
        params.backbone, params.neckhead = str(backbone), str(neckhead)
        return cv2.TrackerNano.create(params)

    return _checked(create, {"backbone": backbone, "head": neckhead}, "NanoTrack", "nanotrack_v2")


def vittrack(net: Path) -> Callable[[], Any]:
    """Makes trackers of OpenCV's ViT tracker, one for each object to follow.

    Args:
        net: object_tracking_vittrack_2023sep.onnx.

    Raises:
        CheckpointError: the file is missing, damaged or another network's; in one line.
    """

    def create() -> Any:
        params: Any = cv2.TrackerVit.Params()
        params.net = str(net)
        return cv2.TrackerVit.create(params)

    return _checked(create, {"network": net}, "ViT tracker", "vittrack")


def _checked(create: Callable[[], Any], files: Mapping[str, Path], what: str, model: str) -> Callable[[], Any]:
    """The same function, after OpenCV has read the files and tracked an empty image with them once."""
    for part, path in files.items():
        if not path.is_file():
            raise CheckpointError(
                f"expected the {what}'s {part} at {path}, but there is no such file; "
                f"bring it with: ivos models pull {model}"
            )
        try:
            cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            size_mib = path.stat().st_size / 2**20
            raise CheckpointError(
                f"expected the {what}'s {part}, an ONNX file, but OpenCV cannot read {path} ({size_mib:.1f} MiB); "
                f"it is damaged, incomplete or something else: delete it, then ivos models pull {model}"
            ) from error
    blank = np.full((64, 64, 3), 128, np.uint8)
    try:
        tracker = create()
        tracker.init(blank, (16, 16, 32, 32))
        tracker.update(blank)
    except cv2.error as error:
        names = " and ".join(str(path) for path in files.values())
        raise CheckpointError(
            f"expected the networks of the {what}, but OpenCV cannot track with {names}; they are another model's "
            f"or in the wrong order: delete them, then ivos models pull {model}"
        ) from error
    return create


def load_ostrack(code: Path, checkpoint: Path | None, device: str = "cpu") -> torch.nn.Module:
    """OSTrack-256 with candidate elimination; in evaluation mode, needs no gradients.

    Written for the official code botaoye/OSTrack at commit 33b5e12586216b7fd0e95d255bd01ba44cbec759.

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
    require("timm", extra="trackers", part=_OSTRACK)
    weights = None if checkpoint is None else _read_ostrack(checkpoint)
    module = load_module(code, "lib.models.ostrack.ostrack", part=_OSTRACK)
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


def _read_ostrack(path: Path) -> Weights:
    """The weights of a file that holds objects of the training code as well; those are not built, only skipped."""
    try:
        others = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # Missing or damaged: reading it says how.
        others = []
    with torch.serialization.safe_globals([(_Leftover, name) for name in others]):
        return read_weights(path, "OSTrack", inner_key="net")
