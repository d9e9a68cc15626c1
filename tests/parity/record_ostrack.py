"""Records what OSTrack's official tracker makes of frames and of a network's answers that a rule generates.

Its network is built by the official code in this project too; what this project builds itself is all around it: crops,
normalisation, the window, the way back to a box. So the network is replaced by `ScriptedNetwork`, and what the tracker
hands to it and the boxes it answers are stored. To record again, with the official repository
(github.com/botaoye/OSTrack, commit 33b5e12586216b7fd0e95d255bd01ba44cbec759) in FOLDER:

    python -m tests.parity.record_ostrack FOLDER
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.types import FrameRGB
from tests.parity.record_mobile_sam import uniform

RECORDING = Path(__file__).parent / "recorded" / "ostrack.npz"
SEED = 2022
N_FRAMES = 8
SIZE_HW_PX = (150, 203)
BOXES_XYWH_PX = (
    (60.25, 40.5, 51.0, 38.75),
    (-4.0, 100.0, 70.0, 49.0),
    (150.0, 2.0, 53.0, 20.0),
    (90.0, 70.0, 11.0, 140.0),
)
"""In the middle, over the corners, and thin."""
STEP = 1009
"""Every 1009th value of what the network gets is kept; a prime number."""
CELLS = 16


def frames() -> list[FrameRGB]:
    """Noise, which no crop can be mistaken in."""
    bits = np.random.PCG64(SEED)
    return [(uniform(bits, (*SIZE_HW_PX, 3)) * 256).astype(np.uint8) for _ in range(N_FRAMES)]


class ScriptedNetwork(torch.nn.Module):
    """Answers by the number of the call, and keeps a sample of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self._bits = np.random.PCG64(SEED + 1)
        self.given: list[NDArray[np.float32]] = []

    def forward(
        self, template: torch.Tensor, search: torch.Tensor, ce_template_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Random score, size and offset maps."""
        parts = [template.flatten()[::STEP], search.flatten()[::STEP], ce_template_mask.float().flatten()]
        self.given.append(torch.cat(parts).numpy())
        score, size, offset = (uniform(self._bits, (1, planes, CELLS, CELLS)) for planes in (1, 2, 2))
        maps = {"score_map": score, "size_map": 0.1 + 0.3 * size, "offset_map": offset}
        return {name: torch.from_numpy(values.astype(np.float32)) for name, values in maps.items()}


def record(official: ModuleType, head: Any) -> dict[str, NDArray[np.float32]]:
    """Boxes (sequences, frames, 4) as x, y, width, height, and samples of the network's inputs, one row per call."""
    boxes, given = [], []
    for start in BOXES_XYWH_PX:
        network = ScriptedNetwork()
        network.box_head = SimpleNamespace(cal_bbox=partial(head.cal_bbox, SimpleNamespace(feat_sz=CELLS)))
        tracker = object.__new__(official.OSTrack)
        backbone = SimpleNamespace(STRIDE=16, CE_LOC=[3, 6, 9], CE_TEMPLATE_RANGE="CTR_POINT")
        sizes = {"template_factor": 2.0, "template_size": 128, "search_factor": 4.0, "search_size": 256}
        tracker.params = SimpleNamespace(**sizes)
        tracker.cfg = SimpleNamespace(
            MODEL=SimpleNamespace(BACKBONE=backbone),
            DATA=SimpleNamespace(TEMPLATE=SimpleNamespace(SIZE=128)),
            TEST=SimpleNamespace(SEARCH_SIZE=256),
        )
        tracker.network, tracker.preprocessor = network, official.Preprocessor()
        tracker.output_window = official.hann2d(torch.tensor([CELLS, CELLS]), centered=True)
        tracker.debug, tracker.save_all_boxes = False, False
        tracker.initialize(frames()[0], {"init_bbox": list(start)})
        boxes.append([start] + [tracker.track(frame)["target_bbox"] for frame in frames()[1:]])
        given.append(network.given)
    return {"boxes_xywh_px": np.array(boxes, np.float32), "given": np.array(given, np.float32)}


def main(folder: str) -> None:
    """Run the official tracker on the CPU, without the packages that only its training needs, and write the file."""
    unused = dict.fromkeys(["visdom", "visdom.server", "tensorboardX", "jpeg4py", "lmdb", "easydict"], MagicMock())
    unused["torch._six"] = MagicMock(string_classes=(str,), int_classes=(int,))
    with (
        patch.dict(sys.modules, unused),
        patch.object(sys, "path", [folder, *sys.path]),
        patch.object(torch.Tensor, "cuda", lambda tensor, *_: tensor),
    ):
        import lib.models.layers.head as heads
        import lib.test.tracker.ostrack as official

        np.savez_compressed(RECORDING, **record(official, heads.CenterPredictor))
    print(f"{RECORDING}: {RECORDING.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1])
