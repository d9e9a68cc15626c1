"""How SAM's logits and a frame's come from one size to the other: two small matrices each way instead of large images.

Every step of either way is linear and treats rows and columns apart from each other, so that all steps together are one
matrix for the rows and one for the columns. The matrices are found by letting torch resize unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

KEPT_SIZES = 4
"""Frame sizes whose matrices are remembered, about 4 MiB each for 1080p."""


@dataclass(frozen=True)
class Resizing:
    """Matrices between a frame (H, W) and SAM's low resolution (h, w), on the CPU.

    ``rows_up`` is (H, h), ``columns_up`` (W, w), ``rows_down`` (h, H), ``columns_down`` (w, W), all float32.
    """

    rows_up: torch.Tensor
    columns_up: torch.Tensor
    rows_down: torch.Tensor
    columns_down: torch.Tensor

    def up(self, low_res: torch.Tensor) -> torch.Tensor:
        """Maps (h, w) at the frame's size (H, W): what `Sam.postprocess_masks` of segment-anything gives."""
        return self.rows_up @ (low_res @ self.columns_up.T)

    def down(self, whole: torch.Tensor) -> torch.Tensor:
        """Maps (H, W) at low resolution (h, w): resized as the image was, its border repeated, averaged by cell."""
        return (self.rows_down @ whole) @ self.columns_down.T


@lru_cache(maxsize=KEPT_SIZES)
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
    return Resizing(ups[0], ups[1], downs[0], downs[1])
