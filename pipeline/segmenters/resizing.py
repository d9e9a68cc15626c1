"""Resize logits between a frame's size and SAM's low resolution, by one matrix for the rows and one for the columns.

SAM itself resizes in three steps over large images: low resolution, padded square, cropped square, frame. Every step
is linear and treats rows and columns separately, so all steps together are two small matrices. They are computed by
letting torch resize unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

MAX_CACHED_SIZES = 4
"""Frame sizes whose matrices are kept, about 4 MiB each for 1080p."""


@dataclass(frozen=True)
class Resizing:
    """Matrices between a frame (H, W) and SAM's low resolution (h, w), all float32 on the CPU.

    ``rows_up`` is (H, h), ``columns_up`` (W, w), ``rows_down`` (h, H), ``columns_down`` (w, W).
    ``image_cells_hw`` is how many rows and columns at low resolution show some of the image; the others are padding.
    """

    rows_up: torch.Tensor
    columns_up: torch.Tensor
    rows_down: torch.Tensor
    columns_down: torch.Tensor
    image_cells_hw: tuple[int, int]

    def up(self, low_res: torch.Tensor) -> torch.Tensor:
        """Logits (h, w) at the frame's size (H, W), equal to `Sam.postprocess_masks` of segment-anything."""
        return self.rows_up @ (low_res @ self.columns_up.T)

    def down(self, logits: torch.Tensor, padding: float) -> torch.Tensor:
        """Logits (H, W) at low resolution (h, w): resized and padded as the image was, then averaged by cell.

        The padding gets the logit ``padding``, but for the cells next to the image. These repeat the image's border, so
        that `up`, which interpolates across it, gives the border back.
        """
        low_res = (self.rows_down @ logits) @ self.columns_down.T
        low_res[self.image_cells_hw[0] + 1 :] = padding
        low_res[:, self.image_cells_hw[1] + 1 :] = padding
        return low_res


@lru_cache(maxsize=MAX_CACHED_SIZES)
def resizing(
    original_hw_px: tuple[int, int], input_hw_px: tuple[int, int], side_px: int, low_res_hw: tuple[int, int]
) -> Resizing:
    """The matrices for frames of one size.

    Args:
        original_hw_px: of the frame.
        input_hw_px: of the frame resized for the encoder.
        side_px: of the square that the resized frame is padded to.
        low_res_hw: of the decoder's logits.
    """
    with torch.inference_mode():
        ups, downs = [], []
        for original_px, input_px, cells in zip(original_hw_px, input_hw_px, low_res_hw, strict=True):
            large = F.interpolate(torch.eye(cells)[None], side_px, mode="linear", align_corners=False)
            cut = large[..., :input_px]
            ups.append(F.interpolate(cut, original_px, mode="linear", align_corners=False)[0].T.contiguous())
            unit = torch.eye(original_px)[None, None]
            size = (original_px, input_px)
            resized = F.interpolate(unit, size, mode="bilinear", align_corners=False, antialias=True)
            padded = F.pad(resized, (0, side_px - input_px, 0, 0), mode="replicate")
            downs.append(F.interpolate(padded, (original_px, cells), mode="area")[0, 0].T.contiguous())
    height_px, width_px = input_hw_px
    image_cells_hw = -(-height_px * low_res_hw[0] // side_px), -(-width_px * low_res_hw[1] // side_px)
    return Resizing(ups[0], ups[1], downs[0], downs[1], image_cells_hw)
