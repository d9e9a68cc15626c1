"""Logits for the pixels of a box: how much they differ from its surroundings, and how much they resemble examples."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.segmenters.classical.appearance import PixelNetwork
from pipeline.segmenters.classical.boundary import geodesic_distance
from pipeline.segmenters.classical.prompts import COLOUR_CHANNELS, WorkPrompts, distance_to_points
from pipeline.types import BoolMask

NEIGHBOURS = 3
"""Nearest examples whose squared distances are averaged."""
LOG_FLOOR = 0.02
"""Added to a distance before its logarithm is taken."""
RING_EXAMPLES = 1000
"""Pixels around a box that its pixels are compared with."""
RING_CELLS_ACROSS = 90
"""Cells along a box's longer side at which they are compared."""
RING_POSITION_WEIGHT = 1.0
"""Scaled colour that the longer side of the box counts as, in this comparison."""
RING_PX_PER_COLOUR = 300.0
"""Pixels that a path from the surroundings pays for one unit of colour difference."""
STANDARDISE_FLOOR = 0.05
"""Added to the standard deviation of a cue before division."""
BOX_CONTRAST_WEIGHT = 0.9
"""Weight of the network that separates the box from its surroundings."""
BOX_DISSIMILARITY_WEIGHT = 1.0
"""Weight of the distance, in colour and place, to the most similar pixels around the box."""
BOX_GEODESIC_WEIGHT = 0.75
"""Weight of the geodesic distance from the surroundings."""
BOX_BIAS_LOGIT = -0.9
"""Logit of a pixel for which these three cues are average."""
BOX_LOGIT_LIMIT = 4.0
"""Logits of these three cues are clipped to plus or minus this."""

EXAMPLE_REACH_PX = 8.0
"""Pixels within this geodesic distance from a click are examples of the object."""
EXAMPLE_PX_PER_COLOUR = 100.0
"""Pixels that this distance pays for one unit of colour difference."""
EXAMPLE_SWEEPS = 2
"""Rounds over the four directions for this distance: it is short."""
OBJECT_EXAMPLES = 700
"""Pixels of the object that the box's pixels are compared with, at most."""
BACKGROUND_EXAMPLES = 1500
"""Pixels of the background that the box's pixels are compared with, at most."""
EXAMPLE_CELLS_ACROSS = 120
"""Cells along a box's longer side at which they are compared."""
EXAMPLE_POSITION_WEIGHT = 2.0
"""Scaled colour that the longer side of the box counts as, in this comparison."""
EXAMPLE_TEXTURE_WEIGHT = 0.7
"""Factor on the histograms when textures are compared; the blurred colours with them have factor 1."""
EXAMPLE_NETWORK_PIXELS = 2500
"""Pixels of each side that a network on colours trains on."""
EXAMPLE_NETWORK_STEPS = 120
"""Training batches of that network."""
EXAMPLE_COLOUR_WEIGHT = 0.5
"""Weight of the comparison of colour and place."""
EXAMPLE_TEXTURE_CUE_WEIGHT = 0.5
"""Weight of the comparison of texture."""
EXAMPLE_NEAR_CLICK_WEIGHT = 1.5
"""Weight of the nearness to a click, in units of the clicks' spacing."""
EXAMPLE_DISSIMILARITY_WEIGHT = 0.9
"""Weight of the distance to the most similar pixels around the box."""
EXAMPLE_NETWORK_WEIGHT = 0.24
"""Weight of the network on colours."""
EXAMPLE_FILL_WEIGHT = 1.7
"""Weight of the logarithm of the share of the box that the object fills."""
EXAMPLE_BIAS_LOGIT = 0.5
"""Logit that is added where clicks give the examples."""
EXAMPLE_LOGIT_LIMIT = 6.0
"""Logits of the examples are clipped to plus or minus this."""

MIN_CLICK_SPACING_PX = 6.0
"""Least spacing of clicks that is assumed."""
USUAL_BOX_FILL = 0.45
"""Share of a box that an object usually fills; assumed while there are few clicks."""
BOX_FILL_RANGE = (0.08, 1.2)
"""Limits of the share that clicks suggest."""
FULL_WEIGHT_CLICKS = 6
"""From this many positive clicks on, they alone give the examples of the object."""
FULL_WEIGHT_EXTENT = 0.6
"""Clicks that span this share of the box's width or height stand for all of the object."""


def box_logits(
    contrast: NDArray[np.float32], colours: NDArray[np.float32], ring: BoolMask, inside: BoolMask
) -> NDArray[np.float32]:
    """(h, w) logits within plus or minus `BOX_LOGIT_LIMIT`, from three comparisons of the box with its surroundings.

    A pixel that resembles the surroundings, or that a path without edges connects to them, is likely background.

    Args:
        contrast: (h, w) logits of a network that separates the box's pixels from those around it.
        colours: (h, w, 6) float32: scaled Lab, and Lab slightly blurred.
        ring: (h, w) pixels around the box; some must exist.
        inside: (h, w) pixels of the box.
    """
    ys, xs = np.nonzero(inside)
    side_px = int(max(ys.max() - ys.min(), xs.max() - xs.min())) + 1
    dissimilarity = ring_dissimilarity(colours, ring, inside, side_px)
    distance_px = geodesic_distance(ring, colours[..., 3:6], px_per_colour=RING_PX_PER_COLOUR)
    separation = np.log(distance_px / side_px + LOG_FLOOR).astype(np.float32)
    logits = (
        BOX_CONTRAST_WEIGHT * _standardised(contrast, inside)
        + BOX_DISSIMILARITY_WEIGHT * _standardised(dissimilarity, inside)
        + BOX_GEODESIC_WEIGHT * _standardised(separation, inside)
        + BOX_BIAS_LOGIT
    )
    return _limited(logits, inside, BOX_LOGIT_LIMIT)


def ring_dissimilarity(
    colours: NDArray[np.float32], ring: BoolMask, inside: BoolMask, side_px: int
) -> NDArray[np.float32]:
    """(h, w) log squared distance, in colour and place, to the most similar pixels of the ring; 0 outside the box.

    Place counts because a box's surroundings differ from side to side: a pixel is compared mostly with what is near it.

    Args:
        colours: (h, w, C) float32 scaled colours.
        ring: (h, w) pixels around the box, of which some must exist.
        inside: (h, w) pixels of the box.
        side_px: the box's longer side.
    """
    h, w = ring.shape
    ys, xs = np.mgrid[:h, :w].astype(np.float32) * (RING_POSITION_WEIGHT / side_px)
    keys = np.dstack([colours, xs, ys])
    examples = keys[ring]
    rng = np.random.default_rng(0)
    examples = examples[rng.choice(len(examples), min(RING_EXAMPLES, len(examples)), replace=False)]
    step = max(1, side_px // RING_CELLS_ACROSS)
    sparse = np.ascontiguousarray(keys[step // 2 :: step, step // 2 :: step])
    queried = np.ascontiguousarray(cv2.dilate(inside.astype(np.uint8), np.ones((2 * step + 1,) * 2, np.uint8)))
    queried = queried[step // 2 :: step, step // 2 :: step].astype(np.bool_)
    found = np.full(queried.shape, np.log(LOG_FLOOR), np.float32)
    found[queried] = np.log(_nearest_distance(sparse[queried], examples) + LOG_FLOOR)
    return np.where(inside, _interpolated(found, (h, w), step), 0.0).astype(np.float32)


def example_logits(
    features: NDArray[np.float32], prompts: WorkPrompts, objects: BoolMask, background: BoolMask, inside: BoolMask
) -> NDArray[np.float32]:
    """(h, w) logits within plus or minus `EXAMPLE_LOGIT_LIMIT`: which examples is a pixel of the box more like?

    Nothing is assumed about the pixels of the box that are not examples.

    Args:
        features: (h, w, 35) float32, see `pixel_features`.
        prompts: with a box.
        objects: (h, w) examples of the object; some must exist.
        background: (h, w) pixels that are background: around the box and under negative clicks; some must exist.
        inside: (h, w) pixels of the box.
    """
    side_px = _longer_side_px(prompts)
    rng = np.random.default_rng(5)
    examples = _sample(objects, OBJECT_EXAMPLES, rng), _sample(background, BACKGROUND_EXAMPLES, rng)
    ys, xs = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32) * (EXAMPLE_POSITION_WEIGHT / side_px)
    texture = np.dstack([features[..., 3:9], EXAMPLE_TEXTURE_WEIGHT * features[..., 15:25]])
    dissimilarity = ring_dissimilarity(features[..., :6], background, inside, side_px)
    logits = (
        EXAMPLE_COLOUR_WEIGHT * _log_distance_ratio(np.dstack([features[..., :6], xs, ys]), examples, side_px)
        + EXAMPLE_TEXTURE_CUE_WEIGHT * _log_distance_ratio(texture, examples, side_px)
        + EXAMPLE_DISSIMILARITY_WEIGHT * _standardised(dissimilarity, inside)
        + EXAMPLE_NETWORK_WEIGHT * _colour_network_logits(features, objects, background, rng)
    )
    return _limited(logits, inside, EXAMPLE_LOGIT_LIMIT)


def click_example_logits(
    features: NDArray[np.float32], prompts: WorkPrompts, background: BoolMask, inside: BoolMask
) -> NDArray[np.float32]:
    """As `example_logits`, with what surrounds the positive clicks as examples, and with where the clicks lie."""
    distance = geodesic_distance(
        prompts.positive, features[..., 3:6], px_per_colour=EXAMPLE_PX_PER_COLOUR, sweeps=EXAMPLE_SWEEPS
    )
    objects = ((distance < EXAMPLE_REACH_PX) & inside & ~background) | prompts.positive
    spacing_px = click_spacing_px(prompts)
    size_hw_px = objects.shape[0], objects.shape[1]
    near = np.exp(-distance_to_points(size_hw_px, prompts.positive_xy) / spacing_px)
    logits = example_logits(features, prompts, objects, background, inside) + EXAMPLE_NEAR_CLICK_WEIGHT * near
    fill = np.log(expected_box_fill(prompts, spacing_px))
    return _limited(logits + EXAMPLE_FILL_WEIGHT * fill + EXAMPLE_BIAS_LOGIT, inside, EXAMPLE_LOGIT_LIMIT)


def click_example_weight(prompts: WorkPrompts) -> float:
    """How far the positive clicks stand for the object as a whole, in [0, 1]: one click shows only a part of it."""
    return float(np.clip((len(prompts.positive_xy) - 1) / (FULL_WEIGHT_CLICKS - 1), 0.0, 1.0))


def click_spacing_px(prompts: WorkPrompts) -> float:
    """Median distance in pixels from a positive click to the next one; half of the box for a single click."""
    points = prompts.positive_xy.astype(np.float64)
    if len(points) < 2:
        return max(MIN_CLICK_SPACING_PX, _longer_side_px(prompts) / 2)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return max(MIN_CLICK_SPACING_PX, float(np.median(apart.min(axis=1))))


def expected_box_fill(prompts: WorkPrompts, spacing_px: float) -> float:
    """Share of the box that the object fills if each click stands for a square as wide as the clicks' spacing.

    Clicks spread over a compact object lie far apart, clicks along a thin one close together. The fewer clicks there
    are below `FULL_WEIGHT_CLICKS`, the closer the share stays to `USUAL_BOX_FILL`.
    """
    assert prompts.box is not None
    x0, y0, x1, y1 = prompts.box
    count = len(prompts.positive_xy)
    share = float(np.clip(count * spacing_px**2 / ((x1 - x0) * (y1 - y0)), *BOX_FILL_RANGE))
    # Clicks crowded into a corner of the box show the object's colours, but not how much of the box it fills.
    extent = np.ptp(prompts.positive_xy, axis=0) / (x1 - x0, y1 - y0)
    weight = click_example_weight(prompts) * float(np.clip(extent.max() / FULL_WEIGHT_EXTENT, 0.0, 1.0))
    return float(share**weight * USUAL_BOX_FILL ** (1.0 - weight))


def _log_distance_ratio(
    keys: NDArray[np.float32], examples: tuple[NDArray[np.intp], ...], side_px: int
) -> NDArray[np.float32]:
    """(h, w) log of the squared distance to background examples over that to object examples, computed on a grid."""
    h, w, channels = keys.shape
    flat = np.ascontiguousarray(keys.reshape(-1, channels), dtype=np.float32)
    step = max(1, side_px // EXAMPLE_CELLS_ACROSS)
    sparse = keys[step // 2 :: step, step // 2 :: step]
    query = np.ascontiguousarray(sparse.reshape(-1, channels), dtype=np.float32)
    to_object, to_background = (np.log(_nearest_distance(query, flat[each]) + LOG_FLOOR) for each in examples)
    return _interpolated((to_background - to_object).reshape(sparse.shape[:2]), (h, w), step)


def _colour_network_logits(
    features: NDArray[np.float32], objects: BoolMask, background: BoolMask, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(h, w) logits of a network on colours that trained on the examples alone."""
    flat = features.reshape(-1, features.shape[2])[:, :COLOUR_CHANNELS]
    picked = [rng.choice(np.flatnonzero(group), EXAMPLE_NETWORK_PIXELS) for group in (objects, background)]
    labels = np.repeat(np.array([True, False]), EXAMPLE_NETWORK_PIXELS)
    x = np.ascontiguousarray(flat[np.concatenate(picked)])
    network = PixelNetwork.train(x, labels, steps=EXAMPLE_NETWORK_STEPS)
    return network.logits(np.ascontiguousarray(flat)).reshape(objects.shape)


def _nearest_distance(query: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) mean of the `NEIGHBOURS` smallest squared distances from every row of ``query`` (N, C) to ``examples``."""
    with torch.inference_mode():
        rows, columns = torch.from_numpy(query), torch.from_numpy(np.ascontiguousarray(examples))
        distances = torch.cdist(rows, columns, compute_mode="use_mm_for_euclid_dist").square_()
        nearest = torch.topk(distances, min(NEIGHBOURS, len(examples)), dim=1, largest=False, sorted=False)
        return np.asarray(nearest.values.mean(dim=1).numpy(), np.float32)


def _interpolated(cells: NDArray[np.float32], size_hw_px: tuple[int, int], step: int) -> NDArray[np.float32]:
    """Values at every ``step``-th pixel, interpolated to all pixels (h, w)."""
    transform = np.array([[1 / step, 0, -(step // 2) / step], [0, 1 / step, -(step // 2) / step]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(cells, transform, size_hw_px[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _standardised(values: NDArray[np.float32], inside: BoolMask) -> NDArray[np.float32]:
    """Values less their mean, over their standard deviation, in the box; 0 outside."""
    part = values[inside]
    scaled = (values - part.mean()) / (part.std() + STANDARDISE_FLOOR)
    return np.where(inside, scaled, 0.0).astype(np.float32)


def _sample(group: BoolMask, limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    indices = np.flatnonzero(group)
    return indices if len(indices) <= limit else rng.choice(indices, limit, replace=False)


def _limited(logits: NDArray[np.float32], inside: BoolMask, limit: float) -> NDArray[np.float32]:
    return np.where(inside, np.clip(logits, -limit, limit), -limit).astype(np.float32)


def _longer_side_px(prompts: WorkPrompts) -> int:
    assert prompts.box is not None
    x0, y0, x1, y1 = prompts.box
    return max(x1 - x0, y1 - y0)
