"""Which cells of a frame SAM's space-time memory asks about and stores, and how what was read comes back.

I-PT (III-D) takes all 64 x 64 cells of every frame. Here the padding takes no part, nor do cells far from the object:
there a frame's own dense embedding says "no object" already, and what looks like the object is something else. On a CPU
the numbers of cells are bounded as well, because the memory would take longer than the image encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.base import FloatMap, MemoryQuery, MemoryReadout, ObjectPrompts
from pipeline.types import BoolMask

REACH, LEAST_REACH = 0.3, 0.04
"""How far around an object the memory is asked: a share of the object's longer side, plus a share of the image's."""
NEAR_CELLS = 4
"""Cells at most this far from the object count as near it."""
STORED_SHARES = 0.5, 0.3
"""Of the stored cells, where their number is bounded: on the object and near it; the others are far from it."""


@dataclass(frozen=True)
class CellLimits:
    """The most cells of one frame that are asked about and stored; None is all of them."""

    asked: int | None = None
    stored: int | None = None

    @classmethod
    def on(cls, device: torch.device) -> CellLimits:
        """On a CPU 22 full frames (two prompted ones, all slots of `i_pt`) are read in the time of one decoder call."""
        return cls(asked=768, stored=384) if device.type == "cpu" else cls()


@dataclass(frozen=True)
class AskedCells:
    """Private part of SAM's memory queries: the queried cells lie on a lattice of rows and columns.

    Attributes:
        all_keys: (cells, C) float32, the keys of the whole grid, padding included; they may share memory with others.
        grid_hw: rows and columns of the grid.
        image_hw: how many of them show some of the image, from the top left.
        rows: (n,) ascending indices of the rows that are asked about, the first and the last one included.
        columns: (m,) likewise.
    """

    all_keys: torch.Tensor
    grid_hw: tuple[int, int]
    image_hw: tuple[int, int]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    @classmethod
    def around(
        cls,
        all_keys: torch.Tensor,
        grid_hw: tuple[int, int],
        image_hw: tuple[int, int],
        box_cells: tuple[float, float, float, float] | None,
        limit: int | None,
    ) -> AskedCells:
        """The cells in a box and around it; those of the whole image without one.

        Args:
            all_keys: see the class.
            grid_hw: see the class.
            image_hw: see the class.
            box_cells: x0, y0, x1, y1 in cells, or None.
            limit: beyond so many cells a lattice of fewer rows and columns stands for all.
        """
        bounds = [(0, image_hw[0]), (0, image_hw[1])]
        if box_cells is not None:
            x0, y0, x1, y1 = box_cells
            reach = REACH * max(x1 - x0, y1 - y0) + LEAST_REACH * max(image_hw)
            bounds = [
                (min(max(0, int(low - reach)), n - 1), max(1, min(n, int(np.ceil(high + reach)))))
                for low, high, n in zip((y0, x0), (y1, x1), image_hw, strict=True)
            ]
        n_cells = (bounds[0][1] - bounds[0][0]) * (bounds[1][1] - bounds[1][0])
        share = 1.0 if limit is None else min(1.0, (limit / n_cells) ** 0.5)
        rows, columns = (_spread(low, high, share) for low, high in bounds)
        return cls(all_keys, grid_hw, image_hw, rows, columns)

    @property
    def n_cells(self) -> int:
        """How many cells are asked about."""
        return len(self.rows) * len(self.columns)

    @property
    def cells(self) -> torch.Tensor:
        """Which cells (N,) int64 of the grid are asked about, row by row."""
        return torch.from_numpy((self.rows[:, None] * self.grid_hw[1] + self.columns).ravel())

    def query(self) -> MemoryQuery:
        """The query of these cells: keys (C, N)."""
        return MemoryQuery(self.all_keys[self.cells.to(self.all_keys.device)].T, self)

    def mix(self, dense: torch.Tensor, readout: MemoryReadout) -> None:
        """Mix a dense prompt embedding (C, gh, gw) in place with what was read for these cells (I-PT, Eq. 6).

        Between the rows and columns that were asked about, values are interpolated.
        """
        values = readout.values.to(dense.device, torch.float32).reshape(1, -1, len(self.rows), len(self.columns))
        rows, columns = (slice(int(each[0]), int(each[-1]) + 1) for each in (self.rows, self.columns))
        part = dense[:, rows, columns]
        if values.shape[2:] != part.shape[1:]:
            values = F.interpolate(values, part.shape[1:], mode="bilinear", align_corners=True)
        part.mul_(readout.alpha).add_(values[0], alpha=1 - readout.alpha)

    def stored(self, mask: BoolMask, limit: int | None) -> torch.Tensor:
        """Which cells (M,) int64 of the grid a frame stores: all of the image, or at most ``limit``.

        Then half of them lie on the object, most others near it; where there are fewer, the rest of the image has more.

        Args:
            mask: (h, w) in the segmenter's resolution, not empty.
            limit: see above.
        """
        on_image = np.zeros(self.grid_hw, np.bool_)
        on_image[: self.image_hw[0], : self.image_hw[1]] = True
        if limit is None or on_image.sum() <= limit:
            return torch.from_numpy(np.flatnonzero(on_image))
        share = cv2.resize(mask.astype(np.float32), self.grid_hw[::-1], interpolation=cv2.INTER_AREA)
        is_object = on_image & (share >= min(0.5, float(share.max())))
        kernel = np.ones((2 * NEAR_CELLS + 1,) * 2, np.uint8)
        near = on_image & (cv2.dilate(is_object.astype(np.uint8), kernel) > 0) & ~is_object
        groups = [np.flatnonzero(group) for group in (is_object, near, on_image & ~is_object & ~near)]
        rng = np.random.default_rng(0)
        chosen = [_sample(group, int(limit * part), rng) for group, part in zip(groups, STORED_SHARES, strict=False)]
        chosen.append(_sample(groups[2], limit - sum(map(len, chosen)), rng))
        left = limit - sum(map(len, chosen))
        others = np.setdiff1d(np.concatenate(groups), np.concatenate(chosen))
        return torch.from_numpy(np.sort(np.concatenate([*chosen, _sample(others, left, rng)])))


def object_box(
    low_res_logits: FloatMap, prompts: ObjectPrompts, cells_per_px: float, grid_hw: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 in cells of the grid: the smallest box around a mask and the prompted box; None for no mask.

    Args:
        low_res_logits: (h, w) of the mask.
        prompts: in pixels of the frame.
        cells_per_px: cells per pixel of the frame.
        grid_hw: rows and columns of the grid.
    """
    mask = low_res_logits > 0
    if not mask.any():
        return None
    scale = grid_hw[1] / mask.shape[1]
    x0, y0, x1, y1 = (float(value) * scale for value in bounding_box(mask))
    if prompts.box_xyxy_px is not None:
        left, top, right, bottom = (float(value) * cells_per_px for value in prompts.box_xyxy_px)
        x0, y0, x1, y1 = min(x0, left), min(y0, top), max(x1, right), max(y1, bottom)
    return x0, y0, x1, y1


def _spread(low: int, high: int, share: float) -> NDArray[np.intp]:
    """A share of the numbers from ``low`` to ``high`` - 1, evenly, with the first and the last."""
    n = high - low
    kept = n if share >= 1 else max(1, min(n, max(2, int(n * share))))
    return np.asarray(np.linspace(low, high - 1, kept).round(), np.intp)


def _sample(cells: NDArray[np.intp], limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return cells if len(cells) <= limit else rng.choice(cells, limit, replace=False)
