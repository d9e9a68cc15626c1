"""The newest frame of a video that arrives, and what others are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.masks import probabilities
from pipeline.methods.base import Estimate
from pipeline.segmenters.base import FloatMap
from pipeline.session.mask_store import MaskStore
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.streaming.frames import OnlineFrames
from pipeline.types import FrameResult, Prompt, RunLengthMask
from pipeline.uncertainty import entropy_map, most_uncertain
from pipeline.video.frames import RecentFrames


@dataclass(frozen=True)
class HelpRequest:
    """A method that asks a person for a click on the newest frame (thesis, 6.4.4).

    ``x_px``, ``y_px`` are where to look: the most uncertain place in and around the object's mask, in pixels of the
    frame. ``uncertainty`` in [0, 1] is the object's masked entropy, ``change`` in [-1, 1] by how much it rose against
    the last frame.
    """

    object_id: int
    frame_index: int
    x_px: float
    y_px: float
    uncertainty: float
    change: float


@dataclass(frozen=True)
class OnlineFrame:
    """What is known of one frame: a result for every object that was begun by then, and what the method asks for.

    A frame that could not be read has neither.
    """

    frame_index: int
    results: tuple[FrameResult, ...]
    requests: tuple[HelpRequest, ...]


@dataclass
class NewestFrame:
    """The newest frame: its masks, the uncertainties and requests of the step to it, and what was prompted on it.

    ``before`` are the masks it had before anyone prompted it.
    """

    frame_index: int
    board: MaskStore
    before: dict[int, RunLengthMask] = field(default_factory=dict)
    uncertainty: dict[int, float | None] = field(default_factory=dict)
    requests: tuple[HelpRequest, ...] = ()

    @classmethod
    def of(cls, frames: OnlineFrames) -> NewestFrame:
        """Nothing is known of the frame that was added last."""
        return cls(len(frames) - 1, MaskStore(RecentFrames(frames, limit_mib=0)))

    def put(self, found: Mapping[int, FrameMask]) -> None:
        """Masks of some objects; every pixel gets one owner."""
        for object_id in found:
            self.board.objects.setdefault(object_id, ObjectState(object_id))
        self.board.add_masks(self.frame_index, found)

    def note(self, found: Mapping[int, Estimate]) -> None:
        """What the step to this frame said of objects beside their masks."""
        self.before = {i: self.board.objects[i].masks[self.frame_index].raw for i in found}
        self.uncertainty = {i: each.uncertainty for i, each in found.items()}
        wanting = {i: each for i, each in found.items() if each.wants_help}
        if wanting:
            entropy = entropy_map(probabilities(np.stack([each.logits for each in found.values()])))
            self.requests = tuple(_request(i, each, entropy) for i, each in wanting.items())

    def add_prompts(self, object_id: int, prompts: Sequence[Prompt]) -> None:
        """Prompts on this frame, beside those it has."""
        state = self.board.objects.setdefault(object_id, ObjectState(object_id))
        state.prompts[self.frame_index] = (*state.prompts.get(self.frame_index, ()), *prompts)

    def shown(self) -> OnlineFrame:
        """The frame as it is known now."""
        states = [state for _, state in sorted(self.board.objects.items())]
        prompted = {state.object_id for state in states if state.prompts}
        results = [state.result(self.frame_index) for state in states]
        results = [
            result
            if result.object_id in prompted or self.uncertainty.get(result.object_id) is None
            else replace(result, uncertainty=self.uncertainty[result.object_id])
            for result in results
        ]
        requests = tuple(request for request in self.requests if request.object_id not in prompted)
        return OnlineFrame(self.frame_index, tuple(results), requests)


def _request(object_id: int, estimate: Estimate, entropy: FloatMap) -> HelpRequest:
    x_px, y_px = most_uncertain(entropy, np.asarray(estimate.logits > 0))
    uncertainty, change = estimate.uncertainty or 0.0, estimate.uncertainty_change or 0.0
    return HelpRequest(object_id, estimate.frame_index, x_px, y_px, uncertainty, change)
