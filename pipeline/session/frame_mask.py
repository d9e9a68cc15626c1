"""The mask of one object on one frame, as a session keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.frame_uncertainty import uncertainties
from pipeline.soft_masks import SoftMask
from pipeline.types import FrameResult, RunLengthMask


@dataclass(frozen=True)
class Known:
    """The mask of one frame before other objects claim their pixels (``own``), and after (``shown``).

    ``soft`` are the probabilities behind ``own``; None for a mask that is the truth or was restored without them.
    ``score`` is the confidence in [0, 1]. ``uncertainty`` in [0, 1] is the entropy that all objects of the frame leave
    around this one, see `pipeline.frame_uncertainty`. ``agreement`` in [0, 1] says how far the passes from both sides
    agreed, None where there was one.
    """

    own: RunLengthMask
    shown: RunLengthMask
    score: float
    prompted: bool
    soft: SoftMask | None = None
    uncertainty: float | None = None
    agreement: float | None = None

    @classmethod
    def found(cls, logits: NDArray[np.float32], score: float, *, prompted: bool = False) -> Known:
        """What logits (H, W) say, which the method itself gives ``score`` in [0, 1].

        The confidence is lower than that by the uncertainty of the object by itself.
        """
        mask = RunLengthMask.encode(np.asarray(logits > 0))
        soft = SoftMask.pack(logits)
        (uncertainty,) = uncertainties({0: soft.small()}, [0]).values()
        return cls(mask, mask, min(max(score, 0.0), 1.0) * (1.0 - uncertainty), prompted, soft, uncertainty)

    def scored(self, score: float, agreement: float | None = None) -> Known:
        """The same mask with another confidence in [0, 1]."""
        return replace(self, score=score, agreement=agreement)

    @classmethod
    def restored(cls, result: FrameResult) -> Known:
        """A propagated mask that another session handed out."""
        told = {"uncertainty": result.uncertainty, "agreement": result.agreement}
        return cls(result.mask, result.mask, result.score, False, None, **told)

    @classmethod
    def given(cls, mask: RunLengthMask) -> Known:
        """A mask that a person gave."""
        return cls(mask, mask, 1.0, True)

    @property
    def held_bytes(self) -> int:
        """Memory of the masks, in bytes, without what Python adds."""
        return len(self.own.counts) + len(self.shown.counts) + self.soft_bytes

    @property
    def soft_bytes(self) -> int:
        """Memory of the probabilities, in bytes."""
        return len(self.soft.data) if self.soft is not None else 0

    def hard(self) -> Known:
        """The same mask without the probabilities behind it."""
        return self if self.soft is None else replace(self, soft=None)
