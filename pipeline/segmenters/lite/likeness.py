"""Planes that compare colours in a crop: which pixels look like what was marked, and which like what was not.

The histogram of what is marked and that of what is not give each colour a share, as Bayes' rule would with equal
priors. So an even object before an even ground is told from it by colour alone, whichever of the two is the darker.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from model_zoo.lite.decoder import Plane
from pipeline.segmenters.base import FloatMap

BINS = (16, 32, 32)
"""Bins of lightness and of the two axes of colour (CIELAB)."""
COLOUR_RANGE = 64
"""Colours farther from grey than this share the outermost bins."""
SPREAD = (0.25, 0.5, 0.25)
"""How much of a bin stays and goes to its neighbours, twice along each axis."""
PRIOR_SHARE = 2e-4
"""Colours that make up much less than this of both sides say nothing."""


def put_likeness(planes: FloatMap, picture_rgb: NDArray[np.uint8]) -> None:
    """Fill in the planes REGION_COLOURS and CLICK_COLOURS from the other ones.

    Args:
        planes: (N_PLANES, R, R), changed in place.
        picture_rgb: (R, R, 3), the crop.
    """
    valid = planes[Plane.VALID]
    bins = None
    for plane, sides in ((Plane.REGION_COLOURS, _region(planes)), (Plane.CLICK_COLOURS, _clicks(planes))):
        planes[plane] = 0
        if sides is None or not (sides[0] * valid).any():
            continue
        bins = _bins(picture_rgb) if bins is None else bins
        planes[plane] = valid * _compared(bins, sides[0] * valid, sides[1] * valid)


def _region(planes: FloatMap) -> tuple[FloatMap, FloatMap] | None:
    """How much each pixel is said to be inside, and outside, by box, previous mask and evidence together."""
    given = [planes[each] for each in (Plane.BOX, Plane.PREVIOUS, Plane.EVIDENCE) if planes[each].any()]
    if not given:
        return None
    shares = [(1 + each) / 2 for each in given]
    return np.minimum.reduce(shares), 1 - np.maximum.reduce(shares)


def _clicks(planes: FloatMap) -> tuple[FloatMap, FloatMap] | None:
    """The positive discs; and the negative ones, what lies outside a box, and a little of everything."""
    if not planes[Plane.POSITIVE].any():
        return None
    positive, others = planes[Plane.POSITIVE], planes[Plane.NEGATIVE] + (planes[Plane.BOX] < 0)
    return positive, others / max(1.0, float(others.sum())) + 1 / others.size


def _bins(picture_rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The bin of every pixel (R * R,)."""
    lab = cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.int32)
    axes = np.clip((lab[:, 1:] - 128 + COLOUR_RANGE) * BINS[1] // (2 * COLOUR_RANGE), 0, BINS[1] - 1)
    return np.asarray(((lab[:, 0] * BINS[0] >> 8) * BINS[1] + axes[:, 0]) * BINS[2] + axes[:, 1], np.intp)


def _compared(bins: NDArray[np.intp], inside: FloatMap, outside: FloatMap) -> FloatMap:
    """From -1, only outside, to 1, only inside, for every pixel (R, R); 0 where both have a colour equally often."""
    first, second = _histogram(bins, inside), _histogram(bins, outside)
    share = (first + PRIOR_SHARE / 2) / (first + second + PRIOR_SHARE)
    return np.asarray((2 * share - 1).astype(np.float32)[bins].reshape(inside.shape))


def _histogram(bins: NDArray[np.intp], weights: FloatMap) -> FloatMap:
    """The share of each bin, with some of it spread to its neighbours."""
    counts: FloatMap = np.bincount(bins, weights.ravel(), int(np.prod(BINS))).reshape(BINS).astype(np.float32)
    for axis in (0, 1, 2, 0, 1, 2):
        counts = np.asarray(convolve1d(counts, SPREAD, axis, mode="constant"), np.float32)
    return np.asarray(counts.ravel() / max(float(counts.sum()), 1e-6), np.float32)
