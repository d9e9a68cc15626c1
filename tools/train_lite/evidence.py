"""What the memory says about the second frame of each pair, from the masks of the first one."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model_zoo.lite.trunk import CHANNELS, PIXEL_MEAN, PIXEL_SCALE, Trunk
from pipeline.segmenters.lite.embedding import CELL_PX, PART_LENGTHS
from pipeline.segmenters.lite.memory import TEMPERATURE, TOP_K
from tools.train_lite.compose import Pair
from tools.train_lite.textures import Picture

Readouts = dict[int, NDArray[np.uint8]]
"""By object id: the share of each cell that is object, (h / CELL_PX, w / CELL_PX) in [0, 255]."""


@dataclass(frozen=True)
class PairWithEvidence:
    """A pair, and what the memory says of its second frame, for the objects of ``labels`` and of ``groups``.

    Both are empty in pairs whose evidence was not computed.
    """

    pair: Pair
    of_labels: Readouts
    of_groups: Readouts


def add_evidence(pairs: Path, out: Path, trunk: Trunk, n_shards: int) -> None:
    """Write every shard again: the first ones, by name, with the memory's evidence, the others with none.

    Args:
        pairs: directory of the pairs.
        out: where to write; shards already there are left alone.
        trunk: with its weights.
        n_shards: how many get evidence; it takes longer than composing them.
    """
    out.mkdir(parents=True, exist_ok=True)
    for index, file in enumerate(sorted(pairs.glob("pairs_*.pkl"))):
        if (out / file.name).exists():
            continue
        begin = time.monotonic()
        found = [
            with_evidence(pair, trunk) if index < n_shards else PairWithEvidence(pair, {}, {})
            for pair in pickle.loads(file.read_bytes())
        ]
        partial = out / (file.stem + ".part")
        partial.write_bytes(pickle.dumps(found))
        partial.rename(out / file.name)
        print(f"{file.name}: {(time.monotonic() - begin) / len(found) * 1000:.0f} ms a pair for evidence", flush=True)


def with_evidence(pair: Pair, trunk: Trunk) -> PairWithEvidence:
    """A pair with the memory's evidence for all of its objects."""
    first, second = _centred(_keys(pair.frame_rgb(0), trunk), _keys(pair.frame_rgb(1), trunk))
    scores = (2 * second @ first.T - first.square().sum(1)) / TEMPERATURE
    best, cells = scores.topk(TOP_K, dim=1)
    weights = best.softmax(1)
    of_labels, of_groups = (_read(pair.object_ids(0, grouped=grouped), cells, weights) for grouped in (False, True))
    return PairWithEvidence(pair, of_labels, of_groups)


def _read(object_ids: Picture, cells: torch.Tensor, weights: torch.Tensor) -> Readouts:
    """The weighted mean of what the first frame's cells hold.

    Args:
        object_ids: (H, W), of the first frame.
        cells: (N, TOP_K), for each cell of the second frame those of the first frame that it asks.
        weights: (N, TOP_K), their weights.
    """
    height, width = object_ids.shape[0] // CELL_PX, object_ids.shape[1] // CELL_PX
    readouts = {}
    for object_id in np.unique(object_ids[object_ids > 0]):
        mask = (object_ids == object_id).astype(np.float32)
        share = torch.from_numpy(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)).ravel()
        readout = (share[cells] * weights).sum(1).reshape(height, width)
        readouts[int(object_id)] = np.asarray((255 * readout).round().to(torch.uint8).numpy())
    return readouts


def _keys(picture_rgb: Picture, trunk: Trunk) -> torch.Tensor:
    """Features of unit length (cells, 112 + 320) of strides 16 and 32, of a picture (H, W, 3)."""
    image = torch.from_numpy((picture_rgb.astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE).permute(2, 0, 1)[None]
    with torch.inference_mode():
        maps = trunk(image.contiguous(memory_format=torch.channels_last))
        size = picture_rgb.shape[0] // CELL_PX, picture_rgb.shape[1] // CELL_PX
        parts = [torch.nn.functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps[3:]]
        return torch.cat([_unit(part[0].flatten(1).T) for part in parts], 1)


def _centred(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (cells, 432) without the first frame's mean, each part of its length in `PART_LENGTHS`."""
    found, channels = [], CHANNELS[3]
    for keys in (first, second):
        centred = keys - first.mean(0)
        parts = PART_LENGTHS[0] * _unit(centred[:, :channels]), PART_LENGTHS[1] * _unit(centred[:, channels:])
        found.append(torch.cat(parts, 1))
    return found[0], found[1]


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.div(rows, rows.norm(dim=1, keepdim=True) + 1e-6)
