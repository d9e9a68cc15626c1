"""The box of a mask that a segmenter found, in pixels of the frame, without the mask at the frame's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.memory.key_grid import low_res_centres_px
from pipeline.segmenters.base import FloatMap, Segmenter
from pipeline.video.frames import FrameSource

Box = tuple[float, float, float, float]
BOX_WIDENING = 0.6
"""A box is widened on each side by (1 - score) times this share of its size. So three of four tracked boxes hold the
whole object, measured over 8 frames on twelve clips, with the template tracker and with NanoTrack alike."""
OUTSIDE_PX = -1.0
"""Coordinates below this are the padding that some segmenters add to the image."""


class MaskBoxes:
    """Boxes of masks in a segmenter's resolution; all frames have one size. Not thread-safe."""

    def __init__(self, segmenter: Segmenter, frames: FrameSource) -> None:
        self._segmenter, self._frames = segmenter, frames
        self._edges: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def box(self, embedding: Any, low_res_logits: FloatMap) -> Box | None:
        """The box x0, y0, x1, y1 of a mask given as logits (h, w); None where it is empty."""
        if self._edges is None:
            height_px, width_px = self._frames.size_hw_px
            x_px, y_px = low_res_centres_px(self._segmenter, embedding, (height_px, width_px))
            self._edges = _edges(x_px, width_px), _edges(y_px, height_px)
        x_edges, y_edges = self._edges
        mask = low_res_logits[: len(y_edges) - 1, : len(x_edges) - 1] > 0
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if not len(columns):
            return None
        x0, x1 = x_edges[columns[0]], x_edges[columns[-1] + 1]
        y0, y1 = y_edges[rows[0]], y_edges[rows[-1] + 1]
        return float(x0), float(y0), float(x1), float(y1)


def _edges(centres_px: NDArray[np.float32], length_px: int) -> NDArray[np.float32]:
    """The borders (n + 1,) of the n cells that lie on the image, from 0 to its length, by the cells' centres."""
    on_image = centres_px[centres_px > OUTSIDE_PX] + 0.5
    # The first cell of the padding repeats the image's border.
    on_image = on_image[: int((np.diff(on_image, prepend=-1.0) > 0.1).sum())]
    between = (on_image[1:] + on_image[:-1]) / 2
    return np.concatenate([[0.0], between, [float(length_px)]]).astype(np.float32)


def widened(box: Box, share: float) -> Box:
    """A box widened on each side by a share of its width and height."""
    x0, y0, x1, y1 = box
    pad_x, pad_y = share * (x1 - x0), share * (y1 - y0)
    return x0 - pad_x, y0 - pad_y, x1 + pad_x, y1 + pad_y
