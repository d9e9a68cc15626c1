"""The box of the previous mask, held still: what SAM-PD starts from. The cheapest tracker, for small motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.trackers._frames import check_range
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks
from pipeline.video import FrameSource


@dataclass(frozen=True)
class MaskBox:
    """See `pipeline.trackers.boxes.base.BoxTracker`. The score halves every ``half_life_frames`` frames."""

    half_life_frames: float = 8.0

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:  # noqa: ARG002
        """Repeat the query's box, with less and less confidence."""
        check_range(query.frame_index, frame_range)
        steps = np.arange(len(frame_range), dtype=np.float32)
        boxes = np.tile(np.array(query.box_xyxy_px, np.float32), (len(frame_range), 1))
        return BoxTracks(frame_range, boxes, np.asarray(0.5 ** (steps / self.half_life_frames), np.float32))
