"""The uncertainty of the objects of one frame, from the probabilities that a session keeps of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.uncertainty import dilation_px, entropy_map, masked_entropy

Crop = tuple[slice, slice]


def uncertainties(probabilities: Mapping[int, NDArray[np.float32]], asked: Collection[int]) -> dict[int, float]:
    """The masked entropy of some objects of a frame, with all others in the distribution (thesis, Eq. 6.2, 6.3).

    Only the surroundings of each object are looked at: what it costs grows with the objects' areas, not the frame's.

    Args:
        probabilities: by object id (h, w) float32 in [0, 1], of every object by itself; all of one size.
        asked: of these object ids.

    Returns:
        In [0, 1] by object id.
    """
    found = {}
    for object_id in asked:
        crop = _around(probabilities[object_id])
        entropy = entropy_map(np.stack([each[crop] for each in probabilities.values()]))
        found[object_id] = masked_entropy(entropy, np.asarray(probabilities[object_id][crop] > 0.5))
    return found


def touching(probabilities: Mapping[int, NDArray[np.float32]], changed: Collection[int]) -> set[int]:
    """The objects whose uncertainty a change of some others may change: those whose surroundings meet theirs."""
    crops = {object_id: _around(each) for object_id, each in probabilities.items()}
    return {i for i, crop in crops.items() if any(_meet(crop, crops[other]) for other in changed if other in crops)}


def _around(probability: NDArray[np.float32]) -> Crop:
    """The part of the frame in which the dilated mask lies; of an empty mask the place where it is most likely."""
    mask = probability > 0.5
    if not mask.any():
        row, column = np.unravel_index(int(probability.argmax()), probability.shape)
        return slice(int(row), int(row) + 1), slice(int(column), int(column) + 1)
    x0, y0, x1, y1 = (int(v) for v in bounding_box(np.asarray(mask)))
    reach_px = dilation_px(np.asarray(mask))
    return slice(max(0, y0 - reach_px), y1 + reach_px), slice(max(0, x0 - reach_px), x1 + reach_px)


def _meet(one: Crop, other: Crop) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
