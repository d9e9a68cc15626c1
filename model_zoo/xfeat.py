"""XFeat: dense local descriptors of a grey image, on onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.checkpoints import CheckpointError
from model_zoo.extras import require

INPUT_HW_PX = (480, 640)
CELL_PX = 8
"""One descriptor per cell of this side."""
_GRID_HW = (INPUT_HW_PX[0] // CELL_PX, INPUT_HW_PX[1] // CELL_PX)
_CHANNELS = 64


class XFeat:
    """The network; safe to call from several threads.

    Args:
        session: an ``onnxruntime.InferenceSession`` with an input (1, 1, 480, 640) float32 and an output ``feats``
            (1, 64, 60, 80) float32. (The published network normalises its input, so the range does not matter; its
            other outputs, ``keypoints`` (1, 65, 60, 80) and ``heatmap`` (1, 1, 60, 80), are not asked for.)
    """

    input_hw_px = INPUT_HW_PX

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input_name: str = session.get_inputs()[0].name

    def descriptors(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of unit length (60, 80, 64) float32 of a grey image (480, 640) uint8, one per cell of 8 px."""
        image = (grey.astype(np.float32) / 255.0)[None, None]
        feats = self._session.run(["feats"], {self._input_name: image})[0][0].transpose(1, 2, 0)
        lengths = np.linalg.norm(feats, axis=2, keepdims=True)
        return np.ascontiguousarray(feats / np.maximum(lengths, 1e-12), np.float32)


def load_xfeat(checkpoint: Path, device: str = "cpu", *, threads: int = 2) -> XFeat:
    """Open the network of Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024.

    Args:
        checkpoint: ``xfeat.onnx``.
        device: a torch device; one of CUDA uses it where the installed onnxruntime was built for CUDA.
        threads: how many of the CPU's the network may use.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        CheckpointError: the file is missing, damaged, or another model; in one line.
    """
    runtime = require("onnxruntime", extra="trackers", part="point tracker xfeat")
    if not checkpoint.is_file():
        raise CheckpointError(
            f"expected the XFeat network at {checkpoint}, but there is no such file; "
            "bring it with: ivos models pull xfeat"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider"] * device.startswith("cuda") + ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(str(checkpoint), options, providers=providers)
    except Exception as error:  # onnxruntime raises a class of its own for each kind of damage.
        raise CheckpointError(
            f"expected the XFeat network, but {checkpoint} cannot be read as one ({type(error).__name__}); "
            "it is damaged, incomplete or something else: download it again"
        ) from error
    _check_shapes(session, checkpoint)
    return XFeat(session)


def _check_shapes(session: Any, checkpoint: Path) -> None:
    inputs = [tuple(value.shape) for value in session.get_inputs()]
    outputs = {value.name: tuple(value.shape) for value in session.get_outputs()}
    if inputs != [(1, 1, *INPUT_HW_PX)] or outputs.get("feats") != (1, _CHANNELS, *_GRID_HW):
        raise CheckpointError(
            f"expected the XFeat network (a grey image of 480 x 640 px to feats of 64 x 60 x 80), but {checkpoint} "
            f"maps {inputs} to {outputs}; use the file that the registry names"
        )
