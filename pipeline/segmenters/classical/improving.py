"""Later passes over a frame: what the memory says, and what the frame's own colours say, on top of an earlier mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.base import MemoryReadout, ObjectPrompts
from pipeline.segmenters.classical.appearance import Region
from pipeline.segmenters.classical.boundary import graph_cut
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.segmenters.classical.memory import readout_logits
from pipeline.segmenters.classical.work_prompts import WorkPrompts
from pipeline.types import BoolMask

MEMORY_WEIGHT = 0.7
COLOUR_WEIGHT = 0.3
COLOUR_LIMIT = 2.0
COLOUR_BINS = 16
COLOUR_SIGMA_BINS = 1.0
MARGIN = 0.3


def improve(
    embedding: ClassicalEmbedding,
    prompts: ObjectPrompts,
    earlier: NDArray[np.float32],
    readout: MemoryReadout | None,
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Mask and evidence, both (h, w), after one more pass.

    With a readout the memory's opinion is added to the earlier logits; without, the colours of the earlier mask
    against those around it are (refinement: what the frame itself teaches).

    Args:
        embedding: of the frame.
        prompts: a person's bind the mask; tracked ones took part in the first pass already.
        earlier: (h, w) logits of the pass before.
        readout: what the memory said.
    """
    h, w = embedding.work_size_hw_px
    evidence = earlier.astype(np.float32).copy()
    if readout is not None:
        evidence += MEMORY_WEIGHT * _memory_logits(readout, earlier)
    inside, outside = _binding(embedding, prompts)
    mask = (evidence > 0) if inside is None else (evidence > 0) | inside
    if not mask.any():
        return mask, evidence
    part = Region.around(bounding_box(mask), MARGIN, (h, w)).slices
    if readout is None:
        evidence[part] += COLOUR_WEIGHT * colour_logits(embedding.lab_u8[part], mask[part])
    found: BoolMask = np.zeros((h, w), np.bool_)
    found[part] = graph_cut(
        evidence[part],
        embedding.lab_u8[part],
        inside=None if inside is None else inside[part],
        outside=None if outside is None else outside[part],
    )
    return found, evidence


def _memory_logits(readout: MemoryReadout, earlier: NDArray[np.float32]) -> NDArray[np.float32]:
    """The memory's opinion at work size (h, w)."""
    gh, gw = readout.query.cells.where.shape
    h, w = earlier.shape
    own = 1.0 / (1.0 + np.exp(-np.clip(cv2.resize(earlier, (gw, gh), interpolation=cv2.INTER_AREA), -10, 10)))
    logits = readout_logits(readout, own.astype(np.float32))
    large = cv2.resize(logits, (gw * STRIDE_PX, gh * STRIDE_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[:h, :w], np.float32)


def colour_logits(lab_u8: NDArray[np.uint8], mask: BoolMask) -> NDArray[np.float32]:
    """Logits (h, w) in +-`COLOUR_LIMIT`: is a pixel's colour more frequent inside the mask or outside it?"""
    step = 256 // COLOUR_BINS
    bins = (lab_u8 // step).astype(np.int64)
    flat = (bins[..., 0] * COLOUR_BINS + bins[..., 1]) * COLOUR_BINS + bins[..., 2]
    histograms = []
    for group in (mask, ~mask):
        counts = np.bincount(flat[group], minlength=COLOUR_BINS**3).astype(np.float32)
        cube: NDArray[np.float32] = counts.reshape(COLOUR_BINS, COLOUR_BINS, COLOUR_BINS)
        for axis in range(3):
            moved = np.moveaxis(cube, axis, 0).reshape(COLOUR_BINS, -1)
            smooth = cv2.GaussianBlur(moved, (1, 5), sigmaX=0.1, sigmaY=COLOUR_SIGMA_BINS)
            smooth = smooth.reshape(COLOUR_BINS, COLOUR_BINS, COLOUR_BINS)
            cube = np.asarray(np.moveaxis(smooth, 0, axis), np.float32)
        histograms.append(cube.ravel() / max(1.0, float(group.sum())) + 1e-4)
    ratio = np.log(histograms[0] / histograms[1])
    return np.asarray(np.clip(ratio[flat], -COLOUR_LIMIT, COLOUR_LIMIT), np.float32)


def _binding(embedding: ClassicalEmbedding, prompts: ObjectPrompts) -> tuple[BoolMask | None, BoolMask | None]:
    """Pixels (h, w) that a person's prompts put into the mask and keep out of it."""
    if prompts.tracked or not len(prompts.points_xy_px):
        return None, None
    work = WorkPrompts.of(prompts, embedding)
    return work.positive, work.negative
