"""The box of the previous mask, held still: what SAM-PD starts from. The cheapest tracker, for small motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.parts.context import PartContext
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks, nothing_found
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class MaskBox:
    """See `pipeline.trackers.boxes.base.BoxTracker`. The score halves every ``half_life_frames`` frames."""

    half_life_frames: float = 8.0

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:  # noqa: ARG002
        """Repeat the query's box, with less and less confidence."""
        boxes, _ = nothing_found(query, frame_range)
        steps = np.arange(len(frame_range), dtype=np.float32)
        return BoxTracks(frame_range, boxes, np.asarray(0.5 ** (steps / self.half_life_frames), np.float32))


def build(context: PartContext) -> MaskBox:  # noqa: ARG001
    """The tracker that tracks nothing."""
    return MaskBox()
