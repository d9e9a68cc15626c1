"""Box trackers whose networks OpenCV itself reads and runs: NanoTrack V2 and the ViT tracker of OpenCV's model zoo.

NanoTrack has been run with its published weights. The ViT tracker has been run with a small network of the same
inputs and outputs, never with the published weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model_zoo.checkpoints import CheckpointError


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
