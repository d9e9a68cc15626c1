"""Keys and values of the space-time memory: features of grid cells, and whether a cell is object (I-PT, III-D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.segmenters.base import MemoryEntry, MemoryQuery, MemoryReadout
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.types import BoolMask

PRINCIPAL_COMPONENTS = 20
MAX_CELLS = 400
NEIGHBOURS = 3
TEMPERATURE = 0.15
LOGIT_LIMIT = 3.0
POSITION_WEIGHT = 0.02
REACH = 0.3
MIN_REACH_PX = 16.0
"""How far around a mask the memory is asked: a share of its longer side, and this at least."""


@dataclass(frozen=True)
class Projection:
    """Principal components of the grid features of the reference frames: centre (80,), axes (80, 20)."""

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, embeddings: Sequence[ClassicalEmbedding]) -> Projection:
        """Fit to all cells of the given frames."""
        cells = np.concatenate([e.grid.reshape(-1, e.grid.shape[2]) for e in embeddings]).astype(np.float32)
        centre = cells.mean(axis=0)
        cells -= centre
        _, vectors = np.linalg.eigh(cells.T @ cells)
        return cls(centre, np.ascontiguousarray(vectors[:, ::-1][:, :PRINCIPAL_COMPONENTS], dtype=np.float32))

    def __call__(self, embedding: ClassicalEmbedding) -> NDArray[np.float32]:
        """(gh, gw, 20) float32."""
        return np.asarray((embedding.grid.astype(np.float32) - self.centre) @ self.axes, np.float32)


def keys(embedding: ClassicalEmbedding, projected: NDArray[np.float32]) -> NDArray[np.float32]:
    """(gh, gw, 6 + C) keys: 2 x Lab, Lab blurred, 2 x the features (gh, gw, C)."""
    gh, gw = projected.shape[:2]
    lab = embedding.pixels[..., :3].astype(np.float32)
    colour = cv2.resize(lab, (gw, gh), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(embedding.pixels[..., 3:6].astype(np.float32), (gw, gh), interpolation=cv2.INTER_AREA)
    return np.concatenate([2 * colour, blurred, 2 * projected], axis=2)


def _positions(shape: tuple[int, ...], centre_xy: tuple[float, float]) -> NDArray[np.float32]:
    """(gh, gw, 2): half of the centre-relative position in cells, weighted for use beside the keys."""
    ys, xs = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    offsets = np.dstack([xs - centre_xy[0], ys - centre_xy[1]])
    return np.asarray(0.5 * np.sqrt(POSITION_WEIGHT) * offsets, np.float32)


def centre_cell(mask: BoolMask) -> tuple[float, float]:
    """Centre of a work-size mask in cells, x and y. The mask must not be empty."""
    ys, xs = np.nonzero(mask)
    return float(xs.mean()) / STRIDE_PX, float(ys.mean()) / STRIDE_PX


@dataclass(frozen=True)
class Cells:
    """The cells a memory query is about: the frame's ``keys`` (gh, gw, 26), ``where`` (gh, gw) bool those asked for."""

    keys: NDArray[np.float32]
    where: BoolMask

    @classmethod
    def of(cls, embedding: ClassicalEmbedding, projection: Projection, mask: BoolMask) -> Cells:
        """The cells of a frame; those around a work-size mask (h, w) are asked for, or all if it is empty."""
        projected = projection(embedding)
        where = np.ones(projected.shape[:2], np.bool_)
        if mask.any():
            gh, gw = where.shape
            ys, xs = np.nonzero(mask)
            reach = REACH * max(np.ptp(xs), np.ptp(ys)) + MIN_REACH_PX
            low = max(0, int((ys.min() - reach) / STRIDE_PX)), max(0, int((xs.min() - reach) / STRIDE_PX))
            high = min(gh, int((ys.max() + reach) / STRIDE_PX) + 1), min(gw, int((xs.max() + reach) / STRIDE_PX) + 1)
            where[:] = False
            where[low[0] : high[0], low[1] : high[1]] = True
        return cls(keys(embedding, projected), where)

    def query(self, centre_xy: tuple[float, float] | None) -> MemoryQuery:
        """Ask for the cells of ``where``.

        Args:
            centre_xy: where the object's centre is expected, in cells; None leaves position out of the comparison.
        """
        rows = self.keys[self.where]
        if centre_xy is not None:
            rows = np.concatenate([rows, _positions(self.where.shape, centre_xy)[self.where]], axis=1)
        return MemoryQuery(_columns(rows), self)

    def entry(self, mask: BoolMask) -> MemoryEntry:
        """What to remember of the frame: a sample of the object's cells, of those around it and of the rest.

        Args:
            mask: (h, w) at work size; must not be empty.
        """
        gh, gw = self.where.shape
        share = cv2.resize(mask.astype(np.float32), (gw, gh), interpolation=cv2.INTER_AREA)
        is_object = share >= min(0.5, float(share.max()))
        near = cv2.dilate(is_object.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.bool_)
        both = np.concatenate([self.keys, _positions((gh, gw), centre_cell(mask))], axis=2)
        rng = np.random.default_rng(0)
        groups = (is_object, MAX_CELLS // 2), (near & ~is_object, MAX_CELLS // 3), (~near, MAX_CELLS // 6)
        parts = [_sample(both[group], limit, rng) for group, limit in groups]
        values = np.repeat(np.array([1, 0, 0], np.float32), [len(part) for part in parts])
        return MemoryEntry(_columns(np.concatenate(parts)), torch.from_numpy(values[None]))


def readout_logits(readout: MemoryReadout, own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (gh, gw) in +-`LOGIT_LIMIT` that the memory gives its cells; 0 where it was not asked.

    Args:
        readout: values are probabilities of being object.
        own: (gh, gw) the frame's own probabilities, mixed in by I-PT's Eq. 6.
    """
    where = readout.query.cells.where
    probability = readout.alpha * own[where] + (1.0 - readout.alpha) * readout.values[0].cpu().numpy()
    logits = np.zeros(where.shape, np.float32)
    limited = np.clip(probability, 1e-3, 1 - 1e-3)
    logits[where] = np.clip(np.log(limited / (1.0 - limited)), -LOGIT_LIMIT, LOGIT_LIMIT)
    return logits


def _columns(rows: NDArray[np.float32]) -> torch.Tensor:
    """Keys (N, C) as the memory wants them: (C, N), scaled so that the softmax has the right temperature."""
    return torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.float32)) / float(np.sqrt(TEMPERATURE))


def _sample(rows: NDArray[np.float32], limit: int, rng: np.random.Generator) -> NDArray[np.float32]:
    if len(rows) <= limit:
        return rows
    return rows[np.sort(rng.choice(len(rows), limit, replace=False))]


def nearest_distance(query: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) mean of the `NEIGHBOURS` smallest squared distances from every row of ``query`` (N, C) to ``examples``."""
    with torch.inference_mode():
        rows, columns = torch.from_numpy(query), torch.from_numpy(np.ascontiguousarray(examples))
        distances = torch.cdist(rows, columns, compute_mode="use_mm_for_euclid_dist").square_()
        nearest = torch.topk(distances, min(NEIGHBOURS, len(examples)), dim=1, largest=False, sorted=False)
        return np.asarray(nearest.values.mean(dim=1).numpy(), np.float32)
