"""Where the border of a mask lies: graph cut, geodesic distance, and colour models that hold only nearby."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.features import LAB_SCALE, ClassicalEmbedding
from pipeline.types import BoolMask

CUT_LOGIT_LIMIT = 8.0
"""Logits are clipped to plus or minus this before a graph cut."""
CUT_EDGE_LOGITS = 3.0
"""Cost of a border between two neighbouring pixels of the same colour, in logits."""
CUT_LEVELS_PER_LOGIT = 3
"""Steps per logit when logits become 8-bit values for OpenCV's cut."""
OPENCV_EDGE_COST = 50.0
"""Cost of such a border in OpenCV's GrabCut; its gamma."""
FLAT_VARIANCE = 1e9
"""Variance of the image channels that must not count in the cut's colour models."""

GEODESIC_PX_PER_COLOUR = 30.0
"""Pixels that a path pays for one unit of colour difference."""
GEODESIC_SWEEPS = 4
"""Rounds over the four directions in which geodesic distances are computed."""

LOCAL_LOGIT_LIMIT = 4.0
"""Logits of local colours, and of the distance to the border, are clipped to plus or minus this."""
LOCAL_MIN_VARIANCE = 0.01
"""Added to the variance of local colours, in squared scaled colour."""
LOCAL_SEEN_SHARE = 0.05
"""Local colours count in full where this share of the window was seen on both sides."""
BORDER_SIGMA_PX = 5.0
"""Gaussian window of the local colours when a border is refined, in work pixels."""
BORDER_CORE_PX = 1.5
"""Pixels closer to the border than this do not train these colours, in work pixels."""
BORDER_BAND_PX = 6.0
"""Pixels farther from the border than this keep their side, in pixels of the fine image."""
BORDER_COLOUR_WEIGHT = 0.5
"""Weight of the local colours when a border is refined."""
BORDER_LOGITS_PER_PX = 0.5
"""Logits per fine pixel of distance from the old border."""


def graph_cut(
    logits: NDArray[np.float32],
    lab_u8: NDArray[np.uint8],
    *,
    foreground: BoolMask | None = None,
    background: BoolMask | None = None,
) -> BoolMask:
    """The mask of least energy: minus the logits summed over it, plus `CUT_EDGE_LOGITS` x exp(-beta x difference²)
    summed over its border.

    OpenCV's GrabCut (Rother et al. 2004) solves exactly this cut (8 neighbours, max flow) if its colour models are
    frozen. Two Gaussians of equal variance make the unary term linear in the first channel of the image, which
    therefore holds the logits. The other two channels hold lightness and the stronger chroma; the models are flat in
    them.

    Args:
        logits: (h, w), positive means object; clipped to plus or minus `CUT_LOGIT_LIMIT`.
        lab_u8: (h, w, 3) uint8 image whose edges attract the border.
        foreground: (h, w) pixels that must be in the mask.
        background: (h, w) pixels that must not; ``foreground`` wins.

    Returns:
        (h, w) bool.
    """
    levels = int(2 * CUT_LOGIT_LIMIT * CUT_LEVELS_PER_LOGIT)
    level = np.rint((np.clip(logits, -CUT_LOGIT_LIMIT, CUT_LOGIT_LIMIT) + CUT_LOGIT_LIMIT) * CUT_LEVELS_PER_LOGIT)
    chroma = 1 if float(lab_u8[..., 1].std()) >= float(lab_u8[..., 2].std()) else 2
    image = np.dstack([level.astype(np.uint8), lab_u8[..., 0], lab_u8[..., chroma]])
    labels = np.where(logits > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if background is not None:
        labels[background] = cv2.GC_BGD
    if foreground is not None:
        labels[foreground] = cv2.GC_FGD
    # log N(u; m_fg) - log N(u; m_bg) = (m_fg - m_bg) / variance * (u - (m_fg + m_bg) / 2) with the middle at logit 0.
    slope = OPENCV_EDGE_COST / CUT_EDGE_LOGITS / CUT_LEVELS_PER_LOGIT
    mean_fg, mean_bg = 1.5 * levels, -0.5 * levels
    variance = (mean_fg - mean_bg) / slope
    models = _gaussian(mean_bg, variance), _gaussian(mean_fg, variance)
    cv2.grabCut(image, labels, (0, 0, 1, 1), *models, 1, cv2.GC_EVAL_FREEZE_MODEL)  # the rectangle is not used
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _gaussian(mean: float, variance: float) -> NDArray[np.float64]:
    """OpenCV's (1, 65) mixture (5 weights, 15 means, 45 covariances) in which only the first Gaussian has a weight."""
    model = np.zeros((1, 65), np.float64)
    model[0, 0] = 1.0
    model[0, 5:8] = (mean, 128.0, 128.0)
    model[0, 20:29] = np.diag([variance, FLAT_VARIANCE, FLAT_VARIANCE]).ravel()
    return model


def geodesic_distance(
    seeds: BoolMask,
    lab: NDArray[np.float32],
    *,
    px_per_colour: float = GEODESIC_PX_PER_COLOUR,
    sweeps: int = GEODESIC_SWEEPS,
) -> NDArray[np.float32]:
    """Distance to the nearest seed along paths that pay 1 a pixel and ``px_per_colour`` per unit of colour difference.

    Along a line the shortest path from any earlier pixel k costs C[x] - C[k] with C the running cost, so one running
    minimum solves a whole line; sweeping the four directions a few times approaches the exact distance.

    Args:
        seeds: (h, w) bool; without any the distance is infinite everywhere.
        lab: (h, w, 3) float32 scaled Lab.
        px_per_colour: pixels per unit of difference.
        sweeps: rounds over the four directions.

    Returns:
        (h, w) float32.
    """
    distance = np.where(seeds, 0.0, 1e6).astype(np.float32)
    costs = []
    for axis in (0, 1):
        step = 1.0 + px_per_colour * np.linalg.norm(np.diff(lab, axis=axis), axis=2)
        pad = ((1, 0), (0, 0)) if axis == 0 else ((0, 0), (1, 0))
        costs.append(np.cumsum(np.pad(step, pad), axis=axis, dtype=np.float32))
    for _ in range(sweeps):
        for axis, cost in enumerate(costs):
            forward = np.minimum.accumulate(distance - cost, axis=axis) + cost
            flipped = np.flip(distance + cost, axis)
            backward = np.flip(np.minimum.accumulate(flipped, axis=axis), axis) - cost
            distance = np.minimum(np.minimum(forward, backward), distance)
    return np.where(distance > 1e5, np.inf, np.maximum(distance, 0.0)).astype(np.float32)


def local_colour_statistics(lab: NDArray[np.float32], pixels: BoolMask, sigma_px: float) -> NDArray[np.float32]:
    """Weight, mean and variance (h, w, 7) of the colour of some ``pixels`` in a Gaussian window around every pixel.

    After Video SnapCut (Bai et al. 2009), here with one Gaussian per window. All are of half the image's size, as the
    window is far larger than a pixel.
    """
    weight = pixels.astype(np.float32)[..., None]
    stacked = np.dstack([weight, lab * weight, lab * lab * weight])
    half = np.dstack([_half_blurred(stacked[..., :4], sigma_px), _half_blurred(stacked[..., 4:], sigma_px)])
    total = half[..., :1] + 1e-4
    mean = half[..., 1:4] / total
    variance = np.maximum(half[..., 4:7] / total - mean * mean, 0.0) + LOCAL_MIN_VARIANCE
    return np.concatenate([half[..., :1], mean, variance], axis=2)


def _half_blurred(values: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    size = (max(1, values.shape[1] // 2), max(1, values.shape[0] // 2))
    half = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half, (0, 0), sigma_px / 2), np.float32)


def local_colour_logits(
    lab: NDArray[np.float32], foreground: NDArray[np.float32], background: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Log likelihood ratio (h, w) of each pixel's colour, within plus or minus `LOCAL_LOGIT_LIMIT`; 0 where unseen.

    Args:
        lab: (h, w, 3) scaled Lab of any size that shows the same part of the frame as the statistics.
        foreground: from `local_colour_statistics`, of the object.
        background: the same of everything else.
    """
    size = lab.shape[1], lab.shape[0]
    costs, weights = [], []
    for statistics in (foreground, background):
        weight_and_mean, variance = (cv2.resize(part, size) for part in (statistics[..., :4], statistics[..., 4:]))
        difference = lab - weight_and_mean[..., 1:]
        costs.append((difference * difference / variance + np.log(variance)).sum(axis=2))
        weights.append(weight_and_mean[..., 0])
    seen = np.minimum(np.minimum(weights[0], weights[1]) / LOCAL_SEEN_SHARE, 1.0)
    ratio = np.clip(0.5 * (costs[1] - costs[0]), -LOCAL_LOGIT_LIMIT, LOCAL_LOGIT_LIMIT)
    return np.asarray(ratio * seen, np.float32)


def refine_border(mask: BoolMask, embedding: ClassicalEmbedding, fixed: BoolMask | None = None) -> BoolMask:
    """Bring a work-size mask to the size of ``embedding.fine_lab_u8`` and move its border to the nearby colour edge.

    Args:
        mask: (h, w).
        embedding: of the frame.
        fixed: (h, w) pixels that stay as they are, where a person clicked; None: none.
    """
    h, w = mask.shape
    fine_h, fine_w = embedding.fine_lab_u8.shape[:2]
    factor = fine_h // h
    result = np.zeros((fine_h, fine_w), np.bool_)
    if not mask.any():
        return result
    ys, xs = np.nonzero(mask)
    pad = int(3 * BORDER_SIGMA_PX)
    y0, y1 = max(0, int(ys.min()) - pad), min(h, int(ys.max()) + pad + 1)
    x0, x1 = max(0, int(xs.min()) - pad), min(w, int(xs.max()) + pad + 1)
    part = np.ascontiguousarray(mask[y0:y1, x0:x1]).astype(np.uint8)
    lab = embedding.colours[y0:y1, x0:x1, :3].astype(np.float32)
    inside, outside = cv2.distanceTransform(part, cv2.DIST_L2, 3), cv2.distanceTransform(1 - part, cv2.DIST_L2, 3)
    foreground, background = (
        local_colour_statistics(lab, depth > BORDER_CORE_PX, BORDER_SIGMA_PX) for depth in (inside, outside)
    )
    kept = np.zeros(part.shape, np.uint8) if fixed is None else fixed[y0:y1, x0:x1].astype(np.uint8)
    fine = embedding.fine_lab_u8[y0 * factor : y1 * factor, x0 * factor : x1 * factor]
    signed = np.float32(factor) * cv2.resize(np.asarray(inside - outside, np.float32), fine.shape[1::-1])
    fine_lab = (fine.astype(np.float32) * (100 / 255, 1, 1) - (0, 128, 128)) / np.array(LAB_SCALE, np.float32)
    logits = BORDER_COLOUR_WEIGHT * local_colour_logits(fine_lab.astype(np.float32), foreground, background)
    logits += np.clip(BORDER_LOGITS_PER_PX * signed, -LOCAL_LOGIT_LIMIT, LOCAL_LOGIT_LIMIT)
    sure = cv2.resize(kept, fine.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    result[y0 * factor : y1 * factor, x0 * factor : x1 * factor] = graph_cut(
        logits,
        np.ascontiguousarray(fine),
        foreground=(signed > BORDER_BAND_PX) | (sure & (signed > 0)),
        background=(signed < -BORDER_BAND_PX) | (sure & (signed < 0)),
    )
    return result
