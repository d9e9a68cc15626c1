"""The grid of cells of a shared memory: where cells are in the frame, their keys and their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.masks import NO_OBJECT_LOGIT, bounding_box
from pipeline.segmenters.base import FloatMap, Segmenter
from pipeline.types import BoolMask

REACH, LEAST_REACH = 0.3, 0.04
"""How far around a mask the memory is read: a share of the mask's longer side, plus a share of the frame's."""


@dataclass(frozen=True)
class KeyGrid:
    """A coarse grid over the image part of a segmenter's maps; one for all frames of a video.

    Attributes:
        low_res_hw: rows and columns of the segmenter's low-resolution masks.
        covered_hw: how many of them the image covers, from the top left; the rest is padding.
        features_hw: how many rows and columns of the segmenter's map of keys the image covers.
        grid_hw: rows and columns of the grid.
        x_px: (w,) float32, centres of the low-resolution columns in pixels of the original frame.
        y_px: (h,) float32, centres of the low-resolution rows.
    """

    low_res_hw: tuple[int, int]
    covered_hw: tuple[int, int]
    features_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    x_px: NDArray[np.float32]
    y_px: NDArray[np.float32]

    @classmethod
    def of(cls, segmenter: Segmenter, embedding: Any, size_hw_px: tuple[int, int], max_cells_across: int) -> KeyGrid:
        """The grid for a segmenter and a frame size, with at most ``max_cells_across`` cells along the longer side."""
        x_px, y_px = low_res_centres_px(segmenter, embedding, size_hw_px)
        n_rows, n_columns = segmenter.key_features(embedding).shape[1:]
        features_hw = _covered(y_px, n_rows), _covered(x_px, n_columns)
        scale = min(1.0, max_cells_across / max(features_hw))
        return cls(
            low_res_hw=(len(y_px), len(x_px)),
            covered_hw=(round(features_hw[0] * len(y_px) / n_rows), round(features_hw[1] * len(x_px) / n_columns)),
            features_hw=features_hw,
            grid_hw=(max(1, round(features_hw[0] * scale)), max(1, round(features_hw[1] * scale))),
            x_px=x_px,
            y_px=y_px,
        )

    @property
    def n_cells(self) -> int:
        """How many cells a frame has."""
        return self.grid_hw[0] * self.grid_hw[1]

    def keys(self, features: torch.Tensor) -> torch.Tensor:
        """Unit keys (C, N) float32 of a frame's cells, from the image alone (thesis, Eq. 3.5).

        The mean over all cells is subtracted first, as it distinguishes none of them.

        Args:
            features: (C, h', w'), see `Segmenter.key_features`.
        """
        rows, columns = self.features_hw
        with torch.inference_mode():
            pooled = F.adaptive_avg_pool2d(features[None, :, :rows, :columns].float(), self.grid_hw)[0].flatten(1)
            return F.normalize(pooled - pooled.mean(dim=1, keepdim=True), dim=0)

    def shares(self, mask: BoolMask) -> torch.Tensor:
        """Values (N,) float32 in [0, 1]: the share of each cell that a mask (H, W) of the frame covers."""
        small = cv2.resize(mask.astype(np.float32), self.grid_hw[::-1], interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small.ravel())

    def low_res_shares(self, mask: BoolMask) -> torch.Tensor:
        """As `shares`, of a mask (h, w) at low resolution, with or without the padding."""
        return self.shares(mask[: self.covered_hw[0], : self.covered_hw[1]])

    def around(self, low_res_logits: FloatMap) -> BoolMask:
        """The cells (N,) around a mask given as logits (h, w); all of them for an empty mask, which may be anywhere."""
        where = np.zeros(self.grid_hw, np.bool_)
        covered = low_res_logits[: self.covered_hw[0], : self.covered_hw[1]] > 0
        if not covered.any():
            return ~where.ravel()
        x0, y0, x1, y1 = bounding_box(covered)
        reach = REACH * max(x1 - x0, y1 - y0) + LEAST_REACH * max(self.covered_hw)
        rows, columns = (
            slice(max(0, int((low - reach) * cells / length)), int(np.ceil((high + reach) * cells / length)))
            for low, high, cells, length in zip((y0, x0), (y1, x1), self.grid_hw, self.covered_hw, strict=True)
        )
        where[rows, columns] = True
        return np.asarray(where.ravel())

    def enlarged(self, cells: NDArray[np.float32]) -> FloatMap:
        """A value of every cell (N,) as a map (h, w) at low resolution; `NO_OBJECT_LOGIT` in the padding."""
        rows, columns = self.covered_hw
        whole = np.full(self.low_res_hw, NO_OBJECT_LOGIT, np.float32)
        grid = cells.reshape(self.grid_hw).astype(np.float32)
        whole[:rows, :columns] = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_LINEAR)
        return whole


def low_res_centres_px(
    segmenter: Segmenter, embedding: Any, size_hw_px: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres of a segmenter's low-resolution columns (w,) and rows (h,) in pixels of the original frame.

    To measure how the segmenter resizes and pads, maps of pixel coordinates are resized with it. Padding is negative.
    """
    height_px, width_px = size_hw_px
    ys, xs = np.mgrid[:height_px, :width_px].astype(np.float32)
    return segmenter.to_low_res(embedding, xs)[0], segmenter.to_low_res(embedding, ys)[:, 0]


def _covered(coordinates_px: NDArray[np.float32], n_cells: int) -> int:
    """How many of a feature map's cells along an axis lie on the image; padding has negative coordinates.

    Segmenters that pad repeat the image's border in the first cell of the padding.
    """
    n_on_image = int((coordinates_px > NO_OBJECT_LOGIT / 2).sum())
    if n_on_image == len(coordinates_px):
        return n_cells
    return max(1, round((n_on_image - 1) * n_cells / len(coordinates_px)))
