"""SAM 2: a video model with a memory of prompted and recent frames (Ravi et al., "SAM 2"; Zhou et al., "EdgeTAM")."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.methods.sam2_model.network import Sam2Network
    from pipeline.methods.sam2_model.video import Sam2Video


@dataclass(frozen=True)
class Sam2Settings:
    """How much of a video the model attends to. Its weights fix how many propagated frames it recalls.

    Attributes:
        conditioning_frames: how many prompted frames take part in segmenting another one, the nearest before and after
            it first. 0 takes all, as the published models do. Time per frame grows with them.
        memory_mib: upper bound in MiB of what is kept of prompted frames between rounds, for all objects of a video
            together. What is dropped is computed again from the frame's mask.
    """

    conditioning_frames: int = 0
    memory_mib: float = 256.0

    def __post_init__(self) -> None:
        if self.conditioning_frames < 0:
            raise ValueError(f"conditioning_frames must be 0 (all) or more, but got {self.conditioning_frames}")
        if self.memory_mib <= 0:
            raise ValueError(f"memory_mib must be more than 0, but got {self.memory_mib}")


@dataclass(frozen=True)
class Sam2:
    """See `pipeline.methods.base.Method`."""

    takes_video_models: ClassVar[bool] = True

    segmenter: Sam2Network
    embeddings: EmbeddingCache[Any]
    settings: Sam2Settings = Sam2Settings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""

    def open(self, frames: FrameSource) -> Sam2Video:
        """Start work on a video."""
        from pipeline.methods.sam2_model.video import Sam2Video

        return Sam2Video(frames, self.segmenter, self.embeddings, next(self.video_keys), self.settings)
