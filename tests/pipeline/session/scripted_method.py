"""A method whose passes find what a script says: for the rules of a session alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource

Script = Callable[[Anchor, int], tuple[BoolMask, float]]
"""The mask and score that a pass from an anchor finds on a frame."""


@dataclass(frozen=True)
class ScriptedMethod:
    """Its pass from a frame finds on each frame what a script says; it notes the frames of every pass."""

    script: Script
    fusion_score_power: float = 0.0
    held_bytes: int = 0
    clicks_only: bool = False
    passes: list[range] = field(default_factory=list)

    def open(self, frames: FrameSource) -> ScriptedMethod:  # noqa: ARG002
        return self

    def begin_round(self, task: ObjectRound) -> None:
        pass

    def forget(self, object_id: int) -> None:
        pass

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: None
    ) -> Estimate:
        raise AssertionError(f"all prompts are masks, but {frame_index}, {prompts}, {prior}, {memory} came")

    def propagate(self, anchor: Anchor, frame_indices: range, memory: None) -> Iterator[Estimate]:  # noqa: ARG002
        self.passes.append(frame_indices)
        for frame_index in frame_indices:
            mask, score = self.script(anchor, frame_index)
            yield Estimate(frame_index, np.where(mask, 6.0, -6.0).astype(np.float32), score)
