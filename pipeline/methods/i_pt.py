"""I-PT: points and boxes tracked together, and a memory across rounds.

Source: Wei et al., "Training-Free Robust Interactive Video Object Segmentation".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory.policy_settings import check_policy
from pipeline.segmenters.base import Segmenter, memory_temperature
from pipeline.trackers.boxes.base import BoxTracker
from pipeline.trackers.points.base import PointTracker
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from pipeline.memory.bank import MemoryBank
    from pipeline.memory.policies import MemoryPolicy
    from pipeline.methods.per_object.tracked_video import TrackedVideo


@dataclass(frozen=True)
class IPtSettings:
    """The paper's settings (IV-C), except where a line says otherwise.

    Attributes:
        positive_points: tracked points on the object.
        negative_points: tracked points outside the object.
        sampling: how the points beyond a person's own clicks are chosen: ``random``, ``k_medoids``, ``shi_tomasi``,
            ``mixed``, ``grid`` or ``corners_and_grid``.
        use_boxes: track a box as well, and drop positive points that leave it.
        min_box_score: ignore a tracked box whose score, in [0, 1], is below this.
        use_memory: use the cross-round space-time memory.
        memory_interval_frames: offer one frame in every ``memory_interval_frames`` to the memory (the paper's d).
        memory_top_k: how many memory cells answer for one cell of the frame (Eq. 4).
        memory_temperature: what affinities are divided by before the memory's softmax (Eq. 4): 1 as in the paper; 0 as
            the segmenter's keys need it. That is 1 for ``lite``, and a sixteenth of the mean squared
            length of the keys for SAM and HQ-SAM: 16 where they have length 16. With 1 a single cell would answer.
        memory_rounds: the paper's R in Eq. 6: with half as many prompted frames, memory and frame count equally.
        memory_mib: upper bound in MiB of one object's memory in one video.
        memory_policy: which of the offered frames stay in memory: ``fifo`` (the latest) or ``readmem`` (the most
            diverse).
        memory_slots: how many offered frames the memory keeps, besides the prompted frames. 20 hold all that a clip of
            100 frames offers, so only longer clips forget.
        memory_similarity: READMem's lower similarity bound, in [-1, 1]: an object that looks less similar to every
            prompted frame than this is not stored.
        refinement_iterations: decoding iterations after the first two.
        restart: when the trackers start again from a predicted mask: ``never``, ``horizon``, ``median_area``,
            ``similar_area`` or ``similar_area_together`` (SAM-PT, appendix A, A to D). ``auto``: never for PIPS,
            CoTracker and TAPIR, which keep their points over the whole range, as in the paper; at the horizon for
            other trackers, which lose them.
        restart_frames: after how many frames the trackers restart (SAM-PT's h), at least 1.
        flow_long_side_px: longer side, in pixels, of the images along whose optical flow a mask is carried to the next
            frame, for segmenters that use such a mask.
        fusion_score_power: where a pass comes to a frame that has a mask from the other side, each one's share by
            distance (Eq. 1) is multiplied by its score to this power. So a pass that lost the object does not overrule
            one that did not. 0 leaves the shares of the paper's equation.
        find_lost: look for an object where no tracked prompt shows it any more: where a frame looks like the object on
            its prompted frames. The mask counts only if it looks much more like the object than anything else did.
    """

    positive_points: int = 8
    negative_points: int = 1
    sampling: str = "corners_and_grid"
    use_boxes: bool = True
    min_box_score: float = 0.4
    use_memory: bool = True
    memory_interval_frames: int = 5
    memory_top_k: int = 20
    memory_temperature: float = 0.0
    memory_rounds: int = 8
    memory_mib: int = 256
    memory_policy: str = "fifo"
    memory_slots: int = 20
    memory_similarity: float = 0.5
    refinement_iterations: int = 3
    restart: str = "auto"
    restart_frames: int = 8
    flow_long_side_px: int = 428
    fusion_score_power: float = 2.0
    find_lost: bool = True

    def __post_init__(self) -> None:
        if self.memory_temperature < 0:
            raise ValueError(f"the memory's temperature must be 0 or more, but got {self.memory_temperature}")
        check_policy(self.memory_policy, self.memory_slots, self.memory_similarity)


def _new_bank(limit_mib: float, policy: MemoryPolicy) -> MemoryBank:
    from pipeline.memory.bank import MemoryBank

    return MemoryBank(limit_mib, policy)


@dataclass(frozen=True)
class IPt:
    """See `pipeline.methods.base.Method`."""

    segmenter: Segmenter
    point_tracker: PointTracker
    box_tracker: BoxTracker
    embeddings: EmbeddingCache[Any]
    settings: IPtSettings = IPtSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Gives each video its own key in the cache."""
    new_memory: Callable[[float, MemoryPolicy], MemoryBank] = field(default=_new_bank, repr=False)
    """Makes the memory of an object, from its bound in MiB and its policy."""

    def open(self, frames: FrameSource) -> TrackedVideo:
        """Start work on a video."""
        from pipeline.methods.common.decoding import CrstmSettings, Decoder
        from pipeline.methods.common.mask_boxes import MaskBoxes
        from pipeline.methods.common.search import ObjectSearch
        from pipeline.methods.common.video_state import VideoState
        from pipeline.methods.per_object.prompt_tracking import PromptTracker, TrackingSettings
        from pipeline.methods.per_object.restarts import RestartSettings
        from pipeline.methods.per_object.tracked_video import TrackedVideo

        s = self.settings
        memory = CrstmSettings(
            s.memory_interval_frames,
            s.memory_top_k,
            s.memory_temperature or memory_temperature(self.segmenter),
            s.memory_rounds,
            s.memory_mib,
            s.memory_policy,
            s.memory_slots,
            s.memory_similarity,
            self.new_memory,
        )
        tracking = TrackingSettings(
            s.positive_points,
            s.negative_points,
            s.sampling,
            s.min_box_score,
            widen_boxes=not self.segmenter.uses_mask_prior,
        )
        state = VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys))
        return TrackedVideo(
            state,
            PromptTracker(self.point_tracker, self.box_tracker if s.use_boxes else None, tracking),
            Decoder(
                self.segmenter,
                s.refinement_iterations,
                memory if s.use_memory else None,
                MaskBoxes(self.segmenter, frames),
            ),
            RestartSettings.of(s.restart, s.restart_frames, self.point_tracker),
            s.flow_long_side_px,
            s.fusion_score_power,
            ObjectSearch(state) if s.find_lost else None,
        )
