"""CiVOS: rounds of clicks alone, each propagated from the clicked frame.

Source: Vujasinović, "Towards Scalable and Interaction-Efficient Video Object Segmentation in Unconstrained Scenarios"
(thesis, 2025), chapter 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.concurrent.settings import ConcurrentSettings, NewMemory, new_concurrent_memory
from pipeline.segmenters.base import Segmenter
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.methods.concurrent.civos_video import CivosVideo


@dataclass(frozen=True)
class CivosSettings(ConcurrentSettings):
    """The settings of `ConcurrentSettings`, and one more.

    Attributes:
        fusion_score_power: where the passes from two prompted frames meet, each one's share by distance is multiplied
            by its score to this power. It stands in for the thesis' learned fusion. 0 leaves the distance alone.
    """

    fusion_score_power: float = 12.0


@dataclass(frozen=True)
class Civos:
    """See `pipeline.methods.base.Method`. Rounds of clicks within restricted ranges (Eq. 4.2 and 4.3).

    Boxes and scribbles reach the method as clicks (Eq. 4.5). Each pass has a memory of its own. It starts with the
    frame from which the pass starts and takes in every u-th frame after it, in either direction (4.4.3, 3.1.4).

    The thesis' networks are trained for their task; they are replaced here. In place of RITM, the interaction module
    (4.4.2), the chosen segmenter gets the clicks and the earlier mask. In place of MiVOS' key and value encoders and
    its decoder (4.4.3) stand the segmenter's own features, the share of a cell that the object covers, and the
    segmenter prompted with what was read. In place of the difference-aware fusion the passes from both sides are
    weighted by distance and score (I-PT, Eq. 1). What a segmenter itself learns of an object, as lite does, comes
    from all prompted frames.
    """

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: CivosSettings = CivosSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""
    new_memory: NewMemory = field(default=new_concurrent_memory, repr=False)
    """Makes the memory of a video."""

    def open(self, frames: FrameSource) -> CivosVideo:
        """Start work on a video."""
        from pipeline.methods.common.video_state import VideoState
        from pipeline.methods.concurrent.civos_video import CivosVideo

        state = VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys))
        return CivosVideo(state, self.settings, self.new_memory)
