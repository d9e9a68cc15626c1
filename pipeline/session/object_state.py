"""What a session knows of one object: its prompts, a mask per frame, and the frames that have to be segmented again.

One type, `ObjectState`, serves the running session, the history of earlier rounds, and the storage of sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.masks import SoftMask
from pipeline.types import FrameResult, Prompt, RunLengthMask
from pipeline.uncertainty import object_uncertainties

PromptsByFrame: TypeAlias = dict[int, tuple[Prompt, ...]]

AffectedFrames: TypeAlias = Callable[[Collection[int], Collection[int], int], set[int]]
"""Which frames without prompts have to be segmented again after prompts changed.

Arguments: the frames whose prompts changed or went away, the frames that have prompts now, and the number of frames.
"""

MAX_STATES = 32
HISTORY_MIB = 32.0
"""Bound of the masks that one object's history holds and the object itself does not."""


@dataclass(frozen=True)
class FrameMask:
    """The mask of one object on one frame.

    Attributes:
        raw: the mask before overlaps with other objects are resolved.
        resolved: the mask after that; no two objects share a pixel.
        score: the confidence in [0, 1].
        prompted: whether a person prompted the object on this frame.
        soft: the probabilities behind ``raw``; None for a mask that a person gave, and where they were dropped.
        uncertainty: the mean entropy in and around the mask in [0, 1], see `pipeline.uncertainty.object_uncertainties`.
        agreement: how far the passes from the prompted frames on both sides agree, in [0, 1]; None where there was one.
    """

    raw: RunLengthMask
    resolved: RunLengthMask
    score: float
    prompted: bool
    soft: SoftMask | None = None
    uncertainty: float | None = None
    agreement: float | None = None

    @classmethod
    def from_logits(cls, logits: NDArray[np.float32], score: float, *, prompted: bool = False) -> FrameMask:
        """The mask where logits (H, W) float32 are positive; its confidence is ``score`` lowered by its uncertainty.

        Args:
            logits: of this object alone.
            score: the method's own confidence; cut to [0, 1].
            prompted: whether a person prompted the object on this frame.
        """
        mask = RunLengthMask.encode(np.asarray(logits > 0))
        soft = SoftMask.pack(logits)
        (uncertainty,) = object_uncertainties({0: soft.small()}, [0]).values()
        return cls(mask, mask, min(max(score, 0.0), 1.0) * (1.0 - uncertainty), prompted, soft, uncertainty)

    @classmethod
    def from_result(cls, result: FrameResult) -> FrameMask:
        """A propagated mask that another session produced."""
        return cls(
            result.mask,
            result.mask,
            result.score,
            prompted=False,
            uncertainty=result.uncertainty,
            agreement=result.agreement,
        )

    @classmethod
    def from_person(cls, mask: RunLengthMask) -> FrameMask:
        """A mask that a person gave."""
        return cls(mask, mask, 1.0, prompted=True)

    def with_score(self, score: float, agreement: float | None = None) -> FrameMask:
        """The same mask with another confidence in [0, 1]."""
        return replace(self, score=score, agreement=agreement)

    def without_probabilities(self) -> FrameMask:
        """The same mask without the probabilities behind it."""
        return self if self.soft is None else replace(self, soft=None)

    @property
    def held_bytes(self) -> int:
        """Memory of the masks and probabilities, in bytes, without Python's own overhead."""
        return len(self.raw.counts) + len(self.resolved.counts) + self.soft_bytes

    @property
    def soft_bytes(self) -> int:
        """Memory of the probabilities, in bytes."""
        return len(self.soft.data) if self.soft is not None else 0


@dataclass
class ObjectState:
    """Everything known of one object at one moment.

    The mask store changes the states of its objects in place, under its lock. What leaves the store is a `copy`, which
    nobody changes.

    Attributes:
        object_id: the object.
        prompts: by frame; the order within a frame counts.
        masks: by frame.
        stale: frames that have to be segmented: they have no mask, or newer prompts may change the one they have.
        masks_before_prompts: by prompted frame, the propagated mask it had before its first prompt. Clicks correct that
            mask, however often they change.
        round_index: how many rounds changed the object's prompts.
        interaction_frames: the frames that the latest round prompted, and rounds that did not finish before it.
            Propagation starts from these.
    """

    object_id: int
    prompts: PromptsByFrame = field(default_factory=dict)
    masks: dict[int, FrameMask] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)
    masks_before_prompts: dict[int, RunLengthMask] = field(default_factory=dict)
    round_index: int = 0
    interaction_frames: set[int] = field(default_factory=set)

    def copy(self) -> ObjectState:
        """The same state, not affected by later changes to this one; the masks themselves are shared."""
        return ObjectState(
            self.object_id,
            dict(self.prompts),
            dict(self.masks),
            set(self.stale),
            dict(self.masks_before_prompts),
            self.round_index,
            set(self.interaction_frames),
        )

    @property
    def all_prompts(self) -> tuple[Prompt, ...]:
        """The prompts by frame, in their order within a frame."""
        return tuple(prompt for _, prompts in sorted(self.prompts.items()) for prompt in prompts)

    def update_prompts(self, new: PromptsByFrame, affected_frames: AffectedFrames, n_frames: int) -> None:
        """Replace all prompts, and mark the frames stale whose masks depend on what changed."""
        changed = {frame_index for frame_index, prompts in new.items() if self.prompts.get(frame_index) != prompts}
        removed = set(self.prompts) - set(new)
        if not changed and not removed:
            return
        if new and not any(frame_index in new for frame_index in self.prompts):
            # None of the prompts that the masks came from is left, so the masks are no hint any more.
            self.masks_before_prompts.clear()
        else:
            for frame_index in changed - set(self.prompts):
                mask = self.masks.get(frame_index)
                if mask is not None:
                    self.masks_before_prompts[frame_index] = mask.raw
        for frame_index in removed:
            self.masks_before_prompts.pop(frame_index, None)
        self.prompts = new
        self.round_index += 1
        # The passes of a round that did not finish still have to be run.
        unfinished = self.interaction_frames & set(new) if self.stale else set[int]()
        self.interaction_frames = changed | unfinished
        self.stale = (self.stale | changed | affected_frames(changed | removed, set(new), n_frames)) if new else set()

    def return_to(self, earlier: ObjectState) -> set[int]:
        """Go back to an earlier state; returns the frames whose mask changed by that."""
        before, earlier = self.masks, earlier.copy()
        self.prompts, self.masks, self.stale = earlier.prompts, earlier.masks, earlier.stale
        self.masks_before_prompts, self.round_index = earlier.masks_before_prompts, earlier.round_index
        self.interaction_frames = set()
        added_later = set(before) - set(self.masks)
        # A frame that got its first mask later keeps it until it is segmented anew.
        self.masks.update({frame_index: before[frame_index] for frame_index in added_later})
        self.stale |= added_later - set(self.prompts)
        return {frame_index for frame_index, mask in self.masks.items() if before.get(frame_index) is not mask}

    def result(self, frame_index: int) -> FrameResult:
        """The mask of a frame, after overlaps are resolved."""
        return self._result(frame_index, self.masks[frame_index].resolved)

    def raw_result(self, frame_index: int) -> FrameResult:
        """The mask of a frame, before overlaps are resolved."""
        return self._result(frame_index, self.masks[frame_index].raw)

    def _result(self, frame_index: int, mask: RunLengthMask) -> FrameResult:
        m = self.masks[frame_index]
        return FrameResult(self.object_id, frame_index, mask, m.score, m.prompted, m.uncertainty, m.agreement)

    @property
    def held_bytes(self) -> int:
        """Memory of the masks, in bytes, without Python's own overhead."""
        return sum(mask.held_bytes for mask in self.masks.values())


class History:
    """The latest states of one object between rounds, bounded in number and bytes; the oldest are dropped first.

    When prompts are taken away, or come back, their masks are taken from here instead of computed again.
    """

    def __init__(self, limit_mib: float = HISTORY_MIB) -> None:
        self._limit_bytes = int(limit_mib * 2**20)
        self._states: list[ObjectState] = []
        self.held_bytes = 0
        """Memory of masks that the history holds and the object itself does not, at the latest `remember`, in bytes."""

    def remember(self, state: ObjectState) -> None:
        """Keep a copy of a state, in place of an earlier one with the same prompts; one without prompts is not kept."""
        if not state.prompts:
            return
        self._states = [known for known in self._states if known.prompts != state.prompts] + [state.copy()]
        del self._states[:-MAX_STATES]
        while (held_bytes := self._unshared_bytes(state.masks)) > self._limit_bytes:
            del self._states[0]
        self.held_bytes = held_bytes

    def nearest(self, prompts: PromptsByFrame) -> ObjectState | None:
        """The state from which the fewest added prompts lead to these; the newest of several; None if there is none."""
        candidates = [state for state in self._states if _is_subset(state.prompts, prompts)]
        return max(reversed(candidates), key=lambda state: len(state.all_prompts), default=None)

    def _unshared_bytes(self, present: Mapping[int, FrameMask]) -> int:
        shared = {id(mask) for mask in present.values()}
        earlier = {id(mask): mask for state in self._states for mask in state.masks.values()}
        return sum(mask.held_bytes for key, mask in earlier.items() if key not in shared)


def _is_subset(prompts: PromptsByFrame, others: PromptsByFrame) -> bool:
    return all(not Counter(given) - Counter(others.get(frame, ())) for frame, given in prompts.items())


def prompts_by_frame(prompts: Iterable[Prompt]) -> PromptsByFrame:
    """Prompts by the frame they are on, in their order."""
    found: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        found.setdefault(prompt.frame_index, []).append(prompt)
    return {frame_index: tuple(given) for frame_index, given in found.items()}
