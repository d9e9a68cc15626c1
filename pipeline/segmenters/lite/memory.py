"""Memories of segmenter `lite`: keys are features of a crop's cells, values say whether one is object (I-PT, III-D).

A crop shows an object at the same size on every frame, so that its cells can be compared and small objects have as many
of them as large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model_zoo.lite.decoder import Plane
from model_zoo.lite.network import Features
from pipeline.memory import crstm
from pipeline.segmenters.base import FloatMap, MemoryEntry
from pipeline.segmenters.lite.crops import Crop
from pipeline.segmenters.lite.embedding import CELL_PX, LiteEmbedding, grid_keys
from pipeline.types import BoolMask

TEMPERATURE = 0.5
"""Squared distance of keys that one unit of the memory's softmax stands for."""
TOP_K = 20
"""Memory cells that answer for one cell of a frame."""
KEY_CHANNELS = 128
"""Channels of keys after projection, of 432: reading a memory takes less time."""
ENTRY_CELLS = 400
"""Cells that one frame adds to a memory."""
CELL_SHARES = (0.5, 0.3, 0.2)
"""Of a frame's remembered cells: on the object, near it, and far from it."""
NEAR_CELLS = 3
"""Cells at most this far from the object count as near it."""
MAX_REFERENCE_CELLS = 4096
"""Cells of all prompted frames together that an appearance keeps."""
DISTRUST = 8.0
"""Squared distance that is added to cells whose value no person has checked. They look most like the next frame, and
would let a mask that has grown over something else grow on."""
MAX_DISTANCE = 11.0
"""Squared distance of a key from the nearest one of an object beyond which a cell shows something else. On six real
clips, ten and 35 frames after the prompted one, most cells of the object were nearer in eleven of twelve cases, and at
most one in 20 of all others."""


@dataclass(frozen=True)
class CropCells:
    """A crop with the trunk's features of it; its memory keys are those of a grid of `CELL_PX`."""

    crop: Crop
    features: Features

    def keys(self, mean: torch.Tensor) -> torch.Tensor:
        """The keys (432, N) of all cells, row by row."""
        maps = self.features[3][0].float().cpu(), self.features[4][0].float().cpu()
        return grid_keys(*maps, mean).flatten(1)

    @property
    def n_across(self) -> int:
        """Cells in a row."""
        return self.crop.side_px // CELL_PX

    def shares(self, mask: BoolMask) -> FloatMap:
        """The share of each cell (n, n) that a mask (h, w) of the work picture covers."""
        side = self.crop.side_px
        how = cv2.INTER_AREA if self.crop.zoom < 1 else cv2.INTER_LINEAR
        moved = cv2.warpAffine(mask.astype(np.float32), self.crop.matrix, (side, side), flags=how)
        return np.asarray(cv2.resize(moved, (self.n_across,) * 2, interpolation=cv2.INTER_AREA), np.float32)

    @property
    def on_frame(self) -> BoolMask:
        """Which cells (n, n) show the frame."""
        valid = self.crop.planes[Plane.VALID]
        return np.asarray(cv2.resize(valid, (self.n_across,) * 2, interpolation=cv2.INTER_AREA) > 0.5)

    def put(self, values: NDArray[np.float32]) -> None:
        """Draw what a memory said of all cells (N,), in [0, 1], as evidence."""
        grid = np.ascontiguousarray(values.reshape(self.n_across, self.n_across), np.float32)
        self.crop.put_evidence(grid)


@dataclass(frozen=True)
class Projection:
    """The directions of keys in which an object's prompted frames vary most: (432, C), and the scale of a softmax."""

    basis: torch.Tensor

    @classmethod
    def fit(cls, keys: torch.Tensor) -> Projection:
        """From keys (432, M)."""
        _, vectors = torch.linalg.eigh(keys @ keys.T)
        return cls(vectors[:, -KEY_CHANNELS:] / float(np.sqrt(TEMPERATURE)))

    def __call__(self, keys: torch.Tensor) -> torch.Tensor:
        """Keys (432, N) as memories take them, (C + 1, N); the last channel is for `DISTRUST`."""
        return torch.cat([self.basis.T @ keys, torch.zeros(1, keys.shape[1])])


@dataclass(frozen=True)
class Appearance:
    """What an object looked like: cells of its prompted frames.

    Frames between them are not learnt from: their masks may be wrong, and look most like those that come next. On four
    real clips the masks were better without.

    Attributes:
        projection: of keys; it stays the same, so that memories stay comparable.
        references: of the prompted frames.
        whole: of the prompted frames as wholes, keys (432, M) not projected; lost objects are searched with them.
        usual_area_px: median area of the object on its prompted frames, in work pixels.
    """

    projection: Projection
    references: MemoryEntry
    whole: MemoryEntry
    usual_area_px: float

    @classmethod
    def learn(
        cls,
        frames: Sequence[tuple[LiteEmbedding, BoolMask, Sequence[CropCells]]],
        mean: torch.Tensor,
        projection: Projection | None,
    ) -> Appearance:
        """From prompted frames.

        Args:
            frames: the embedding, the mask (h, w) of the work picture, and crops that show the object and its
                surroundings.
            mean: see `LiteNetwork.key_mean`.
            projection: of an earlier appearance of the object, or None.
        """
        keys = [[cells.keys(mean) for cells in crops] for _, _, crops in frames]
        whole = [_whole(embedding, mask, mean, MAX_REFERENCE_CELLS // len(frames)) for embedding, mask, _ in frames]
        if projection is None:
            known = [each for row in keys for each in row] or [each.keys for each in whole]
            projection = Projection.fit(torch.cat(known, 1))
        limit = MAX_REFERENCE_CELLS // max(1, sum(len(row) for row in keys))
        entries = [
            remembered(cells, projection(key), mask, limit)
            for (_, mask, crops), row in zip(frames, keys, strict=True)
            for cells, key in zip(crops, row, strict=True)
        ]
        areas_px = [int(mask.sum()) for _, mask, _ in frames if mask.any()]
        return cls(
            projection,
            joined(entries) if entries else MemoryEntry(torch.empty(KEY_CHANNELS + 1, 0), torch.empty(1, 0)),
            joined(whole),
            float(np.median(areas_px)) if areas_px else 0.0,
        )

    def read(self, keys: torch.Tensor) -> NDArray[np.float32]:
        """What these frames say of cells, (N,) in [0, 1], for projected keys (C, N)."""
        known = self.references
        if not known.keys.shape[1]:
            return np.zeros(keys.shape[1], np.float32)
        return np.asarray(crstm.read(known.keys, known.values, keys, TOP_K)[0].numpy(), np.float32)

    def search(self, embedding: LiteEmbedding, mean: torch.Tensor) -> FloatMap:
        """What the prompted frames say of all cells (rows, columns) of a frame, in [0, 1].

        A cell that looks like nothing of the object (`MAX_DISTANCE`) has 0, whatever else it looks like.
        """
        keys = embedding.keys(mean)
        flat, own = keys.flatten(1), self.whole.keys[:, self.whole.values[0] > 0.5]
        if not own.shape[1]:
            return np.zeros(keys.shape[1:], np.float32)
        found = crstm.read(self.whole.keys, self.whole.values, flat, TOP_K, TEMPERATURE)[0]
        nearest = -crstm.affinity(own, flat).amax(dim=0)
        return np.asarray((found * (nearest < MAX_DISTANCE)).numpy().reshape(keys.shape[1:]))


def remembered(
    cells: CropCells, keys: torch.Tensor, mask: BoolMask, limit: int, *, predicted: bool = False
) -> MemoryEntry:
    """A sample of a crop's cells: of those on a mask (h, w), near it, and far from it.

    A value is the share of its cell that the mask covers.

    Args:
        cells: the crop.
        keys: (C, N) of all of its cells, projected.
        mask: of the work picture.
        limit: how many cells to take at most.
        predicted: whether no person said what the mask is.
    """
    shares, shown = cells.shares(mask), cells.on_frame
    entry = _sampled(keys, shares, shown, limit)
    if predicted:
        entry.keys[-1] = float(np.sqrt(DISTRUST / TEMPERATURE))
    return entry


def joined(entries: Sequence[MemoryEntry]) -> MemoryEntry:
    """Several entries as one."""
    if len(entries) == 1:
        return entries[0]
    return MemoryEntry(torch.cat([e.keys for e in entries], 1), torch.cat([e.values for e in entries], 1))


def _whole(embedding: LiteEmbedding, mask: BoolMask, mean: torch.Tensor, limit: int) -> MemoryEntry:
    shares = embedding.shares(mask)
    return _sampled(embedding.keys(mean).flatten(1), shares, np.ones(shares.shape, np.bool_), limit)


def _sampled(keys: torch.Tensor, shares: FloatMap, shown: BoolMask, limit: int) -> MemoryEntry:
    is_object = shown & (shares >= max(1e-6, min(0.5, float(shares.max()))))
    kernel = np.ones((2 * NEAR_CELLS + 1,) * 2, np.uint8)
    near = (cv2.dilate(is_object.astype(np.uint8), kernel) > 0) & ~is_object & shown
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(group) for group in (is_object, near, shown & ~is_object & ~near)]
    chosen = np.concatenate([_some(g, int(limit * s), rng) for g, s in zip(groups, CELL_SHARES, strict=True)])
    if len(chosen) < limit:
        others = np.setdiff1d(np.concatenate(groups), chosen)
        chosen = np.concatenate([chosen, _some(others, limit - len(chosen), rng)])
    return MemoryEntry(keys[:, torch.from_numpy(chosen)].contiguous(), torch.from_numpy(shares.ravel()[chosen][None]))


def _some(cells: NDArray[np.intp], limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return cells if len(cells) <= limit else rng.choice(cells, limit, replace=False)
