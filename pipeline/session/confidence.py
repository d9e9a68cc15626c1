"""How good a mask probably is: one number for whoever orders frames by it, and for the choice of the next frame.

A mask that was carried from frame to frame is no surer than those it came from. So beside its own entropy (thesis,
Eq. 6.3) counts what gathered on the way from the prompted frame: by itself a tracker that follows the wrong thing is
as sure as one that follows the right one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.methods.base import Estimate
from pipeline.session.frame_mask import Known
from pipeline.session.object_state import ObjectState

CARRIED_SHARE = 0.02
"""How much of each frame's uncertainty stays with the frames after it; chosen on clips with truth (docs/bench.md)."""


@dataclass
class Doubt:
    """What gathered on one way: the uncertainties of its frames, added up."""

    gathered: float = 0.0

    @classmethod
    def along(cls, state: ObjectState, frame_indices: Iterable[int]) -> Doubt:
        """The doubt of a way that went past these frames before, in an earlier round."""
        known = (state.known.get(frame_index) for frame_index in frame_indices)
        return cls(sum(each.uncertainty or 0.0 for each in known if each is not None))

    def met(self, estimate: Estimate) -> Known:
        """The next frame of the way as a session keeps it, with its confidence as the score."""
        known = Known.found(estimate.logits, estimate.score)
        self.gathered += known.uncertainty or 0.0
        return known.scored(known.score * math.exp(-CARRIED_SHARE * self.gathered))


def agreement(probability: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The intersection over union, in [0, 1], of what two passes say of one frame, probabilities (H, W); 1 if empty."""
    one, two = probability > 0.5, other > 0.5
    union = int((one | two).sum())
    return float((one & two).sum() / union) if union else 1.0
