"""SAM 2: a video model with a memory of prompted and recent frames (Ravi et al., "SAM 2"; Zhou et al., "EdgeTAM")."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.sam2_network import Sam2Network
from pipeline.methods.sam2_video import Sam2Settings, Sam2Video
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class Sam2:
    """See `pipeline.methods.base.Method`."""

    segmenter: Sam2Network
    embeddings: EmbeddingCache[Any]
    settings: Sam2Settings = field(default_factory=Sam2Settings)
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> Sam2Video:
        """Start work on a video."""
        return Sam2Video(frames, self.segmenter, self.embeddings, next(self.video_keys), self.settings)
