"""Where the boundary lies: an 8-connected graph cut between evidence and image edges, and geodesic distances."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask

LOGIT_LIMIT = 8.0
PAIRWISE = 3.0
"""Cost, in logits, of cutting between two pixels of the same colour."""

_OPENCV_GAMMA = 50.0
_STEPS_PER_LOGIT = 3
_FLAT_VARIANCE = 1e9


def graph_cut(
    logits: NDArray[np.float32],
    lab_u8: NDArray[np.uint8],
    *,
    inside: BoolMask | None = None,
    outside: BoolMask | None = None,
    pairwise: float = PAIRWISE,
) -> BoolMask:
    """The mask of least energy: -logit summed over it, plus ``pairwise`` x exp(-beta x difference²) along its border.

    OpenCV's GrabCut solves exactly this cut (8 neighbours, max flow) when its colour models are frozen. Two Gaussians
    of equal variance make the unary term linear in the first channel of the image, which therefore carries the logits;
    the other two channels carry lightness and the stronger chroma, and the models are flat in them.

    Args:
        logits: (h, w), positive means object; clipped to +-`LOGIT_LIMIT`.
        lab_u8: (h, w, 3) uint8 image whose edges attract the boundary.
        inside: (h, w) pixels that must be in the mask.
        outside: (h, w) pixels that must not; ``inside`` wins.
        pairwise: logits per neighbour pair.

    Returns:
        (h, w) bool.
    """
    levels = int(2 * LOGIT_LIMIT * _STEPS_PER_LOGIT)
    level = np.rint((np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT) + LOGIT_LIMIT) * _STEPS_PER_LOGIT)
    chroma = 1 if float(lab_u8[..., 1].std()) >= float(lab_u8[..., 2].std()) else 2
    image = np.dstack([level.astype(np.uint8), lab_u8[..., 0], lab_u8[..., chroma]])
    labels = np.where(logits > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if outside is not None:
        labels[outside] = cv2.GC_BGD
    if inside is not None:
        labels[inside] = cv2.GC_FGD
    # log N(u; m_fg) - log N(u; m_bg) = (m_fg - m_bg) / variance * (u - (m_fg + m_bg) / 2) with the middle at logit 0.
    slope = _OPENCV_GAMMA / pairwise / _STEPS_PER_LOGIT
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
    model[0, 20:29] = np.diag([variance, _FLAT_VARIANCE, _FLAT_VARIANCE]).ravel()
    return model


def geodesic_distance(
    seeds: BoolMask, lab: NDArray[np.float32], *, colour_weight: float = 30.0, sweeps: int = 4
) -> NDArray[np.float32]:
    """Distance to the nearest seed along paths that pay 1 a pixel and ``colour_weight`` per unit of colour difference.

    Along a line the shortest path from any earlier pixel k costs C[x] - C[k] with C the running cost, so one running
    minimum solves a whole line; sweeping the four directions a few times approaches the exact distance.

    Args:
        seeds: (h, w) bool; without any the distance is infinite everywhere.
        lab: (h, w, 3) float32 scaled Lab.
        colour_weight: pixels per unit of difference.
        sweeps: rounds over the four directions.

    Returns:
        (h, w) float32.
    """
    distance = np.where(seeds, 0.0, 1e6).astype(np.float32)
    costs = []
    for axis in (0, 1):
        step = 1.0 + colour_weight * np.linalg.norm(np.diff(lab, axis=axis), axis=2)
        pad = ((1, 0), (0, 0)) if axis == 0 else ((0, 0), (1, 0))
        costs.append(np.cumsum(np.pad(step, pad), axis=axis, dtype=np.float32))
    for _ in range(sweeps):
        for axis, cost in enumerate(costs):
            forward = np.minimum.accumulate(distance - cost, axis=axis) + cost
            flipped = np.flip(distance + cost, axis)
            backward = np.flip(np.minimum.accumulate(flipped, axis=axis), axis) - cost
            distance = np.minimum(np.minimum(forward, backward), distance)
    return np.where(distance > 1e5, np.inf, np.maximum(distance, 0.0)).astype(np.float32)
