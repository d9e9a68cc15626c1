"""Lazy: corrects itself where it begins to doubt, asks a person where it doubts more (papers: thesis, chapter 6)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.lazy_video import LazySettings, LazyVideo
from pipeline.methods.video_state import VideoState
from pipeline.segmenters.base import Segmenter
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class Lazy:
    """See `pipeline.methods.base.Method`. The thesis' Lazy-XMem on the engine of `pipeline.methods.idpro.IdPro`.

    As there: the masked entropy of every object on every frame (Eq. 6.2 and 6.3), its rise from frame to frame, and
    what follows from it: a correction of its own at the point of Eq. 6.4 and 6.5, or a wish for a person's; corrected
    frames are remembered (6.4.5, IDU), uncertain ones are not (UDU). The thesis names the threshold of the latter
    tau_p in 6.4.5 and tau_m, with a value of its own, in 6.8.3; it is tau_m here.

    Replaced: XMem by IDPro's engine with READMem as its memory, SAM-HQ as the mask refiner by the chosen segmenter.
    """

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: LazySettings = field(default_factory=LazySettings)
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> LazyVideo:
        """Start work on a video."""
        return LazyVideo(VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys)), self.settings)
