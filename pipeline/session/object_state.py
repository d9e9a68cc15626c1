"""What a session knows about one object: its prompts, a mask per frame, and which frames wait to be segmented again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.session.frame_mask import Known
from pipeline.session.history import History, Moment, PromptsByFrame
from pipeline.session.ranges import Reach
from pipeline.session.saved_object import SavedObject
from pipeline.types import FrameResult, Prompt, RunLengthMask


@dataclass
class ObjectState:
    """Prompts and masks of one object. ``stale`` frames have no mask yet, or one that newer prompts put in question."""

    object_id: int
    n_frames: int
    prompts: dict[int, tuple[Prompt, ...]] = field(default_factory=dict)
    known: dict[int, Known] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)
    before_prompts: dict[int, RunLengthMask] = field(default_factory=dict)
    """The propagated mask a frame had before its first prompt: clicks correct that one, however often they change."""
    round_index: int = 0
    """How many rounds changed this object's prompts."""
    interaction_frames: set[int] = field(default_factory=set)
    """Where the latest round prompted; results come outward from there."""
    history: History = field(default_factory=History)

    def update_prompts(self, prompts: Iterable[Prompt], reach: Reach) -> bool:
        """Take the complete new set of prompts, mark what it puts in question, and say whether anything changed."""
        new = by_frame(prompts)
        changed = {frame_index for frame_index, given in new.items() if self.prompts.get(frame_index) != given}
        lost = set(self.prompts) - set(new)
        if not changed and not lost:
            return False
        if new and not any(frame_index in new for frame_index in self.prompts):
            # Nothing is left of what the masks came from, so they are no hint any more.
            self.before_prompts.clear()
        else:
            for frame_index in changed - set(self.prompts):
                known = self.known.get(frame_index)
                if known is not None:
                    self.before_prompts[frame_index] = known.own
        for frame_index in lost:
            self.before_prompts.pop(frame_index, None)
        self.prompts = new
        self.round_index += 1
        self.interaction_frames = changed
        self.stale = (self.stale | changed | reach(changed | lost, set(new), self.n_frames)) if new else set()
        return True

    @property
    def all_prompts(self) -> tuple[Prompt, ...]:
        """The prompts by frame, in their order within a frame."""
        return tuple(prompt for _, given in sorted(self.prompts.items()) for prompt in given)

    def moment(self) -> Moment:
        """The present, to be remembered."""
        return Moment(
            dict(self.prompts), dict(self.known), frozenset(self.stale), dict(self.before_prompts), self.round_index
        )

    def return_to(self, moment: Moment) -> set[int]:
        """Make an earlier moment the present one; returns the frames whose mask that changed."""
        before = self.known
        self.prompts, self.known = dict(moment.prompts), dict(moment.known)
        self.stale, self.before_prompts = set(moment.stale), dict(moment.before_prompts)
        self.round_index, self.interaction_frames = moment.round_index, set()
        gone = set(before) - set(self.known)
        # A mask that a later round was first to give stays visible until the frame is segmented anew.
        self.known.update({frame_index: before[frame_index] for frame_index in gone})
        self.stale |= gone - set(self.prompts)
        return {frame_index for frame_index, known in self.known.items() if before.get(frame_index) is not known}

    def saved(self) -> SavedObject:
        """The state as it can leave the session."""
        return SavedObject(
            self.object_id,
            self.round_index,
            self.all_prompts,
            dict(self.known),
            frozenset(self.stale),
            dict(self.before_prompts),
            frozenset(self.interaction_frames),
        )

    @classmethod
    def resumed(cls, saved: SavedObject, n_frames: int) -> ObjectState:
        """The state that left another session."""
        return cls(
            saved.object_id,
            n_frames,
            dict(by_frame(saved.prompts)),
            dict(saved.known),
            set(saved.stale),
            dict(saved.before_prompts),
            saved.round_index,
            set(saved.interaction_frames),
        )

    def result(self, frame_index: int) -> FrameResult:
        """The known mask of a frame as others see it."""
        return self._result(frame_index, self.known[frame_index].shown)

    def own_result(self, frame_index: int) -> FrameResult:
        """The known mask of a frame before other objects took pixels of it."""
        return self._result(frame_index, self.known[frame_index].own)

    def _result(self, frame_index: int, mask: RunLengthMask) -> FrameResult:
        k = self.known[frame_index]
        return FrameResult(self.object_id, frame_index, mask, k.score, k.prompted, k.uncertainty, k.agreement)

    @property
    def held_bytes(self) -> int:
        """Memory of the masks, also of earlier rounds, in bytes, without what Python adds."""
        return sum(known.held_bytes for known in self.known.values()) + self.history.held_bytes


def by_frame(prompts: Iterable[Prompt]) -> PromptsByFrame:
    """Prompts by the frame they are on, in their order."""
    found: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        found.setdefault(prompt.frame_index, []).append(prompt)
    return {frame_index: tuple(given) for frame_index, given in found.items()}
