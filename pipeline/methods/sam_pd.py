"""SAM-PD: no tracker at all; the last mask's box, jittered, finds the object again (papers: SAM-PD)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.decoding import Decoder
from pipeline.methods.denoising_video import DenoisingSettings, DenoisingVideo
from pipeline.methods.video_state import VideoState
from pipeline.segmenters.base import Segmenter
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class SamPdSettings(DenoisingSettings):
    """See `DenoisingSettings`, and one setting of its own.

    Attributes:
        refinement_iterations: further decoding iterations on prompted frames, after the first two.
    """

    refinement_iterations: int = 0


@dataclass(frozen=True)
class SamPd:
    """See `pipeline.methods.base.Method`."""

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: SamPdSettings = SamPdSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> DenoisingVideo:
        """Start work on a video."""
        return DenoisingVideo(
            VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys)),
            Decoder(self.segmenter, self.settings.refinement_iterations, None),
            self.settings,
        )
