"""Region similarity J and boundary accuracy F of one mask, as DAVIS defines them.

Source: Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation (CVPR 2016), and
for the boundary map and its tolerance the evaluation toolkits published with DAVIS.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask

BOUNDARY_TOLERANCE = 0.008
"""How far apart two matching boundary pixels may be, as a share of the image's diagonal, rounded up to whole pixels."""


def region_similarity(mask: BoolMask, truth: BoolMask) -> float:
    """J: intersection over union of two (H, W) bool masks, in [0, 1]; 1 where both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(mask, truth)
    union_px = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union_px if union_px else 1.0


def boundary_accuracy(mask: BoolMask, truth: BoolMask) -> float:
    """F: harmonic mean of precision and recall of boundary pixels within the tolerance, in [0, 1].

    A boundary pixel counts as found when the other boundary has a pixel within the tolerance (Euclidean distance).
    Two masks without any boundary agree (1); one alone without a boundary scores 0.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(mask, truth)
    found, wanted = boundary_map(mask), boundary_map(truth)
    n_found, n_wanted = int(np.count_nonzero(found)), int(np.count_nonzero(wanted))
    if n_found == 0 or n_wanted == 0:
        return float(n_found == n_wanted)
    radius_px = tolerance_px(mask.shape)
    window = _window(found | wanted, radius_px)
    found, wanted = found[window], wanted[window]
    disk = _disk(radius_px)
    precision = np.count_nonzero(found & _dilated(wanted, disk)) / n_found
    recall = np.count_nonzero(wanted & _dilated(found, disk)) / n_wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_map(mask: BoolMask) -> BoolMask:
    """Pixels (H, W) bool whose right, lower or lower right neighbour has another value.

    The last row has only a right neighbour, the last column only a lower one, and the last corner is never boundary.
    """
    boundary = np.zeros(mask.shape, np.bool_)
    here = mask[:-1, :-1]
    boundary[:-1, :-1] = (here != mask[:-1, 1:]) | (here != mask[1:, :-1]) | (here != mask[1:, 1:])
    boundary[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    boundary[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return boundary


def tolerance_px(shape_hw: tuple[int, ...]) -> int:
    """The boundary tolerance of an image in whole pixels."""
    return int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(shape_hw[0], shape_hw[1])))


def _check_shapes(mask: BoolMask, truth: BoolMask) -> None:
    if mask.shape != truth.shape or mask.ndim != 2:
        raise ValueError(f"both masks must have one shape (H, W), but got {mask.shape} and {truth.shape}")


def _window(pixels: BoolMask, margin_px: int) -> tuple[slice, slice]:
    """The part of the image around all set pixels: dilating outside of it would change nothing."""
    rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
    return (
        slice(max(0, int(rows[0]) - margin_px), int(rows[-1]) + margin_px + 1),
        slice(max(0, int(columns[0]) - margin_px), int(columns[-1]) + margin_px + 1),
    )


@cache
def _disk(radius_px: int) -> NDArray[np.uint8]:
    offsets = np.arange(-radius_px, radius_px + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius_px**2).astype(np.uint8)


def _dilated(boundary: BoolMask, disk: NDArray[np.uint8]) -> BoolMask:
    return np.asarray(cv2.dilate(boundary.astype(np.uint8), disk)).astype(np.bool_)
