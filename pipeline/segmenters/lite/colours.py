"""Where the network is unsure of a prompted mask, colours of its sure pixels decide: GrabCut (Rother et al., 2004)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.base import FloatMap

UNSURE_LOGIT = 2.5
"""Pixels whose logit is nearer to 0 than this may change sides."""
LONG_SIDE_PX = 160
"""The cut runs on a picture reduced to this."""
MARGIN, LEAST_MARGIN_PX = 0.25, 8.0
"""How far around the mask the cut sees: a share of the mask's longer side, plus so many pixels."""
ITERATIONS = 2
LEAST_PIXELS = 20


def settled(picture_rgb: NDArray[np.uint8], logits: FloatMap) -> FloatMap:
    """Logits (h, w) whose unsure pixels have moved half-way to the side that their colours belong to.

    Args:
        picture_rgb: (h, w, 3).
        logits: (h, w).
    """
    if int((logits > 0).sum()) < LEAST_PIXELS:
        return logits
    area = _area(logits)
    part = logits[area]
    height, width = part.shape
    scale = min(1.0, LONG_SIDE_PX / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    sides = np.full(small.shape, cv2.GC_PR_BGD, np.uint8)
    sides[small > 0] = cv2.GC_PR_FGD
    sides[small > UNSURE_LOGIT] = cv2.GC_FGD
    sides[small < -UNSURE_LOGIT] = cv2.GC_BGD
    if len(np.unique(sides & 1)) < 2:
        return logits
    bgr = np.ascontiguousarray(cv2.resize(picture_rgb[area], size, interpolation=cv2.INTER_AREA)[..., ::-1])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its k-means starts at random; equal prompts shall get equal masks
    try:
        cv2.grabCut(bgr, sides, (0, 0, 1, 1), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels of one side for its colour model
        return logits
    cut = cv2.resize((sides & 1).astype(np.float32) * 2 - 1, (width, height), interpolation=cv2.INTER_LINEAR)
    found = logits.copy()
    unsure = np.abs(part) < UNSURE_LOGIT
    found[area][unsure] = ((UNSURE_LOGIT * cut + part) / 2)[unsure]
    return found


def _area(logits: FloatMap) -> tuple[slice, slice]:
    x0, y0, x1, y1 = bounding_box(logits > 0)
    pad = MARGIN * max(x1 - x0, y1 - y0) + LEAST_MARGIN_PX
    height, width = logits.shape
    rows = slice(max(0, int(y0 - pad)), min(height, int(y1 + pad) + 1))
    return rows, slice(max(0, int(x0 - pad)), min(width, int(x1 + pad) + 1))
