"""SAM-PT: tracked points prompt the segmenter on every frame (papers: SAM-PT)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.decoding import Decoder
from pipeline.methods.prompt_tracking import PromptTracker, TrackingSettings
from pipeline.methods.tracked_video import RestartSettings, TrackedVideo
from pipeline.methods.video_state import VideoState
from pipeline.segmenters.base import Segmenter
from pipeline.trackers.points.base import PointTracker
from pipeline.trackers.points.patch_similarity import PatchSimilarity
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class SamPtSettings:
    """The paper's best settings (4.3); ``restart`` is its variant SAM-PT-reinit.

    Attributes:
        positive_points, negative_points: query points; the paper takes 72 negatives with restarts.
        sampling: random, k_medoids, shi_tomasi or mixed.
        refinement_iterations: after the two passes.
        restart, restart_frames: see `RestartSettings`.
        filter_patches: take a point for occluded when its surroundings no longer look as they did.
        flow_long_side_px: size at which a mask is carried to the next frame, for segmenters that want it.
    """

    positive_points: int = 8
    negative_points: int = 1
    sampling: str = "k_medoids"
    refinement_iterations: int = 12
    restart: str = "horizon"
    restart_frames: int = 8
    filter_patches: bool = False
    flow_long_side_px: int = 214


@dataclass(frozen=True)
class SamPt:
    """See `pipeline.methods.base.Method`."""

    segmenter: Segmenter
    point_tracker: PointTracker
    embeddings: EmbeddingCache[Any]
    settings: SamPtSettings = SamPtSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> TrackedVideo:
        """Start work on a video."""
        s = self.settings
        tracking = TrackingSettings(s.positive_points, s.negative_points, s.sampling)
        similarity = PatchSimilarity() if s.filter_patches else None
        return TrackedVideo(
            VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys)),
            PromptTracker(self.point_tracker, None, tracking, similarity),
            Decoder(self.segmenter, s.refinement_iterations, None),
            RestartSettings(s.restart, s.restart_frames),
            s.flow_long_side_px,
        )
