"""Records how the official code of PIPS links pieces of eight frames to long tracks.

Its network is built by the official code in this project too; what this project builds itself is the linking. So the
network is replaced by `ScriptedNetwork`, and what ``chain_demo.run_model`` hands to it and the tracks it answers are
stored. To record again, with the official repository (github.com/aharley/pips, commit
a05a120bd3896eeb1ab28346c00e78543ff83df5) in FOLDER:

    python -m tests.parity.record_pips FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from pipeline.types import FrameRGB
from tests.parity.record_mobile_sam import uniform

RECORDING = Path(__file__).parent / "recorded" / "pips.npz"
SEEDS = (1, 2, 3, 4)
N_FRAMES = 23
SIZE_HW_PX = (360, 640)
"""What the official demonstration resizes to, so that nothing is resized."""
START_XY_PX = (450.0, 100.0)
"""The point that it follows."""
STEP = 100_003
"""Every 100003rd value of the network's video is kept; a prime number."""
N_CALLS = 12
"""More than any of the tracks needs: rows that are not used stay NaN."""


def frames() -> list[FrameRGB]:
    """Noise, which no frame can be mistaken in."""
    bits = np.random.PCG64(SEEDS[0])
    small = (uniform(bits, (N_FRAMES, 45, 80, 3)) * 256).astype(np.uint8)
    return [frame.repeat(8, 0).repeat(8, 1) for frame in small]


class ScriptedNetwork(torch.nn.Module):
    """Answers by the number of the call, and keeps a sample of what it was given."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._bits = np.random.PCG64(100 + seed)
        self._dim = 1 + seed % 3
        self.given: list[NDArray[np.float32]] = []

    def forward(
        self,
        xys: torch.Tensor,
        rgbs: torch.Tensor,
        feat_init: torch.Tensor | None = None,
        iters: int = 3,
        return_feat: bool = False,
    ) -> tuple[Any, ...]:
        """A random walk from the given place, seen more or less: the more often not, the higher ``seed % 3`` is."""
        assert return_feat
        feature = -1.0 if feat_init is None else float(feat_init.reshape(-1)[0])
        self.given.append(
            np.array([*xys.reshape(-1).tolist(), feature, iters, *rgbs.reshape(-1)[::STEP].tolist()], np.float32)
        )
        steps = torch.from_numpy(uniform(self._bits, (1, 8, 1, 2)) * 8 - 4)
        steps[:, 0] = 0
        visibility = torch.from_numpy(uniform(self._bits, (1, 8, 1)) * 9 - 2 * self._dim)
        found = xys[:, None] + steps.cumsum(1)
        # As the real one: the features of the first piece, which are handed back to it, come out of every later one.
        features = torch.full((1, 1, 4), 7.0) if feat_init is None else feat_init
        return [found - 1, found], None, visibility, features


def padded(given: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """What a network was given, a row per call."""
    rows = np.full((N_CALLS, len(given[0])), np.nan, np.float32)
    rows[: len(given)] = given
    return rows


def record(official: ModuleType) -> dict[str, NDArray[np.float32]]:
    """Tracks (seeds, frames, 2) px and samples of the network's inputs, one row per call."""
    video = torch.from_numpy(np.stack(frames())).permute(0, 3, 1, 2)[None]
    tracks, given = [], []
    for seed in SEEDS:
        network = ScriptedNetwork(seed)
        tracks.append(official.run_model(network, video, 1, None)[0, :, 0].numpy())
        # With the last frame alone nothing is left to track; here that call is not made.
        given.append(padded([row for row in network.given if not _is_of_one_frame(row, network.given)]))
    return {"tracks_xy_px": np.array(tracks, np.float32), "given": np.array(given, np.float32)}


def _is_of_one_frame(row: NDArray[np.float32], rows: list[NDArray[np.float32]]) -> bool:
    last = torch.from_numpy(frames()[-1]).permute(2, 0, 1).expand(1, 8, -1, -1, -1).reshape(-1)[::STEP].float()
    return row is rows[-1] and bool(np.array_equal(row[4:], last.numpy()))


class _OnCpu(TorchFunctionMode):
    """The official demonstration names the GPU in every line."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        return func(*args, **{key: value for key, value in (kwargs or {}).items() if key != "device"})


def main(folder: str) -> None:
    """Run the official linking on the CPU, without the packages that only its pictures need, and write the file."""
    unused = dict.fromkeys(["saverloader", "imageio", "imageio.v2", "tensorboardX", "utils.improc"], MagicMock())
    with patch.dict(sys.modules, unused), patch.object(sys, "path", [folder, *sys.path]), _OnCpu():
        import chain_demo

        chain_demo.utils = SimpleNamespace(improc=SimpleNamespace(preprocess_color=lambda image: image))
        np.savez_compressed(RECORDING, **record(chain_demo))
    print(f"{RECORDING}: {RECORDING.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1])
