"""A person's prompts at the segmenter's work size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import ObjectPrompts
from pipeline.segmenters.classical.features import ClassicalEmbedding
from pipeline.types import BoolMask

CLICK_RADIUS_PX = 3


@dataclass(frozen=True)
class WorkPrompts:
    """Prompts at work size: discs of the clicks (h, w) bool, and the box limits as row and column range, or None."""

    positive: BoolMask
    negative: BoolMask
    positive_xy: NDArray[np.int_]
    negative_xy: NDArray[np.int_]
    box: tuple[int, int, int, int] | None

    @classmethod
    def of(cls, prompts: ObjectPrompts, embedding: ClassicalEmbedding) -> WorkPrompts:
        """Bring prompts to the work size of an embedding."""
        h, w = embedding.work_size_hw_px
        scale = embedding.scale_xy
        cells = np.floor(prompts.points_xy_px * scale).astype(int)
        cells = np.clip(cells, 0, (w - 1, h - 1))
        box = None
        if prompts.box_xyxy_px is not None:
            x0, y0, x1, y1 = np.array(prompts.box_xyxy_px) * np.tile(scale, 2)
            left, top = int(np.clip(np.floor(x0), 0, w - 2)), int(np.clip(np.floor(y0), 0, h - 2))
            box = (left, top, int(np.clip(np.ceil(x1), left + 2, w)), int(np.clip(np.ceil(y1), top + 2, h)))
        positive_xy, negative_xy = cells[prompts.positive], cells[~prompts.positive]
        positive, negative = discs((h, w), positive_xy), discs((h, w), negative_xy)
        # Where a positive and a negative disc meet, each pixel belongs to the nearer click.
        both = positive & negative
        if both.any():
            nearer = distance_to((h, w), positive_xy) <= distance_to((h, w), negative_xy)
            positive, negative = positive & (~both | nearer), negative & (~both | ~nearer)
        return cls(positive, negative, positive_xy, negative_xy, box)

    def within(self, part: tuple[slice, slice]) -> WorkPrompts:
        """The prompts as seen from a part of the frame, given as rows and columns; clicks elsewhere are left out."""
        top, left = part[0].start, part[1].start
        positive = self.positive[part]
        limits_xy = (positive.shape[1], positive.shape[0])
        kept = []
        for points in (self.positive_xy - (left, top), self.negative_xy - (left, top)):
            kept.append(points[((points >= 0) & (points < limits_xy)).all(axis=1)])
        box = None
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            box = (x0 - left, y0 - top, x1 - left, y1 - top)
        return WorkPrompts(positive, self.negative[part], kept[0], kept[1], box)


def discs(size_hw_px: tuple[int, int], centres_xy: NDArray[np.int_]) -> BoolMask:
    """(h, w) bool discs of `CLICK_RADIUS_PX` around points (N, 2)."""
    canvas = np.zeros(size_hw_px, np.uint8)
    for x, y in centres_xy:
        cv2.circle(canvas, (int(x), int(y)), CLICK_RADIUS_PX, 1, -1)
    return canvas.astype(np.bool_)


def distance_to(size_hw_px: tuple[int, int], centres_xy: NDArray[np.int_]) -> NDArray[np.float32]:
    """(h, w) distance in pixels to the nearest of some points (N, 2)."""
    canvas = np.ones(size_hw_px, np.uint8)
    canvas[centres_xy[:, 1], centres_xy[:, 0]] = 0
    return np.asarray(cv2.distanceTransform(canvas, cv2.DIST_L2, 5), np.float32)
