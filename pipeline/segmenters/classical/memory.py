"""Keys and values of the space-time memory: features of grid cells, and whether a cell is object (I-PT, III-D)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.segmenters.base import MemoryEntry, MemoryQuery, MemoryReadout
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding, Projection
from pipeline.types import BoolMask

MAX_CELLS = 400
"""Cells that one frame adds to the memory."""
CELL_SHARE_DIVISORS = (2, 3, 6)
"""`MAX_CELLS` over these: cells on the object, near it and far from it."""
NEAR_SIDE_CELLS = 9
"""Side of the square by which the object is dilated to find the cells near it."""
KEY_COLOUR_WEIGHT = 2
"""Factor on the scaled colours in a key; blurred colours have factor 1."""
KEY_HISTOGRAM_WEIGHT = 2
"""Factor on the orientation histograms in a key."""
POSITION_WEIGHT = 0.02
"""Squared distance in a key that the square of one half of a cell of displacement adds."""
KEY_TEMPERATURE = 0.15
"""Squared distance that one unit of the memory's softmax stands for."""
MEMORY_LOGIT_LIMIT = 3.0
"""Logits of the memory are clipped to plus or minus this."""
PROBABILITY_FLOOR = 1e-3
"""Least distance of a probability from 0 and 1 before its logit is taken."""
QUERY_MARGIN = 0.3
"""The memory is read this far around a mask, as a share of the mask's longer side."""
MIN_QUERY_MARGIN_PX = 16.0
"""The memory is read at least this many work pixels farther around a mask."""


@dataclass(frozen=True)
class QueriedCells:
    """Cells of a frame that a memory query is about: all ``keys`` (gh, gw, 26), and ``queried`` (gh, gw) bool."""

    keys: NDArray[np.float32]
    queried: BoolMask

    @classmethod
    def around(cls, embedding: ClassicalEmbedding, projection: Projection, mask: BoolMask) -> QueriedCells:
        """The cells around a work-size mask (h, w), or all cells if the mask is empty."""
        projected = projection(embedding)
        queried = np.ones(projected.shape[:2], np.bool_)
        if mask.any():
            gh, gw = queried.shape
            ys, xs = np.nonzero(mask)
            pad = QUERY_MARGIN * max(np.ptp(xs), np.ptp(ys)) + MIN_QUERY_MARGIN_PX
            low = max(0, int((ys.min() - pad) / STRIDE_PX)), max(0, int((xs.min() - pad) / STRIDE_PX))
            high = min(gh, int((ys.max() + pad) / STRIDE_PX) + 1), min(gw, int((xs.max() + pad) / STRIDE_PX) + 1)
            queried[:] = False
            queried[low[0] : high[0], low[1] : high[1]] = True
        return cls(cell_keys(embedding, projected), queried)

    def query(self, centre_xy: tuple[float, float] | None) -> MemoryQuery:
        """The query of these cells.

        Args:
            centre_xy: where the object's centre is expected, in cells; None leaves position out of the comparison.
        """
        rows = self.keys[self.queried]
        if centre_xy is not None:
            rows = np.concatenate([rows, _positions(self.queried.shape, centre_xy)[self.queried]], axis=1)
        return MemoryQuery(_scaled_columns(rows), self)

    def entry(self, mask: BoolMask) -> MemoryEntry:
        """The memory entry of the frame: a sample of the object's cells, of those near it and of the rest.

        Args:
            mask: (h, w) at work size; must not be empty.
        """
        gh, gw = self.queried.shape
        share = cv2.resize(mask.astype(np.float32), (gw, gh), interpolation=cv2.INTER_AREA)
        is_object = share >= min(0.5, float(share.max()))
        near = cv2.dilate(is_object.astype(np.uint8), np.ones((NEAR_SIDE_CELLS,) * 2, np.uint8)).astype(np.bool_)
        keys = np.concatenate([self.keys, _positions((gh, gw), centre_cell(mask))], axis=2)
        rng = np.random.default_rng(0)
        groups = is_object, near & ~is_object, ~near
        parts = [
            _sample(keys[group], MAX_CELLS // divisor, rng)
            for group, divisor in zip(groups, CELL_SHARE_DIVISORS, strict=True)
        ]
        values = np.repeat(np.array([1, 0, 0], np.float32), [len(part) for part in parts])
        return MemoryEntry(_scaled_columns(np.concatenate(parts)), torch.from_numpy(values[None]))


def cell_keys(embedding: ClassicalEmbedding, histograms: NDArray[np.float32]) -> NDArray[np.float32]:
    """(gh, gw, 6 + C) keys of all cells: colour, blurred colour, and (projected) histograms (gh, gw, C), weighted."""
    gh, gw = histograms.shape[:2]
    lab = embedding.colours[..., :3].astype(np.float32)
    colour = cv2.resize(lab, (gw, gh), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(embedding.colours[..., 3:6].astype(np.float32), (gw, gh), interpolation=cv2.INTER_AREA)
    return np.concatenate([KEY_COLOUR_WEIGHT * colour, blurred, KEY_HISTOGRAM_WEIGHT * histograms], axis=2)


def centre_cell(mask: BoolMask) -> tuple[float, float]:
    """Centre of a work-size mask in cells, x and y. The mask must not be empty."""
    ys, xs = np.nonzero(mask)
    return float(xs.mean()) / STRIDE_PX, float(ys.mean()) / STRIDE_PX


def memory_logits(readout: MemoryReadout, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (h, w) that the memory gives to the queried cells, interpolated to pixels; 0 elsewhere.

    Args:
        readout: its values are probabilities of being object.
        logits: (h, w) the frame's own logits, mixed in by I-PT's Eq. 6.
    """
    queried = readout.query.cells.queried
    gh, gw = queried.shape
    h, w = logits.shape
    reduced = np.clip(cv2.resize(logits, (gw, gh), interpolation=cv2.INTER_AREA), -10, 10)
    own = (1.0 / (1.0 + np.exp(-reduced))).astype(np.float32)
    probability = readout.alpha * own[queried] + (1.0 - readout.alpha) * readout.values[0].cpu().numpy()
    limited = np.clip(probability, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    cells = np.zeros(queried.shape, np.float32)
    cells[queried] = np.clip(np.log(limited / (1.0 - limited)), -MEMORY_LOGIT_LIMIT, MEMORY_LOGIT_LIMIT)
    large = cv2.resize(cells, (gw * STRIDE_PX, gh * STRIDE_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[:h, :w], np.float32)


def _positions(shape: tuple[int, ...], centre_xy: tuple[float, float]) -> NDArray[np.float32]:
    """(gh, gw, 2): half of the position relative to a centre in cells, weighted for appending to the keys."""
    ys, xs = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    offsets = np.dstack([xs - centre_xy[0], ys - centre_xy[1]])
    return np.asarray(0.5 * np.sqrt(POSITION_WEIGHT) * offsets, np.float32)


def _scaled_columns(rows: NDArray[np.float32]) -> torch.Tensor:
    """Keys (N, C) as the memory takes them: (C, N), scaled so that its softmax has the right temperature."""
    return torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.float32)) / float(np.sqrt(KEY_TEMPERATURE))


def _sample(rows: NDArray[np.float32], limit: int, rng: np.random.Generator) -> NDArray[np.float32]:
    if len(rows) <= limit:
        return rows
    return rows[np.sort(rng.choice(len(rows), limit, replace=False))]
