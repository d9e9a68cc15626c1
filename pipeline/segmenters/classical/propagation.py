"""An object on the frames between prompts: a first pass from the warped mask, and later passes that refine it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.base import MemoryReadout, ObjectPrompts
from pipeline.segmenters.classical.appearance import AppearanceModel
from pipeline.segmenters.classical.boundary import graph_cut, local_colour_logits, local_colour_statistics
from pipeline.segmenters.classical.features import ClassicalEmbedding, Region
from pipeline.segmenters.classical.memory import memory_logits
from pipeline.segmenters.classical.prompts import ABSENT_LOGIT, MaskAndLogits, WorkPrompts
from pipeline.types import BoolMask

WARPED_MASK_WEIGHT = 0.3
"""Weight of the mask warped along the optical flow."""
NETWORK_WEIGHT = 0.7
"""Weight of the appearance model's network."""
DISTANCE_WEIGHT = 0.7
"""Weight of the penalty on the distance from the warped mask."""
DISTANCE_UNIT = 0.25
"""Distance of penalty 1, in square roots of the mask's area."""
DISTANCE_LIMIT = 4.0
"""Largest penalty."""
PROPAGATION_MARGIN = 0.3
"""The warped box is widened by this share of its longer side; the object is searched there."""
LOCAL_COLOUR_WEIGHT = 0.3
"""Weight of the colours on both sides of the warped mask's border."""
LOCAL_SIGMA_SHARE = 0.12
"""Gaussian window of these colours, in square roots of the mask's area."""
LOCAL_SIGMA_RANGE_PX = (4.0, 16.0)
"""Limits of that window."""
LOCAL_ERODED_SIDE_PX = 5
"""Side of the square by which both sides are eroded before their colours are taken."""
TRACKED_POINT_LOGIT = 1.0
"""Logit, positive or negative, at a tracked point."""
TRACKED_POINT_SIGMA_PX = 3.0
"""Gaussian in which it fades."""
MIN_OVERLAP_SHARE = 0.3
"""A part of the mask is kept if the warped mask covers this share of it."""
MIN_KEPT_SHARE = 0.7
"""All parts are kept if those would be less than this share of the object's usual area."""
MIN_AREA_SHARE = 0.05
"""A mask smaller than this share of the object's usual area means that the object is gone."""

REDETECTION_WEIGHT = 1.4
"""Weight of the network when a lost object is searched in the whole frame."""
REDETECTION_BIAS_LOGIT = -1.0
"""Logit that is added to all pixels then."""
REDETECTION_MIN_AREA_SHARE = 0.25
"""Least area of a found region, as a share of the object's usual area."""
REDETECTION_MIN_LOGIT = 1.5
"""Least mean logit of a found region."""

MEMORY_WEIGHT = 0.7
"""Weight of the memory in a later pass."""
FRAME_COLOUR_WEIGHT = 0.3
"""Weight of the frame's own colours in a later pass without the memory."""
FRAME_COLOUR_LOGIT_LIMIT = 2.0
"""Logits of these colours are clipped to plus or minus this."""
FRAME_COLOUR_BINS = 16
"""Bins of their histogram along each of L, a and b."""
FRAME_COLOUR_SIGMA_BINS = 1.0
"""Gaussian with which the histogram is smoothed."""
FRAME_COLOUR_FLOOR = 1e-4
"""Added to the share of pixels in a bin."""
REFINEMENT_MARGIN = 0.3
"""The box of a mask is widened by this share of its longer side; the cut of a later pass runs there."""


def propagate(
    embedding: ClassicalEmbedding,
    prompts: ObjectPrompts,
    mask_prior: NDArray[np.float32] | None,
    appearance: AppearanceModel,
) -> MaskAndLogits:
    """Mask and logits, both (h, w), of an object that was seen on the neighbouring frame.

    Args:
        embedding: of this frame.
        prompts: tracked points and box, in original pixels.
        mask_prior: (h, w) logits of the warped mask. If it is None or empty, the object was lost, and the whole frame
            is searched.
        appearance: the object's model.
    """
    h, w = embedding.work_size_hw_px
    if mask_prior is None or not (mask_prior > 0).any():
        return _redetect(embedding, appearance)
    logits = np.full((h, w), ABSENT_LOGIT, np.float32)
    warped = mask_prior > 0
    area_px = float(warped.sum())
    region = Region.around(_common_box(bounding_box(warped), prompts, embedding), PROPAGATION_MARGIN, (h, w))
    network_logits = appearance.logits(embedding, region)
    distance = cv2.distanceTransform((~warped).astype(np.uint8), cv2.DIST_L2, 5)[region.slices]
    penalty = np.minimum(distance / (DISTANCE_UNIT * np.sqrt(area_px)), DISTANCE_LIMIT)
    found = WARPED_MASK_WEIGHT * mask_prior[region.slices] + NETWORK_WEIGHT * network_logits
    found = found - DISTANCE_WEIGHT * penalty
    found += _tracked_point_logits(prompts, embedding, region)
    found += LOCAL_COLOUR_WEIGHT * _border_colour_logits(embedding, mask_prior, region, area_px)
    logits[region.slices] = found
    mask: BoolMask = np.zeros((h, w), np.bool_)
    mask[region.slices] = graph_cut(found, embedding.lab_u8[region.slices])
    mask = _without_stray_parts(mask, warped, appearance.area_share * h * w)
    if mask.sum() < MIN_AREA_SHARE * appearance.area_share * h * w:
        mask[:] = False
    return mask, logits


def refine(
    embedding: ClassicalEmbedding,
    prompts: ObjectPrompts,
    previous_logits: NDArray[np.float32],
    readout: MemoryReadout | None,
) -> MaskAndLogits:
    """Mask and logits, both (h, w), after one more pass over a frame.

    With a readout the memory's logits are added to the previous ones. Without one, the frame's own colours are: those
    of the previous mask against those around it.

    Args:
        embedding: of the frame.
        prompts: clicks of a person are hard constraints; tracked ones took part in the first pass already.
        previous_logits: (h, w) of the pass before.
        readout: what was read from the memory, or None.
    """
    h, w = embedding.work_size_hw_px
    logits = previous_logits.astype(np.float32).copy()
    if readout is not None:
        logits += MEMORY_WEIGHT * memory_logits(readout, previous_logits)
    foreground: BoolMask | None = None
    background: BoolMask | None = None
    mask: BoolMask = logits > 0
    if not prompts.tracked and len(prompts.points_xy_px):
        work_prompts = WorkPrompts.of(prompts, embedding)
        foreground, background = work_prompts.positive, work_prompts.negative
        mask = mask | foreground
    if not mask.any():
        return mask, logits
    part = Region.around(bounding_box(mask), REFINEMENT_MARGIN, (h, w)).slices
    if readout is None:
        logits[part] += FRAME_COLOUR_WEIGHT * _frame_colour_logits(embedding.lab_u8[part], mask[part])
    refined: BoolMask = np.zeros((h, w), np.bool_)
    refined[part] = graph_cut(
        logits[part],
        embedding.lab_u8[part],
        foreground=None if foreground is None else foreground[part],
        background=None if background is None else background[part],
    )
    return refined, logits


def _redetect(embedding: ClassicalEmbedding, appearance: AppearanceModel) -> MaskAndLogits:
    """Search a lost object in the whole frame: the largest region counts if it is large and certain enough."""
    h, w = embedding.work_size_hw_px
    logits = REDETECTION_WEIGHT * appearance.logits(embedding, Region.whole((h, w))) + REDETECTION_BIAS_LOGIT
    logits = np.asarray(logits, np.float32)
    mask = graph_cut(logits, embedding.lab_u8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count > 1:
        region = np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))
        is_large = region.sum() >= REDETECTION_MIN_AREA_SHARE * appearance.area_share * h * w
        if is_large and float(logits[region].mean()) > REDETECTION_MIN_LOGIT:
            return region, logits
    return np.zeros((h, w), np.bool_), logits


def _border_colour_logits(
    embedding: ClassicalEmbedding, mask_prior: NDArray[np.float32], region: Region, area_px: float
) -> NDArray[np.float32]:
    """(rows, columns) logits of the colours around each pixel, on the warped mask against off it."""
    lab = embedding.colours[..., :3][region.slices].astype(np.float32)
    warped = mask_prior[region.slices] > 0
    sigma_px = float(np.clip(LOCAL_SIGMA_SHARE * np.sqrt(area_px), *LOCAL_SIGMA_RANGE_PX))
    kernel = np.ones((LOCAL_ERODED_SIDE_PX, LOCAL_ERODED_SIDE_PX), np.uint8)
    foreground, background = (
        local_colour_statistics(lab, cv2.erode(side.astype(np.uint8), kernel, borderValue=1).astype(np.bool_), sigma_px)
        for side in (warped, ~warped)
    )
    return local_colour_logits(lab, foreground, background)


def _without_stray_parts(mask: BoolMask, warped: BoolMask, usual_area_px: float) -> BoolMask:
    """The mask without parts that hardly overlap the warped mask, unless too little of the object would be left.

    Little is left when the object moved far or reappeared from behind something. Then every part may be the object.
    """
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    area_px = np.bincount(labels.ravel())
    common_px = np.bincount(labels[warped], minlength=len(area_px))
    keep = common_px >= MIN_OVERLAP_SHARE * area_px
    keep[0] = False
    if area_px[keep].sum() < MIN_KEPT_SHARE * usual_area_px:
        return mask
    return np.asarray(keep[labels])


def _common_box(
    box: tuple[float, float, float, float], prompts: ObjectPrompts, embedding: ClassicalEmbedding
) -> tuple[float, float, float, float]:
    """The smallest box around the warped mask's box and the tracked one, in work pixels."""
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


def _tracked_point_logits(prompts: ObjectPrompts, embedding: ClassicalEmbedding, region: Region) -> NDArray[np.float32]:
    """(rows, columns) logits that tracked points add around themselves."""
    signs = np.zeros((region.y1 - region.y0, region.x1 - region.x0), np.float32)
    if not len(prompts.points_xy_px):
        return signs
    pixels_xy = np.floor(prompts.points_xy_px * embedding.scale_xy).astype(int) - (region.x0, region.y0)
    inside = ((pixels_xy >= 0) & (pixels_xy < (signs.shape[1], signs.shape[0]))).all(axis=1)
    for (x, y), positive in zip(pixels_xy[inside], prompts.positive[inside], strict=True):
        signs[y, x] = 1.0 if positive else -1.0
    spread = cv2.GaussianBlur(signs, (0, 0), TRACKED_POINT_SIGMA_PX) * (2 * np.pi * TRACKED_POINT_SIGMA_PX**2)
    return np.asarray(TRACKED_POINT_LOGIT * np.clip(spread, -1.0, 1.0), np.float32)


def _frame_colour_logits(lab_u8: NDArray[np.uint8], mask: BoolMask) -> NDArray[np.float32]:
    """Logits (h, w) of colour histograms: is a pixel's colour more frequent inside the mask or outside it?"""
    n_bins = FRAME_COLOUR_BINS
    bins = (lab_u8 // (256 // n_bins)).astype(np.int64)
    flat = (bins[..., 0] * n_bins + bins[..., 1]) * n_bins + bins[..., 2]
    shares = []
    for group in (mask, ~mask):
        counts = np.bincount(flat[group], minlength=n_bins**3).astype(np.float32)
        cube: NDArray[np.float32] = counts.reshape(n_bins, n_bins, n_bins)
        for axis in range(3):
            rows = np.moveaxis(cube, axis, 0).reshape(n_bins, -1)
            smooth = cv2.GaussianBlur(rows, (1, 5), sigmaX=0.1, sigmaY=FRAME_COLOUR_SIGMA_BINS)
            cube = np.asarray(np.moveaxis(smooth.reshape(n_bins, n_bins, n_bins), 0, axis), np.float32)
        shares.append(cube.ravel() / max(1.0, float(group.sum())) + FRAME_COLOUR_FLOOR)
    ratio = np.log(shares[0] / shares[1])
    return np.asarray(np.clip(ratio[flat], -FRAME_COLOUR_LOGIT_LIMIT, FRAME_COLOUR_LOGIT_LIMIT), np.float32)
