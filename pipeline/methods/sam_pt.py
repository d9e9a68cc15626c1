"""SAM-PT: tracked points prompt the segmenter on every frame.

Source: Rajič et al., "Segment Anything Meets Point Tracking".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.segmenters.base import Segmenter
from pipeline.trackers.points.base import PointTracker
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.methods.per_object.tracked_video import TrackedVideo


@dataclass(frozen=True)
class SamPtSettings:
    """The paper's best settings (4.3); restarting the trackers is its variant SAM-PT-reinit.

    Attributes:
        positive_points: tracked points on the object.
        negative_points: tracked points outside the object; the paper takes 72 when trackers restart.
        sampling: how the points beyond a person's own clicks are chosen: ``random``, ``k_medoids``, ``shi_tomasi``,
            ``mixed``, ``grid`` or ``corners_and_grid``.
        refinement_iterations: decoding iterations after the first two.
        restart: when the trackers start again from a predicted mask: ``never``, ``horizon``, ``median_area``,
            ``similar_area`` or ``similar_area_together`` (appendix A, A to D; with D the objects' points are also
            negative points of each other). ``auto``: never for PIPS, CoTracker and TAPIR, at the horizon for trackers
            that lose points.
        restart_frames: after how many frames the trackers restart (the paper's h), at least 1.
        filter_patches: drop a point from the frame on where the image around it no longer looks as it did at the start.
        flow_long_side_px: longer side, in pixels, of the images along whose optical flow a mask is carried to the next
            frame, for segmenters that use such a mask.
        find_lost: look for an object where no tracked point shows it any more, as I-PT does here. Without it an object
            stays lost until one of its points is seen again, as in the paper.
    """

    positive_points: int = 8
    negative_points: int = 1
    sampling: str = "k_medoids"
    refinement_iterations: int = 12
    restart: str = "auto"
    restart_frames: int = 8
    filter_patches: bool = False
    flow_long_side_px: int = 428
    find_lost: bool = False


@dataclass(frozen=True)
class SamPt:
    """See `pipeline.methods.base.Method`."""

    segmenter: Segmenter
    point_tracker: PointTracker
    embeddings: EmbeddingCache[Any]
    settings: SamPtSettings = SamPtSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""

    def open(self, frames: FrameSource) -> TrackedVideo:
        """Start work on a video."""
        from pipeline.methods.common.decoding import Decoder
        from pipeline.methods.common.search import ObjectSearch
        from pipeline.methods.common.video_state import VideoState
        from pipeline.methods.per_object.prompt_tracking import PromptTracker, TrackingSettings
        from pipeline.methods.per_object.restarts import RestartSettings
        from pipeline.methods.per_object.tracked_video import TrackedVideo
        from pipeline.trackers.points.patch_similarity import PatchSimilarity

        s = self.settings
        tracking = TrackingSettings(s.positive_points, s.negative_points, s.sampling, hidden_turn_negative=False)
        similarity = PatchSimilarity() if s.filter_patches else None
        state = VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys))
        return TrackedVideo(
            state,
            PromptTracker(self.point_tracker, None, tracking, similarity),
            Decoder(self.segmenter, s.refinement_iterations, None),
            RestartSettings.of(s.restart, s.restart_frames, self.point_tracker),
            s.flow_long_side_px,
            search=ObjectSearch(state) if s.find_lost else None,
        )
