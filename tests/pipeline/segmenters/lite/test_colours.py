"""Unsure pixels go to the side that their colours belong to; sure ones stay."""

from __future__ import annotations

import numpy as np

from pipeline.segmenters.lite.colours import UNSURE_LOGIT, settled
from tests.pipeline.segmenters.touching import IMAGE, NEIGHBOUR, OBJECT


def test_unsure_pixels_follow_their_colours_and_sure_ones_stay() -> None:
    logits = np.where(OBJECT, 6.0, -6.0).astype(np.float32)
    leaked = NEIGHBOUR.copy()
    leaked[:, 215:] = False
    logits[leaked] = 0.5  # leaked, but not sure
    logits[110:130, 100:120] = -0.5  # missing, but not sure
    found = settled(IMAGE, logits)
    assert (found > 0)[leaked].mean() < 0.2
    assert (found > 0)[110:130, 100:120].mean() > 0.8
    sure = np.abs(logits) >= UNSURE_LOGIT
    np.testing.assert_array_equal(found[sure], logits[sure])
    np.testing.assert_array_equal(settled(IMAGE, logits), found)


def test_masks_that_cannot_be_cut_stay_as_they_are() -> None:
    for logits in (np.full(OBJECT.shape, -8.0, np.float32), np.full(OBJECT.shape, 8.0, np.float32)):
        np.testing.assert_array_equal(settled(IMAGE, logits), logits)
