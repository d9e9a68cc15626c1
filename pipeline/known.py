"""The mask of one object on one frame, as a session keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.soft_masks import SoftMask
from pipeline.types import RunLengthMask


@dataclass(frozen=True)
class Known:
    """The mask of one frame before other objects claim their pixels (``own``), and after (``shown``).

    ``soft`` are the probabilities behind ``own``; None for a mask that is the truth or was restored without them.
    """

    own: RunLengthMask
    shown: RunLengthMask
    score: float
    prompted: bool
    soft: SoftMask | None = None

    @classmethod
    def found(cls, logits: NDArray[np.float32], score: float, *, prompted: bool = False) -> Known:
        """What logits (H, W) say, with ``score`` in [0, 1]."""
        mask = RunLengthMask.encode(np.asarray(logits > 0))
        return cls(mask, mask, score, prompted, SoftMask.pack(logits))

    @classmethod
    def given(cls, mask: RunLengthMask) -> Known:
        """A mask that a person gave."""
        return cls(mask, mask, 1.0, True)

    @property
    def held_bytes(self) -> int:
        """Memory of the masks, in bytes, without what Python adds."""
        soft_bytes = len(self.soft.data) if self.soft is not None else 0
        return len(self.own.counts) + len(self.shown.counts) + soft_bytes
