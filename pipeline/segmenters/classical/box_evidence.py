"""What a box says about the pixels in it: whatever looks like its surroundings, or connects to them, is background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.boundary import geodesic_distance
from pipeline.segmenters.classical.memory import nearest_distance
from pipeline.types import BoolMask

RING_EXAMPLES = 1000
CELLS_ACROSS = 90
POSITION_WEIGHT = 1.0
NEARNESS_FLOOR = 0.02
GEODESIC_COLOUR_WEIGHT = 300.0
CONTRAST_WEIGHT, NOVELTY_WEIGHT, CONNECTION_WEIGHT = 0.9, 1.0, 0.75
OBJECT_BIAS = -0.9
EVIDENCE_LIMIT = 4.0
SPREAD_FLOOR = 0.05


def novelty(colours: NDArray[np.float32], ring: BoolMask, inside: BoolMask, side_px: int) -> NDArray[np.float32]:
    """(h, w) log squared distance, in colour and place, to the most alike pixels of the ring; 0 outside the box.

    Place counts because a box's surroundings differ from side to side: a pixel is compared mostly with what is near it.

    Args:
        colours: (h, w, C) float32 scaled colours.
        ring: (h, w) pixels around the box, of which some must exist.
        inside: (h, w) pixels of the box.
        side_px: the box's longer side.
    """
    h, w = ring.shape
    ys, xs = np.mgrid[:h, :w].astype(np.float32) * (POSITION_WEIGHT / side_px)
    keys = np.dstack([colours, xs, ys])
    examples = keys[ring]
    rng = np.random.default_rng(0)
    examples = examples[rng.choice(len(examples), min(RING_EXAMPLES, len(examples)), replace=False)]
    step = max(1, side_px // CELLS_ACROSS)
    sparse = np.ascontiguousarray(keys[step // 2 :: step, step // 2 :: step])
    queried = np.ascontiguousarray(cv2.dilate(inside.astype(np.uint8), np.ones((2 * step + 1,) * 2, np.uint8)))
    queried = queried[step // 2 :: step, step // 2 :: step].astype(np.bool_)
    found = np.full(queried.shape, np.log(NEARNESS_FLOOR), np.float32)
    found[queried] = np.log(nearest_distance(sparse[queried], examples) + NEARNESS_FLOOR)
    return np.where(inside, enlarged(found, (h, w), step), 0.0).astype(np.float32)


def enlarged(cells: NDArray[np.float32], size_hw_px: tuple[int, int], step: int) -> NDArray[np.float32]:
    """Cells at every ``step``-th pixel, interpolated to all pixels."""
    place = np.array([[1 / step, 0, -(step // 2) / step], [0, 1 / step, -(step // 2) / step]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(cells, place, size_hw_px[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def standardised(values: NDArray[np.float32], inside: BoolMask) -> NDArray[np.float32]:
    """Values less their mean, over their spread, in the box; 0 outside."""
    part = values[inside]
    scaled = (values - part.mean()) / (part.std() + SPREAD_FLOOR)
    return np.where(inside, scaled, 0.0).astype(np.float32)


def box_evidence(
    contrast: NDArray[np.float32],
    colours: NDArray[np.float32],
    ring: BoolMask,
    inside: BoolMask,
) -> NDArray[np.float32]:
    """(h, w) logits within +-`EVIDENCE_LIMIT` that pixels of a box are object, from three views of its surroundings.

    Args:
        contrast: (h, w) logits of a classifier of the box's pixels against those around it.
        colours: (h, w, 6) float32: scaled Lab, and Lab slightly blurred.
        ring: (h, w) pixels around the box; some must exist.
        inside: (h, w) pixels of the box.
    """
    ys, xs = np.nonzero(inside)
    side_px = int(max(ys.max() - ys.min(), xs.max() - xs.min())) + 1
    strange = novelty(colours, ring, inside, side_px)
    way_px = geodesic_distance(ring, colours[..., 3:6], colour_weight=GEODESIC_COLOUR_WEIGHT)
    cut_off = np.log(way_px / side_px + NEARNESS_FLOOR).astype(np.float32)
    evidence = (
        CONTRAST_WEIGHT * standardised(contrast, inside)
        + NOVELTY_WEIGHT * standardised(strange, inside)
        + CONNECTION_WEIGHT * standardised(cut_off, inside)
        + OBJECT_BIAS
    )
    return np.where(inside, np.clip(evidence, -EVIDENCE_LIMIT, EVIDENCE_LIMIT), -EVIDENCE_LIMIT).astype(np.float32)
