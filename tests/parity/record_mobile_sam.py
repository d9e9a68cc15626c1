"""Records what the official code of MobileSAM makes of weights and an image that a rule generates.

The published weights take 40 MB, so the recording keeps none: `seeded_weights` makes the same ones on every platform,
and only the answers are stored, thinned out. To record again, with the official repository
(github.com/ChaoningZhang/MobileSAM, commit 34bbbfdface3c18e5221aa7de6032d7220c6c6a1) in FOLDER:

    python -m tests.parity.record_mobile_sam FOLDER
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

RECORDING = Path(__file__).parent / "recorded" / "mobile_sam.npz"
SEED = 20230625
IMAGE_SIZE_HW_PX = (700, 1024)
"""With the encoder's own width, so that nothing is resized, and lower, so that the padding takes part."""
POINTS_XY_PX = np.array([[400, 300], [900, 650], [30, 20]], np.float32)
POSITIVE = np.array([True, False, True])
STEP = 37
"""Every 37th value is kept; a prime number, so that all rows, columns and channels have their turn."""


def uniform(bits: np.random.PCG64, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values in [0, 1) from the generator's raw numbers; NumPy may change its distributions, but not these."""
    raw = bits.random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.float32) / np.float32(2**24)).reshape(shape)


def seeded_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = SEED) -> dict[str, torch.Tensor]:
    """Weights by name, drawn in the order of the names; nothing is at the value a fresh network has.

    Scales and variances lie in [0.5, 1.5), biases by distance of the attention in [-2, 2), other biases and means in
    [-0.3, 0.3), matrices and filters so that the variance of a layer's output is that of its input.
    """
    bits = np.random.PCG64(seed)
    weights = {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
            continue
        values = uniform(bits, shape)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            values = values + np.float32(0.5)
        else:
            reach = 0.3 if len(shape) == 1 else float(np.sqrt(3 / np.prod(shape[1:])))
            reach = 2.0 if name.endswith("attention_biases") else reach
            values = (2 * values - 1) * np.float32(reach)
        weights[name] = torch.from_numpy(values)
    return weights


def seeded_image(seed: int = SEED) -> NDArray[np.uint8]:
    """Blocks of colour, (700, 1024, 3)."""
    height, width = IMAGE_SIZE_HW_PX
    blocks = uniform(np.random.PCG64(seed + 1), (height // 10, width // 8, 3)) * 255
    return blocks.astype(np.uint8).repeat(10, 0).repeat(8, 1)


def thinned(values: Any) -> NDArray[np.float32]:
    """Every `STEP`-th value, flat."""
    return np.asarray(values, np.float32).reshape(-1)[::STEP].copy()


def signature(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names with shapes, sorted."""
    return [f"{name} {tuple(shapes[name])}" for name in sorted(shapes)]


def record(folder: Path) -> None:
    """Run the official code and write `RECORDING`."""
    sys.path.insert(0, str(folder))
    warnings.simplefilter("ignore")
    model = import_module("mobile_sam").sam_model_registry["vit_t"]()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(seeded_weights(shapes))
    # The official attention gathers its biases when the mode is set.
    model.eval()
    predictor = import_module("mobile_sam").SamPredictor(model)
    predictor.set_image(seeded_image())
    _, scores, low_res = predictor.predict(POINTS_XY_PX, POSITIVE.astype(int), multimask_output=True)
    RECORDING.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        RECORDING,
        features=thinned(predictor.features),
        low_res_logits=thinned(low_res),
        predicted_iou=scores.astype(np.float32),
        signature="\n".join(signature(shapes)),
    )


if __name__ == "__main__":
    record(Path(sys.argv[1]))
