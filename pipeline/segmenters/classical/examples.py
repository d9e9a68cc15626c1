"""What examples say about the pixels of a box: those of the object, and the box's surroundings as counterexamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.boundary import geodesic_distance
from pipeline.segmenters.classical.box_evidence import NEARNESS_FLOOR, enlarged, novelty, standardised
from pipeline.segmenters.classical.memory import nearest_distance
from pipeline.segmenters.classical.pixel_model import PixelModel
from pipeline.segmenters.classical.work_prompts import WorkPrompts, distance_to
from pipeline.types import BoolMask

GROWN_PX, GROWN_COLOUR_WEIGHT = 8.0, 100.0
OBJECT_EXAMPLES, BACKGROUND_EXAMPLES = 700, 1500
POSITION_WEIGHT, TEXTURE_WEIGHT = 2.0, 0.7
NETWORK_EXAMPLES, NETWORK_STEPS, NETWORK_CHANNELS = 2500, 120, 9
LIKENESS_CELLS_ACROSS = 120
MIN_SPACING_PX = 6.0
USUAL_SHARE = 0.45
"""Share of a box that an object usually fills; few clicks say little else about it."""
TELLING_CLICKS = 6
SPREAD_CLICKS = 0.6
"""Clicks that span this share of the box's width or height stand for all of the object."""
SHARE_RANGE = (0.08, 1.2)
EVIDENCE_LIMIT = 6.0
PLACE_COLOUR, TEXTURE, NEARNESS, NOVELTY, NETWORK, SHARE, BIAS = 0.5, 0.5, 1.5, 0.9, 0.24, 1.7, 0.5
"""Weights of the cues in logits: a logistic regression's, on the pixels of boxes with eight clicks in them, rounded."""


def example_evidence(
    features: NDArray[np.float32], prompts: WorkPrompts, objects: BoolMask, background: BoolMask, inside: BoolMask
) -> NDArray[np.float32]:
    """(h, w) logits within +-`EVIDENCE_LIMIT` that pixels of a box are object: which examples are they more like?

    Only the examples are taken for known; what the rest of the box is remains open.

    Args:
        features: (h, w, 35) float32, see `pixel_features`.
        prompts: with a box.
        objects: (h, w) pixels taken for object; some must exist.
        background: (h, w) pixels known to be background: around the box and under negative clicks; some must exist.
        inside: (h, w) pixels of the box.
    """
    side_px = _longer_side(prompts)
    rng = np.random.default_rng(5)
    at = _sample(objects, OBJECT_EXAMPLES, rng), _sample(background, BACKGROUND_EXAMPLES, rng)
    ys, xs = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32) * (POSITION_WEIGHT / side_px)
    texture = np.dstack([features[..., 3:9], TEXTURE_WEIGHT * features[..., 15:25]])
    logits = (
        PLACE_COLOUR * _likeness(np.dstack([features[..., :6], xs, ys]), at, side_px)
        + TEXTURE * _likeness(texture, at, side_px)
        + NOVELTY * standardised(novelty(features[..., :6], background, inside, side_px), inside)
        + NETWORK * _network(features, objects, background, rng)
    )
    return _limited(logits, inside)


def click_evidence(
    features: NDArray[np.float32], prompts: WorkPrompts, background: BoolMask, inside: BoolMask
) -> NDArray[np.float32]:
    """(h, w) logits as `example_evidence` of what surrounds the positive clicks, and of where they lie."""
    grown = geodesic_distance(prompts.positive, features[..., 3:6], colour_weight=GROWN_COLOUR_WEIGHT, sweeps=2)
    objects = ((grown < GROWN_PX) & inside & ~background) | prompts.positive
    spacing_px = spacing(prompts)
    near = np.exp(-distance_to((objects.shape[0], objects.shape[1]), prompts.positive_xy) / spacing_px)
    logits = example_evidence(features, prompts, objects, background, inside) + NEARNESS * near
    return _limited(logits + SHARE * np.log(filled_share(prompts, spacing_px)) + BIAS, inside)


def sureness_of(prompts: WorkPrompts) -> float:
    """How far the positive clicks stand for the object as a whole, in [0, 1]: one shows a part of it."""
    return float(np.clip((len(prompts.positive_xy) - 1) / (TELLING_CLICKS - 1), 0.0, 1.0))


def spacing(prompts: WorkPrompts) -> float:
    """Median distance in pixels from a positive click to the next one; half of the box for a click on its own."""
    points = prompts.positive_xy.astype(np.float64)
    if len(points) < 2:
        return max(MIN_SPACING_PX, _longer_side(prompts) / 2)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return max(MIN_SPACING_PX, float(np.median(apart.min(axis=1))))


def filled_share(prompts: WorkPrompts, spacing_px: float) -> float:
    """Share of the box that the object fills if each click stands for a square as wide as the clicks' spacing.

    A grid of clicks over a dense object is wide, that over a thin one narrow. Fewer than `TELLING_CLICKS` clicks pull
    the share less far from `USUAL_SHARE`.
    """
    assert prompts.box is not None
    x0, y0, x1, y1 = prompts.box
    count = len(prompts.positive_xy)
    share = float(np.clip(count * spacing_px**2 / ((x1 - x0) * (y1 - y0)), *SHARE_RANGE))
    # Clicks crowded into a corner of the box say what the object looks like, not how much of the box it fills.
    apart = np.ptp(prompts.positive_xy, axis=0) / (x1 - x0, y1 - y0)
    telling = sureness_of(prompts) * float(np.clip(apart.max() / SPREAD_CLICKS, 0.0, 1.0))
    return float(share**telling * USUAL_SHARE ** (1.0 - telling))


def _likeness(keys: NDArray[np.float32], examples: tuple[NDArray[np.intp], ...], side_px: int) -> NDArray[np.float32]:
    """(h, w) log of the squared distance to background examples over that to object examples, seen on a grid."""
    h, w, channels = keys.shape
    flat = np.ascontiguousarray(keys.reshape(-1, channels), dtype=np.float32)
    step = max(1, side_px // LIKENESS_CELLS_ACROSS)
    sparse = keys[step // 2 :: step, step // 2 :: step]
    query = np.ascontiguousarray(sparse.reshape(-1, channels), dtype=np.float32)
    to_object, to_background = (np.log(nearest_distance(query, flat[at]) + NEARNESS_FLOOR) for at in examples)
    return enlarged((to_background - to_object).reshape(sparse.shape[:2]), (h, w), step)


def _network(
    features: NDArray[np.float32], objects: BoolMask, background: BoolMask, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(h, w) logits of a network on colours that learnt the examples alone."""
    flat = features.reshape(-1, features.shape[2])[:, :NETWORK_CHANNELS]
    at = [rng.choice(np.flatnonzero(group), NETWORK_EXAMPLES) for group in (objects, background)]
    labels = np.repeat(np.array([True, False]), NETWORK_EXAMPLES)
    model = PixelModel.train(np.ascontiguousarray(flat[np.concatenate(at)]), labels, steps=NETWORK_STEPS)
    return model.logits(np.ascontiguousarray(flat)).reshape(objects.shape)


def _sample(group: BoolMask, limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    at = np.flatnonzero(group)
    return at if len(at) <= limit else rng.choice(at, limit, replace=False)


def _limited(logits: NDArray[np.float32], inside: BoolMask) -> NDArray[np.float32]:
    return np.where(inside, np.clip(logits, -EVIDENCE_LIMIT, EVIDENCE_LIMIT), -EVIDENCE_LIMIT).astype(np.float32)


def _longer_side(prompts: WorkPrompts) -> int:
    assert prompts.box is not None
    x0, y0, x1, y1 = prompts.box
    return max(x1 - x0, y1 - y0)
