"""What segmenter `lite` keeps of a frame: its pixels for crops, and the trunk's features for searching all of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model_zoo.lite.network import LiteNetwork
from pipeline.types import FrameRGB

WORK_LONG_SIDE_PX = 1280
"""Masks are made at a frame's own size up to this."""
TRUNK_LONG_SIDE_PX = 448
"""The trunk sees whole frames reduced to this."""
CELL_PX = 8
"""Side of a cell of keys, in pixels of what the trunk sees."""
PART_LENGTHS = (3.0, 2.0)
"""Length of the stride-16 and of the stride-32 part of a key."""


@dataclass(frozen=True)
class LiteEmbedding:
    """A frame of segmenter `lite`.

    Attributes:
        work_rgb: (h, w, 3) uint8, the frame, reduced if it is larger than `WORK_LONG_SIDE_PX`.
        stride16: (112, a, b) float16 features of the trunk.
        stride32: (320, a / 2, b / 2) float16.
        frame_size_hw_px: of the frame.
        trunk_size_hw_px: of what the trunk saw, without padding.
    """

    work_rgb: torch.Tensor
    stride16: torch.Tensor
    stride32: torch.Tensor
    frame_size_hw_px: tuple[int, int]
    trunk_size_hw_px: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory used, in bytes."""
        return self.work_rgb.nbytes + self.stride16.nbytes + self.stride32.nbytes

    @property
    def work_size_hw_px(self) -> tuple[int, int]:
        """Height and width of the picture that masks are made on."""
        return int(self.work_rgb.shape[0]), int(self.work_rgb.shape[1])

    @property
    def work_px_per_frame_px(self) -> tuple[float, float]:
        """Scale of x and of y."""
        (h, w), (height, width) = self.work_size_hw_px, self.frame_size_hw_px
        return w / width, h / height

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of the keys' grid that show some of the frame."""
        return -(-self.trunk_size_hw_px[0] // CELL_PX), -(-self.trunk_size_hw_px[1] // CELL_PX)

    def keys(self, mean: torch.Tensor) -> torch.Tensor:
        """The keys (432, rows, columns) of the whole frame, see `grid_keys`."""
        rows, columns = self.grid_hw
        return grid_keys(self.stride16.float(), self.stride32.float(), mean)[:, :rows, :columns]

    def shares(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The share of each cell (rows, columns) of the whole frame that a mask (h, w) of the work picture covers."""
        rows, columns = self.grid_hw
        return np.asarray(cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA))


def grid_keys(stride16: torch.Tensor, stride32: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Keys (432, 2a, 2b) of cells: both features of unit length, less their mean, and of length `PART_LENGTHS`.

    Args:
        stride16: (112, a, b) float32.
        stride32: (320, a / 2, b / 2) float32.
        mean: (432,), see `LiteNetwork.key_mean`.
    """
    n, size, parts = stride16.shape[0], (2 * stride16.shape[1], 2 * stride16.shape[2]), []
    for features, centre, length in ((stride16, mean[:n], PART_LENGTHS[0]), (stride32, mean[n:], PART_LENGTHS[1])):
        unit = F.normalize(features, dim=0) - centre[:, None, None]
        large = F.interpolate(unit[None], size, mode="bilinear", align_corners=False)[0]
        parts.append(length * F.normalize(large, dim=0))
    return torch.cat(parts)


def embed(frame_rgb: FrameRGB, network: LiteNetwork) -> LiteEmbedding:
    """Reduce a frame and run the trunk on it."""
    work = _reduced(frame_rgb, WORK_LONG_SIDE_PX)
    seen = _reduced(work, TRUNK_LONG_SIDE_PX)
    stride16, stride32 = network.key_maps(seen)
    return LiteEmbedding(
        torch.from_numpy(np.array(work, order="C")),
        stride16.to(torch.float16),
        stride32.to(torch.float16),
        (int(frame_rgb.shape[0]), int(frame_rgb.shape[1])),
        (int(seen.shape[0]), int(seen.shape[1])),
    )


def _reduced(picture: NDArray[np.uint8], long_side_px: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = long_side_px / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
