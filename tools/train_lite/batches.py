"""Samples as the network takes them, with what follows from their pixels: likeness of colours and memory evidence."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model_zoo.lite.network import LiteNetwork
from model_zoo.lite.trunk import CHANNELS, PIXEL_MEAN, PIXEL_SCALE, Trunk
from pipeline.memory import crstm
from pipeline.segmenters.lite.embedding import grid_keys
from pipeline.segmenters.lite.likeness import put_likeness
from pipeline.segmenters.lite.memory import TEMPERATURE, TOP_K
from tools.train_lite.samples import Sample, put_evidence

LAST = torch.channels_last
MEAN_PAIRS, MEAN_SHARDS = 72, 6
"""Pairs of frames over which the mean key is taken, and how many shards they come from."""


def images_of(crops: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Crops (R, R, 3) as the trunk takes them."""
    image = torch.from_numpy((np.stack(crops).astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE)
    return image.permute(0, 3, 1, 2).contiguous(memory_format=LAST)


def planes_of(samples: Sequence[Sample]) -> torch.Tensor:
    """The planes of samples, with what follows from their colours."""
    for sample in samples:
        put_likeness(sample.planes, sample.crop)
    return torch.from_numpy(np.stack([sample.planes for sample in samples])).contiguous(memory_format=LAST)


def features_of(trunk: Trunk, image: torch.Tensor) -> list[torch.Tensor]:
    """The trunk's features; parts of four crops stay in the processor's cache, which halves the time."""
    with torch.no_grad():
        parts = [trunk(part) for part in torch.split(image, 4)]
        return [torch.cat(maps).contiguous(memory_format=LAST) for maps in zip(*parts, strict=True)]


def recall(
    trunk: Trunk,
    features: list[torch.Tensor],
    mean: torch.Tensor,
    samples: Sequence[Sample],
    rng: np.random.Generator,
) -> None:
    """Draw into the samples that have references what a memory of these says, as the segmenter does."""
    crops = [reference.crop for sample in samples for reference in sample.references]
    if not crops:
        return
    known = features_of(trunk, images_of(crops))
    keys = iter(grid_keys(f16, f32, mean).flatten(1) for f16, f32 in zip(known[3], known[4], strict=True))
    for row, sample in enumerate(samples):
        if not sample.references:
            continue
        shown = [torch.from_numpy(reference.shown.ravel()) for reference in sample.references]
        memory = torch.cat([next(keys)[:, each] for each in shown], 1)
        shares = [torch.from_numpy(reference.shares.ravel()) for reference in sample.references]
        values = torch.cat([each[cells] for each, cells in zip(shares, shown, strict=True)])[None]
        query = grid_keys(features[3][row], features[4][row], mean)
        readout = crstm.read(memory, values, query.flatten(1), TOP_K, TEMPERATURE)[0]
        put_evidence(sample, readout.reshape(query.shape[1:]).numpy(), rng)


def mean_key(trunk: Trunk, pairs: Path) -> torch.Tensor:
    """The mean (432,) of the features of unit length at strides 16 and 32, over composed frames.

    Raises:
        FileNotFoundError: there are no pairs.
    """
    files = sorted(pairs.glob("pairs_*.pkl"))[:MEAN_SHARDS]
    if not files:
        raise FileNotFoundError(
            f"expected pairs_*.pkl in {pairs}, but there is none; run `python -m tools.train_lite data`"
        )
    sums, counts = [torch.zeros(channels) for channels in CHANNELS[3:]], [0, 0]
    network = LiteNetwork()
    network.trunk = trunk
    for file in files:
        for pair in pickle.loads(file.read_bytes())[: MEAN_PAIRS // len(files)]:
            for index, features in enumerate(network.key_maps(pair.frame_rgb(0))):
                unit = F.normalize(features.flatten(1), dim=0)
                sums[index] += unit.sum(1)
                counts[index] += unit.shape[1]
    return torch.cat([total / count for total, count in zip(sums, counts, strict=True)])
