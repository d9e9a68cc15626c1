"""IDPro: prompts on many frames and objects at once, one propagation for all of them.

Source: Li, Jiang et al., "IDPro: Flexible Interactive Video Object Segmentation by ID-queried Concurrent
Propagation".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.concurrent.settings import ConcurrentSettings, NewMemory, new_concurrent_memory
from pipeline.segmenters.base import Segmenter
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.methods.concurrent.video import MemoryVideo


@dataclass(frozen=True)
class IdPro:
    """See `pipeline.methods.base.Method`. A round runs as in the paper, with nothing learned for it.

    As in the paper, prompted frames see each other before anything is propagated (Eq. 1). All prompted frames of all
    rounds stay in a memory (Eq. 7), which every other frame reads (Eq. 8). All objects are read and decoded together.
    The session truncates the ranges and propagates all frames again in every round.

    The paper's modules are networks trained for them; they are replaced here. The similarity of the
    segmenter's own features replaces across-frame attention (Eq. 4) and the memory update network (AOT's), with one
    value per object and cell where AOT learns identification vectors. A mask carried along dense optical flow, besides
    the memory of the latest frames, replaces AOT's short-term attention. One batched call of the segmenter, prompted
    with what was read, replaces the ID-queried decoder.
    """

    works_online: ClassVar[bool] = True

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: ConcurrentSettings = field(default_factory=ConcurrentSettings)
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""
    new_memory: NewMemory = field(default=new_concurrent_memory, repr=False)
    """Makes the memory of a video."""

    def open(self, frames: FrameSource) -> MemoryVideo:
        """Start work on a video."""
        from pipeline.methods.common.video_state import VideoState
        from pipeline.methods.concurrent.video import MemoryVideo

        state = VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys))
        return MemoryVideo(state, self.settings, new_memory=self.new_memory)
