"""SAM-PD: no tracker at all; jittered boxes around the last mask find the object on the next frame.

Source: Zhou et al., "SAM-PD: How Far Can SAM Take Us in Tracking and Segmenting Anything in Videos by Prompt
Denoising".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.segmenters.base import Segmenter
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.methods.per_object.denoising_video import DenoisingVideo


@dataclass(frozen=True)
class SamPdSettings:
    """The paper's settings (IV-A).

    Attributes:
        grid_step: distance between neighbours of the 3 x 3 jittered boxes, as a share of the box's sides.
        scales: sizes of the boxes at each position of the grid, relative to the box of the last mask.
        keep: which candidate mask of the point refinement is kept: ``largest``, or ``like_previous`` for parts of
            objects.
        refinement_iterations: decoding iterations after the first two, on prompted frames.
    """

    grid_step: float = 0.1
    scales: tuple[float, ...] = (1.0, 1.05)
    keep: str = "largest"
    refinement_iterations: int = 0

    def __post_init__(self) -> None:
        if self.keep not in ("largest", "like_previous"):
            raise ValueError(f"unknown choice {self.keep!r} of a refined mask; known are largest, like_previous")


@dataclass(frozen=True)
class SamPd:
    """See `pipeline.methods.base.Method`."""

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: SamPdSettings = SamPdSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""

    def open(self, frames: FrameSource) -> DenoisingVideo:
        """Start work on a video."""
        from pipeline.methods.common.decoding import Decoder
        from pipeline.methods.common.video_state import VideoState
        from pipeline.methods.per_object.denoising_video import DenoisingVideo

        return DenoisingVideo(
            VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys)),
            Decoder(self.segmenter, self.settings.refinement_iterations, None),
            self.settings,
        )
