"""OSTrack: one transformer looks at the object's template and at a search region together.

Source: Ye et al., "Joint Feature Learning and Relation Modeling for Tracking: A One-Stream Framework", ECCV 2022. Crops
and decoding equal those of the official tracker, botaoye/OSTrack at commit 33b5e12586216b7fd0e95d255bd01ba44cbec759,
with the same random weights; it has never been run with the published weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks, nothing_found
from pipeline.trackers.frames import reduced
from pipeline.video.frames import FrameSource

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class OsTrack:
    """See `pipeline.trackers.boxes.base.BoxTracker`. The score is the centre's probability where the box was found.

    Attributes:
        network: of `model_zoo.box_trackers.load_ostrack`; takes ``template`` and ``search`` (1, 3, S, S) float32 and
            ``ce_template_mask`` (1, cells) bool, gives ``score_map`` (1, 1, G, G), ``size_map`` and ``offset_map``
            (1, 2, G, G; x first), sizes as shares of the search region and offsets in cells.
        device: the network's.
        template_side_px, search_side_px: sides of its square inputs.
        template_factor, search_factor: sides of the crops, in square roots of the box's area.
        stride_px: side of a cell.
        min_side_px: a found box's sides are at least this, or the query's where those are smaller.
    """

    network: torch.nn.Module
    device: str = "cpu"
    template_side_px: int = 128
    search_side_px: int = 256
    template_factor: float = 2.0
    search_factor: float = 4.0
    stride_px: int = 16
    min_side_px: float = 10.0

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:
        """Follow the box over a range of frames."""
        boxes, scores = nothing_found(query, frame_range)
        full_px = max(frames.size_hw_px)
        image, _ = reduced(frames, frame_range[0], full_px)
        if image is None:
            return BoxTracks(frame_range, boxes, scores)
        corners = np.sort(np.array(query.box_xyxy_px, np.float64).reshape(2, 2), axis=0)
        xywh = np.concatenate([corners[0], np.maximum(corners[1] - corners[0], 1.0)])
        min_side_px = min(self.min_side_px, *xywh[2:].tolist())
        template = self._input(cropped(image, xywh, self.template_factor, self.template_side_px)[0])
        scores[0] = 1.0
        for row, frame_index in enumerate(frame_range[1:], start=1):
            image, _ = reduced(frames, frame_index, full_px)
            boxes[row] = boxes[row - 1]
            if image is not None:
                found, scores[row] = self._find(image, template, xywh)
                xywh = _clipped(found, image.shape[:2], min_side_px)
                boxes[row] = np.concatenate([xywh[:2], xywh[:2] + xywh[2:]])
        return BoxTracks(frame_range, boxes, scores)

    def _find(
        self, image: NDArray[np.uint8], template: torch.Tensor, last_xywh: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """The box (4,), x, y, width, height, near the last one, and its score."""
        search, scale = cropped(image, last_xywh, self.search_factor, self.search_side_px)
        with torch.inference_mode():
            answer = self.network(
                template=template, search=self._input(search), ce_template_mask=self._template_mask(template.device)
            )
        score_map, size_map, offset_map = (
            answer[name][0].float().cpu().numpy() for name in ("score_map", "size_map", "offset_map")
        )
        cells = score_map.shape[-1]
        row, column = divmod(int(np.argmax(score_map[0] * centre_window(cells))), cells)
        centre = (np.array([column, row], np.float64) + offset_map[:, row, column]) / cells
        # Both are shares of the search region, which lies around the last box's centre.
        region_px = self.search_side_px / scale
        size = size_map[:, row, column].astype(np.float64) * region_px
        middle = last_xywh[:2] + last_xywh[2:] / 2 + (centre - 0.5) * region_px
        score = float(np.clip(np.nan_to_num(score_map[0, row, column]), 0.0, 1.0))
        return np.concatenate([middle - size / 2, size]), score

    def _template_mask(self, device: torch.device) -> torch.Tensor:
        """Which of the template's cells judge the candidates that are dropped early: the middle one."""
        cells = self.template_side_px // self.stride_px
        mask = torch.zeros((1, cells, cells), dtype=torch.bool, device=device)
        mask[:, (cells - 1) // 2, (cells - 1) // 2] = True
        return mask.flatten(1)

    def _input(self, crop: NDArray[np.uint8]) -> torch.Tensor:
        """A crop (S, S, 3) RGB as the network's normalised input (1, 3, S, S)."""
        pixels = torch.from_numpy(crop).to(self.device).float().permute(2, 0, 1)[None] / 255.0
        mean, std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        return (pixels - mean) / std


def cropped(
    image: NDArray[np.uint8], xywh_px: NDArray[np.float64], factor: float, side_px: int
) -> tuple[NDArray[np.uint8], float]:
    """The square around a box's centre, resized, and resized pixels per original pixel; black outside the image.

    As in the official code, the image's last row and column count as outside: the network was trained so.

    Args:
        image: (H, W, 3) uint8.
        xywh_px: (4,) left, top, width, height.
        factor: side of the square, in square roots of the box's area.
        side_px: side of the result.
    """
    width, height = float(xywh_px[2]), float(xywh_px[3])
    whole_px = max(1, math.ceil(math.sqrt(width * height) * factor))
    left = round(float(xywh_px[0]) + 0.5 * width - 0.5 * whole_px)
    top = round(float(xywh_px[1]) + 0.5 * height - 0.5 * whole_px)
    square = np.zeros((whole_px, whole_px, 3), np.uint8)
    x0, x1 = max(left, 0), min(left + whole_px, image.shape[1] - 1)
    y0, y1 = max(top, 0), min(top + whole_px, image.shape[0] - 1)
    if x0 < x1 and y0 < y1:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return np.asarray(cv2.resize(square, (side_px, side_px)), np.uint8), side_px / whole_px


def centre_window(cells: int) -> NDArray[np.float32]:
    """A Hann window (cells, cells) without the zeros at its border: a near answer is likelier than a far one."""
    line = 0.5 * (1 - np.cos(2 * np.pi / (cells + 1) * np.arange(1, cells + 1)))
    return np.outer(line, line).astype(np.float32)


def _clipped(xywh_px: NDArray[np.float64], size_hw_px: tuple[int, ...], min_side_px: float) -> NDArray[np.float64]:
    """The box's part inside the image, with sides of at least ``min_side_px``."""
    limit = np.array([size_hw_px[1], size_hw_px[0]], np.float64)
    low = np.minimum(np.maximum(xywh_px[:2], 0.0), limit - min_side_px)
    high = np.minimum(np.maximum(xywh_px[:2] + xywh_px[2:], min_side_px), limit)
    return np.concatenate([low, np.maximum(high - low, min_side_px)])


def build(context: PartContext) -> OsTrack:
    """OSTrack with its authors' code and weights."""
    from model_zoo.box_trackers import load_ostrack

    return OsTrack(load_ostrack(context.code("ostrack"), context.weights("ostrack"), context.device), context.device)
