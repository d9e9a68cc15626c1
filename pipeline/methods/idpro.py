"""IDPro: prompts on many frames and objects at once, one propagation for all of them (papers: IDPro)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.concurrent_video import ConcurrentSettings, MemoryVideo
from pipeline.methods.video_state import VideoState
from pipeline.segmenters.base import Segmenter
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class IdPro:
    """See `pipeline.methods.base.Method`. The paper's course of a round, with nothing learned for it.

    As in the paper: prompted frames see each other before anything is propagated (Eq. 1), all prompted frames of all
    rounds stay in a memory (Eq. 7) that every other frame reads (Eq. 8), and all objects are read and decoded together.
    The truncated ranges and the propagation of all frames anew in every round are the session's part.

    Replaced, as the paper's modules are networks trained for them: across-frame attention (Eq. 4) and the memory update
    network (AOT's) by the likeness of the segmenter's own features, with one value per object and cell where AOT learns
    identification vectors; AOT's short-term attention by a mask carried along dense optical flow beside the last
    frames' memory; the ID-queried decoder by one batched call of the segmenter, prompted with what was read.
    """

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: ConcurrentSettings = field(default_factory=ConcurrentSettings)
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> MemoryVideo:
        """Start work on a video."""
        state = VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys))
        return MemoryVideo(state, self.settings)
