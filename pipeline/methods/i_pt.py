"""I-PT: points and boxes tracked together, a memory across rounds, several decoding passes (papers: I-PT)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory.policies import check_policy
from pipeline.methods.decoding import CrstmSettings, Decoder
from pipeline.methods.prompt_tracking import PromptTracker, TrackingSettings
from pipeline.methods.tracked_video import RestartSettings, TrackedVideo
from pipeline.methods.video_state import VideoState
from pipeline.segmenters.base import Segmenter
from pipeline.trackers.boxes.base import BoxTracker
from pipeline.trackers.points.base import PointTracker
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class IPtSettings:
    """The paper's settings (IV-C), except where a comment says otherwise.

    Attributes:
        positive_points, negative_points: tracked query points of an object.
        sampling: where points beyond the person's own clicks come from, one of `sampling.STRATEGIES`.
        use_boxes: track a box as well, and drop points that leave it.
        min_box_score: below it the tracked box is not believed.
        use_memory: whether the cross-round space-time module takes part.
        memory_interval_frames, memory_top_k, memory_rounds, memory_mib: see `CrstmSettings`.
        memory_policy, memory_slots, memory_similarity: see `CrstmSettings`; 20 slots hold all that a clip of 100 frames
            offers, so that only longer ones forget.
        refinement_iterations: after the two passes.
        restart, restart_frames: see `RestartSettings`. The paper's PIPS keeps its points over the whole range;
            Lucas-Kanade loses them, so trackers start anew as in SAM-PT.
        flow_long_side_px: size at which a mask is carried to the next frame, for segmenters that want it.
        fusion_score_power: where the passes from two interaction frames meet, each one's share by distance (Eq. 1) is
            multiplied by its score to this power, so that a pass that lost the object does not overrule one that did
            not. 0 is the paper's equation.
    """

    positive_points: int = 8
    negative_points: int = 1
    sampling: str = "mixed"
    use_boxes: bool = True
    min_box_score: float = 0.4
    use_memory: bool = True
    memory_interval_frames: int = 5
    memory_top_k: int = 20
    memory_rounds: int = 8
    memory_mib: int = 256
    memory_policy: str = "fifo"
    memory_slots: int = 20
    memory_similarity: float = 0.5
    refinement_iterations: int = 3
    restart: str = "horizon"
    restart_frames: int = 8
    flow_long_side_px: int = 214
    fusion_score_power: float = 12.0

    def __post_init__(self) -> None:
        check_policy(self.memory_policy, self.memory_slots, self.memory_similarity)


@dataclass(frozen=True)
class IPt:
    """See `pipeline.methods.base.Method`."""

    segmenter: Segmenter
    point_tracker: PointTracker
    box_tracker: BoxTracker
    embeddings: EmbeddingCache[Any]
    settings: IPtSettings = IPtSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> TrackedVideo:
        """Start work on a video."""
        s = self.settings
        memory = CrstmSettings(
            s.memory_interval_frames,
            s.memory_top_k,
            s.memory_rounds,
            s.memory_mib,
            s.memory_policy,
            s.memory_slots,
            s.memory_similarity,
        )
        tracking = TrackingSettings(s.positive_points, s.negative_points, s.sampling, s.min_box_score)
        return TrackedVideo(
            VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys)),
            PromptTracker(self.point_tracker, self.box_tracker if s.use_boxes else None, tracking),
            Decoder(self.segmenter, s.refinement_iterations, memory if s.use_memory else None),
            RestartSettings(s.restart, s.restart_frames),
            s.flow_long_side_px,
            s.fusion_score_power,
        )
