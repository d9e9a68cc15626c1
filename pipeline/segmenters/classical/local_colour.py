"""Colour models that hold only nearby (after Video SnapCut, Bai et al. 2009): one Gaussian each side of a boundary."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.boundary import graph_cut
from pipeline.segmenters.classical.features import LAB_SCALE, ClassicalEmbedding
from pipeline.types import BoolMask

LIMIT = 4.0
MIN_VARIANCE = 0.01
SEEN_SHARE = 0.05
FINE_SIGMA_PX = 5.0
FINE_CORE_PX = 1.5
FINE_BAND_PX = 6.0
FINE_COLOUR_WEIGHT = 0.5
FINE_DISTANCE_WEIGHT = 0.5


def local_moments(lab: NDArray[np.float32], core: BoolMask, sigma_px: float) -> NDArray[np.float32]:
    """Weight, mean and variance (h, w, 7) of the colour of the ``core`` pixels around every pixel."""
    weight = core.astype(np.float32)[..., None]
    # At half size: the window is far larger than a pixel.
    stacked = np.dstack([weight, lab * weight, lab * lab * weight])
    half = np.dstack([_half_blurred(stacked[..., :4], sigma_px), _half_blurred(stacked[..., 4:], sigma_px)])
    total = half[..., :1] + 1e-4
    mean = half[..., 1:4] / total
    variance = np.maximum(half[..., 4:7] / total - mean * mean, 0.0) + MIN_VARIANCE
    return np.concatenate([half[..., :1], mean, variance], axis=2)


def _half_blurred(values: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    size = (max(1, values.shape[1] // 2), max(1, values.shape[0] // 2))
    half = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half, (0, 0), sigma_px / 2), np.float32)


def log_ratio(lab: NDArray[np.float32], inner: NDArray[np.float32], outer: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much better ``inner`` explains each pixel's colour than ``outer``, (h, w) in +-`LIMIT`; 0 where unseen.

    Args:
        lab: (h, w, 3) scaled Lab of any size that shows the same part of the frame as the moments.
        inner: from `local_moments`, of the object.
        outer: the same of everything else.
    """
    size = lab.shape[1], lab.shape[0]
    scores, weights = [], []
    for moments in (inner, outer):
        first, rest = (cv2.resize(part, size) for part in (moments[..., :4], moments[..., 4:]))
        difference = lab - first[..., 1:]
        scores.append((difference * difference / rest + np.log(rest)).sum(axis=2))
        weights.append(first[..., 0])
    seen = np.minimum(np.minimum(weights[0], weights[1]) / SEEN_SHARE, 1.0)
    return np.asarray(np.clip(0.5 * (scores[1] - scores[0]), -LIMIT, LIMIT) * seen, np.float32)


def refined(mask: BoolMask, embedding: ClassicalEmbedding, fixed: BoolMask | None = None) -> BoolMask:
    """A work-size mask at the size of ``embedding.fine_lab_u8``, its border moved to the edge between local colours.

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
    pad = int(3 * FINE_SIGMA_PX)
    y0, y1 = max(0, int(ys.min()) - pad), min(h, int(ys.max()) + pad + 1)
    x0, x1 = max(0, int(xs.min()) - pad), min(w, int(xs.max()) + pad + 1)
    part = np.ascontiguousarray(mask[y0:y1, x0:x1]).astype(np.uint8)
    lab = embedding.pixels[y0:y1, x0:x1, :3].astype(np.float32)
    inside, outside = cv2.distanceTransform(part, cv2.DIST_L2, 3), cv2.distanceTransform(1 - part, cv2.DIST_L2, 3)
    inner = local_moments(lab, inside > FINE_CORE_PX, FINE_SIGMA_PX)
    outer = local_moments(lab, outside > FINE_CORE_PX, FINE_SIGMA_PX)
    kept = np.zeros(part.shape, np.uint8) if fixed is None else fixed[y0:y1, x0:x1].astype(np.uint8)
    fine = embedding.fine_lab_u8[y0 * factor : y1 * factor, x0 * factor : x1 * factor]
    signed = np.float32(factor) * cv2.resize(np.asarray(inside - outside, np.float32), fine.shape[1::-1])
    fine_lab = (fine.astype(np.float32) * (100 / 255, 1, 1) - (0, 128, 128)) / LAB_SCALE
    logits = FINE_COLOUR_WEIGHT * log_ratio(fine_lab.astype(np.float32), inner, outer)
    logits += np.clip(FINE_DISTANCE_WEIGHT * signed, -LIMIT, LIMIT)
    sure = cv2.resize(kept, fine.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    result[y0 * factor : y1 * factor, x0 * factor : x1 * factor] = graph_cut(
        logits,
        np.ascontiguousarray(fine),
        inside=(signed > FINE_BAND_PX) | (sure & (signed > 0)),
        outside=(signed < -FINE_BAND_PX) | (sure & (signed < 0)),
    )
    return result
