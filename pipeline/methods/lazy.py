"""Lazy: corrects itself where it becomes uncertain, asks a person where it is more so.

Source: Vujasinović, "Towards Scalable and Interaction-Efficient Video Object Segmentation in Unconstrained Scenarios"
(thesis, 2025), chapter 6.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.concurrent.settings import ConcurrentSettings, NewMemory, new_concurrent_memory
from pipeline.segmenters.base import CalibratedSegmenter, Segmenter
from pipeline.uncertainty import THESIS_THRESHOLDS, UncertaintyThresholds
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.methods.concurrent.lazy_video import LazyVideo

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LazySettings(ConcurrentSettings):
    """The settings of `ConcurrentSettings`, and what follows from uncertainty.

    Any threshold may be infinite: it is never reached then. A threshold that is left out is the segmenter's own, where
    `ivos calibrate` has found one, else the thesis'. Of ``tau_u`` and ``tau_p``, one that is left out gives way to the
    other, so that ``tau_p`` is never above ``tau_u``.

    Attributes:
        memory_policy: which of the offered frames stay in memory: ``readmem`` (the most diverse, as in the thesis) or
            ``fifo`` (the latest).
        tau_u: ask a person where the uncertainty rises by at least this from one frame to the next. Left out: the
            segmenter's own value.
        tau_p: correct the mask automatically where the uncertainty rises by at least this, and less than ``tau_u``.
            Left out: the segmenter's own value.
        tau_m: do not store frames that are at least this uncertain in the memory; 0 or more. Left out: the segmenter's
            own value.
        pseudo_corrections: whether the method corrects its own masks.
        pseudo_agreement: accept an automatic correction only if its IoU with the first mask is at least this, in
            [0, 1].
    """

    memory_policy: str = "readmem"
    tau_u: float | None = None
    tau_p: float | None = None
    tau_m: float | None = None
    pseudo_corrections: bool = True
    pseudo_agreement: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_u", "tau_p", "tau_m"):
            value = getattr(self, name)
            if value is not None and not value >= 0.0:
                raise ValueError(f"{name} must be 0 or more, but got {value}")
        if self.tau_p is not None and self.tau_u is not None and self.tau_p > self.tau_u:
            raise ValueError(f"thresholds must be 0 <= tau_p <= tau_u, but got {self.tau_p} and {self.tau_u}")
        if not 0.0 <= self.pseudo_agreement <= 1.0:
            raise ValueError(f"pseudo_agreement must be in [0, 1], but got {self.pseudo_agreement}")

    def thresholds(self, own: UncertaintyThresholds) -> UncertaintyThresholds:
        """The thresholds to use.

        Args:
            own: the segmenter's.
        """
        tau_u = max(own.tau_u, self.tau_p or 0.0) if self.tau_u is None else self.tau_u
        tau_p = min(own.tau_p, tau_u) if self.tau_p is None else self.tau_p
        return UncertaintyThresholds(tau_u, tau_p, own.tau_m if self.tau_m is None else self.tau_m)


@dataclass(frozen=True)
class Lazy:
    """See `pipeline.methods.base.Method`. The thesis' Lazy-XMem with the propagation of `pipeline.methods.idpro.IdPro`.

    As in the thesis, the method measures the masked entropy of every object on every frame (Eq. 6.2 and 6.3) and its
    rise from frame to frame. Where it rises, the method corrects itself at the point of Eq. 6.4 and 6.5, or asks a
    person. Corrected frames enter the memory (6.4.5, IDU), uncertain ones do not (UDU). The thesis calls the threshold
    of the latter tau_p in 6.4.5 and tau_m, with a value of its own, in 6.8.3; it is tau_m here.

    Replaced: XMem by IDPro's propagation with READMem as its memory, SAM-HQ as the mask refiner by the chosen
    segmenter.
    """

    works_online: ClassVar[bool] = True

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: LazySettings = field(default_factory=LazySettings)
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""
    new_memory: NewMemory = field(default=new_concurrent_memory, repr=False)
    """Makes the memory of a video."""

    def open(self, frames: FrameSource) -> LazyVideo:
        """Start work on a video."""
        from pipeline.methods.common.video_state import VideoState
        from pipeline.methods.concurrent.lazy_video import LazyVideo

        own, settings = THESIS_THRESHOLDS, self.settings
        if isinstance(self.segmenter, CalibratedSegmenter):
            own = self.segmenter.uncertainty_thresholds
        elif settings.tau_u is None or settings.tau_p is None:
            _warn_uncalibrated(self.segmenter.name)
        state = VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys))
        return LazyVideo(state, settings, settings.thresholds(own), self.new_memory)


@cache
def _warn_uncalibrated(segmenter: str) -> None:
    """Say once for each segmenter that nobody knows what its uncertainty means."""
    logger.warning(
        "method lazy has no calibrated thresholds for the segmenter %s and uses those of the thesis (tau_u %g, "
        "tau_p %g), which it may never reach: then it neither asks for help nor corrects itself. "
        "`ivos calibrate` finds its own",
        *(segmenter, THESIS_THRESHOLDS.tau_u, THESIS_THRESHOLDS.tau_p),
    )
