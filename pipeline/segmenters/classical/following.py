"""An object followed from frame to frame: the mask carried along the flow, what was learnt, and tracked prompts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.base import ObjectPrompts
from pipeline.segmenters.classical.appearance import Appearance, Region
from pipeline.segmenters.classical.boundary import graph_cut
from pipeline.segmenters.classical.features import ClassicalEmbedding
from pipeline.segmenters.classical.local_colour import local_moments, log_ratio
from pipeline.types import BoolMask

PRIOR_WEIGHT = 0.3
MODEL_WEIGHT = 0.7
DISTANCE_WEIGHT = 0.7
REGION_MARGIN = 0.6
SEARCH_DOUBT = 1.0
MIN_OVERLAP_SHARE = 0.3
MIN_KEPT_SHARE = 0.7
POINT_HINT = 1.0
LOCAL_WEIGHT = 0.3
POINT_SIGMA_PX = 3.0
MIN_AREA_SHARE = 0.05
"""An object whose mask shrinks below this share of its usual area counts as gone."""


def follow(
    embedding: ClassicalEmbedding, prompts: ObjectPrompts, prior: NDArray[np.float32] | None, appearance: Appearance
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Mask and evidence logits, both (h, w), of an object followed from another frame.

    Args:
        embedding: of this frame.
        prompts: tracked points and box, in original pixels.
        prior: (h, w) logits of the warped mask, or None when the object was lost: then the whole frame is searched.
        appearance: the object's memory.
    """
    h, w = embedding.work_size_hw_px
    evidence = np.full((h, w), -6.0, np.float32)
    if prior is None or not (prior > 0).any():
        return _search(embedding, appearance, evidence)
    warped = prior > 0
    area_px = float(warped.sum())
    region = Region.around(_hull(bounding_box(warped), prompts, embedding), REGION_MARGIN * 0.5, (h, w))
    pixel_logits = appearance.read(embedding, region)
    reach = cv2.distanceTransform((~warped).astype(np.uint8), cv2.DIST_L2, 5)[region.slices]
    penalty = np.minimum(reach / (0.25 * np.sqrt(area_px)), 4.0)
    unary = PRIOR_WEIGHT * prior[region.slices] + MODEL_WEIGHT * pixel_logits
    unary = unary - DISTANCE_WEIGHT * penalty
    unary += _point_hints(prompts, embedding, region)
    unary += LOCAL_WEIGHT * _local_colour(embedding, prior, region, area_px)
    evidence[region.slices] = unary
    mask: BoolMask = np.zeros((h, w), np.bool_)
    mask[region.slices] = graph_cut(unary, embedding.lab_u8[region.slices])
    mask = _continued(mask, warped, appearance.area_share * h * w)
    if mask.sum() < MIN_AREA_SHARE * appearance.area_share * h * w:
        mask[:] = False
    return mask, evidence


def _local_colour(
    embedding: ClassicalEmbedding, prior: NDArray[np.float32], region: Region, area_px: float
) -> NDArray[np.float32]:
    """(rows, columns) log ratio of the colours around each pixel, on and off the carried mask."""
    lab = embedding.pixels[..., :3][region.slices].astype(np.float32)
    carried = prior[region.slices] > 0
    sigma_px = float(np.clip(0.12 * np.sqrt(area_px), 4.0, 16.0))
    kernel = np.ones((5, 5), np.uint8)
    inner, outer = (
        local_moments(lab, cv2.erode(side.astype(np.uint8), kernel, borderValue=1).astype(np.bool_), sigma_px)
        for side in (carried, ~carried)
    )
    return log_ratio(lab, inner, outer)


def _continued(mask: BoolMask, warped: BoolMask, usual_area_px: float) -> BoolMask:
    """The mask without parts that the warped mask does not lead to, unless too little of the object would be left.

    Little is left when the object moved far or came out from behind something; then every part may be it.
    """
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    area_px = np.bincount(labels.ravel())
    common_px = np.bincount(labels[warped], minlength=len(area_px))
    keep = common_px >= MIN_OVERLAP_SHARE * area_px
    keep[0] = False
    if area_px[keep].sum() < MIN_KEPT_SHARE * usual_area_px:
        return mask
    return np.asarray(keep[labels])


def _search(
    embedding: ClassicalEmbedding, appearance: Appearance, evidence: NDArray[np.float32]
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Look for a lost object in the whole frame; found when one region is large and certain enough."""
    h, w = embedding.work_size_hw_px
    evidence[:] = 2 * MODEL_WEIGHT * appearance.read(embedding, Region.whole((h, w))) - SEARCH_DOUBT
    mask = graph_cut(evidence, embedding.lab_u8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = np.zeros((h, w), np.bool_)
    if count > 1:
        best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        region = labels == best
        if region.sum() >= 0.25 * appearance.area_share * h * w and float(evidence[region].mean()) > 1.5:
            found = region
    return found, evidence


def _hull(
    box: tuple[float, float, float, float], prompts: ObjectPrompts, embedding: ClassicalEmbedding
) -> tuple[float, float, float, float]:
    """The warped mask's box together with the tracked one, in work pixels."""
    if prompts.box_xyxy_px is None:
        return box
    scale_x, scale_y = embedding.scale_xy
    x0, y0, x1, y1 = prompts.box_xyxy_px
    return (
        min(box[0], x0 * float(scale_x)),
        min(box[1], y0 * float(scale_y)),
        max(box[2], x1 * float(scale_x)),
        max(box[3], y1 * float(scale_y)),
    )


def _point_hints(prompts: ObjectPrompts, embedding: ClassicalEmbedding, region: Region) -> NDArray[np.float32]:
    """(rows, columns) logits that tracked points add around themselves."""
    hints = np.zeros((region.y1 - region.y0, region.x1 - region.x0), np.float32)
    if not len(prompts.points_xy_px):
        return hints
    cells = np.floor(prompts.points_xy_px * embedding.scale_xy).astype(int) - (region.x0, region.y0)
    inside = ((cells >= 0) & (cells < (hints.shape[1], hints.shape[0]))).all(axis=1)
    for (x, y), positive in zip(cells[inside], prompts.positive[inside], strict=True):
        hints[y, x] = 1.0 if positive else -1.0
    spread = cv2.GaussianBlur(hints, (0, 0), POINT_SIGMA_PX) * (2 * np.pi * POINT_SIGMA_PX**2)
    return np.asarray(POINT_HINT * np.clip(spread, -1.0, 1.0), np.float32)
