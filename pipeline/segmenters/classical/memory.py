"""The space-time memory: labelled cells of prompted frames, read by nearest neighbours (after I-PT, Eq. 2-5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.types import BoolMask

PRINCIPAL_COMPONENTS = 20
MAX_CELLS = 1000
NEIGHBOURS = 3
TEMPERATURE = 0.15
LOGIT_LIMIT = 3.0
POSITION_WEIGHT = 0.02


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
    """(gh, gw, 26) keys: 2 x Lab, Lab blurred, 2 x projected features."""
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
class KeyMemory:
    """Reference cells (N, 28) of object and background."""

    foreground: NDArray[np.float32]
    background: NDArray[np.float32]

    @classmethod
    def build(
        cls, frames: Sequence[tuple[ClassicalEmbedding, BoolMask, NDArray[np.float32]]], rng: np.random.Generator
    ) -> KeyMemory | None:
        """Memorise frames given as (embedding, work-size mask, projected grid); None when no frame shows the object."""
        foreground, background = [], []
        budget = MAX_CELLS // max(1, len(frames))
        for embedding, mask, projected in frames:
            if not mask.any():
                continue
            gh, gw = projected.shape[:2]
            share = cv2.resize(mask.astype(np.float32), (gw, gh), interpolation=cv2.INTER_AREA)
            is_object = share >= min(0.5, float(share.max()))
            centre = centre_cell(mask)
            both = np.concatenate([keys(embedding, projected), _positions((gh, gw), centre)], axis=2)
            near = cv2.dilate(is_object.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
            foreground.append(_sample(both[is_object], budget // 2, rng))
            background.append(_sample(both[near & (share < 0.5)], budget // 3, rng))
            background.append(_sample(both[~near], budget // 6, rng))
        if not foreground or not sum(len(part) for part in background):
            return None
        return cls(np.concatenate(foreground), np.concatenate(background))

    def read(
        self, query_keys: NDArray[np.float32], centre_xy: tuple[float, float] | None, where: BoolMask
    ) -> NDArray[np.float32]:
        """Logits (gh, gw) in +-`LOGIT_LIMIT` at the cells of ``where``, the lower limit elsewhere.

        Args:
            query_keys: (gh, gw, 26) from `keys`.
            centre_xy: where the object's centre is expected, in cells; None leaves position out of the comparison.
            where: (gh, gw) cells to read.
        """
        logits = np.full(where.shape, -LOGIT_LIMIT, np.float32)
        selected = query_keys[where]
        if not len(selected):
            return logits
        foreground, background = self.foreground, self.background
        if centre_xy is None:
            foreground, background = foreground[:, : selected.shape[1]], background[:, : selected.shape[1]]
        else:
            selected = np.concatenate([selected, _positions(where.shape, centre_xy)[where]], axis=1)
        query = np.ascontiguousarray(selected)
        difference = nearest_distance(query, background) - nearest_distance(query, foreground)
        logits[where] = np.clip(difference / TEMPERATURE, -LOGIT_LIMIT, LOGIT_LIMIT)
        return logits


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
