"""Propagation of all objects together, within truncated ranges; every round propagates everything again (IDPro)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.masks import saturated_logits
from pipeline.methods.base import Anchor, ConcurrentVideo, Interaction, ObjectRound
from pipeline.prompting import merge_prompts, split_at_last_mask
from pipeline.schedule import schedule
from pipeline.session.mask_store import MaskStore
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.propagation import AccumulatedUncertainty, all_unprompted_frames, resume_point, truncated_ranges
from pipeline.types import FrameResult
from pipeline.video.frames import FrameError


class ConcurrentPropagation:
    """A `pipeline.session.propagation.Propagation`.

    All prompted frames are segmented first. The method uses the other prompted frames for each of them. The remaining
    frames follow outward from the prompted ones; each pass ends in the middle between two prompted frames. Objects
    whose passes are at the same frame in the same direction are segmented there together. `run` may yield a prompted
    frame twice: first from its own prompts alone, then with the other prompted frames.
    """

    affected_frames = staticmethod(all_unprompted_frames)

    def __init__(self, store: MaskStore, video: ConcurrentVideo) -> None:
        self._store, self._video = store, video

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """See `Propagation.run`."""
        unfinished = self._store.unfinished()
        try:
            yield from self._segment_prompted_frames(unfinished, cancelled)
            yield from self._propagate(unfinished, cancelled)
        finally:
            self._video.prefetch(())

    def _segment_prompted_frames(
        self, unfinished: Sequence[ObjectState], cancelled: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        interactions: list[Interaction] = []
        for state in unfinished:
            for frame_index in sorted(state.stale & set(state.prompts)):
                if cancelled():
                    return
                given, prompts = split_at_last_mask(state.prompts[frame_index])
                if given is None or prompts:
                    before = given or state.masks_before_prompts.get(frame_index)
                    prior = saturated_logits(before.decode()) if before is not None and before.area_px else None
                    interactions.append(Interaction(state.object_id, frame_index, merge_prompts(prompts), prior))
                elif self._is_readable(frame_index):
                    mask = FrameMask.from_person(given)
                    yield from self._store.add_masks(frame_index, {state.object_id: mask})
                else:
                    self._store.mark_finished(state, [frame_index])
        if interactions:
            yield from self._interact(interactions, unfinished, cancelled)

    def _interact(
        self, interactions: Sequence[Interaction], unfinished: Sequence[ObjectState], cancelled: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        known = [round_ for state in unfinished if (round_ := self._round(state)).anchors]
        for interaction, estimate in self._video.interact(interactions, known):
            mask = FrameMask.from_logits(estimate.logits, estimate.score, prompted=True)
            # Frames stay stale until all answers are final: a round cancelled here segments them again.
            yield from self._store.add_masks(interaction.frame_index, {interaction.object_id: mask}, final=False)
            if cancelled():
                return
        for interaction in interactions:
            # This includes frames without an answer: they cannot be read.
            self._store.mark_finished(self._store.objects[interaction.object_id], [interaction.frame_index])

    def _is_readable(self, frame_index: int) -> bool:
        try:
            self._store.frames.frame(frame_index)
        except FrameError:
            return False
        return True

    def _round(self, state: ObjectState) -> ObjectRound:
        return self._store.object_round(state, self._store.anchors(state))

    def _propagate(self, unfinished: Sequence[ObjectState], cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        rounds = [round_ for state in unfinished if (round_ := self._round(state)).anchors]
        if not rounds or cancelled():
            return
        objects, n_frames = self._store.objects, len(self._store.frames)
        passes = [each for round_ in rounds for each in _passes(objects[round_.object_id], round_, n_frames)]
        memory = self._video.begin_round(rounds)
        steps = schedule([each.frame_indices for each in passes])
        self._video.prefetch([frame_index for frame_index, _ in steps])
        for frame_index, positions in steps:
            yield from self._step(frame_index, [passes[position] for position in positions], memory)
            if cancelled():
                return

    def _step(self, frame_index: int, passes: Sequence[_Pass], memory: Any) -> Iterator[FrameResult]:
        for each in passes:
            if each.of_method is None:
                each.of_method = self._video.start_pass(each.state.object_id, each.anchor, memory)
        try:
            estimates = self._video.step(frame_index, [each.of_method for each in passes], memory)
        except FrameError:
            for each in passes:
                self._store.mark_finished(each.state, [frame_index])
            return
        masks = {
            each.state.object_id: each.accumulated.next_mask(estimate)
            for each, estimate in zip(passes, estimates, strict=True)
            if frame_index in each.state.stale
        }
        yield from self._store.add_masks(frame_index, masks)


@dataclass
class _Pass:
    """One pass of one object, from a frame with a known mask; ``of_method`` is the method's own state of it."""

    state: ObjectState
    anchor: Anchor
    frame_indices: range
    accumulated: AccumulatedUncertainty
    of_method: Any = field(default=None)


def _passes(state: ObjectState, object_round: ObjectRound, n_frames: int) -> Iterator[_Pass]:
    """The passes of an object through stale frames, those from the latest interaction frames first."""
    prompted = {anchor.frame_index for anchor in object_round.anchors}
    latest_first = sorted(object_round.anchors, key=lambda anchor: anchor.frame_index not in state.interaction_frames)
    for anchor in latest_first:
        for side in truncated_ranges(anchor.frame_index, prompted - {anchor.frame_index}, n_frames):
            start, order = resume_point(state, anchor, side.frame_indices)
            n_needed = max(
                (n for n, frame in enumerate(order, start=1) if frame in object_round.frame_indices), default=0
            )
            if n_needed:
                n_before = len(side.frame_indices) - len(order)
                earlier = AccumulatedUncertainty.of_frames(state, side.frame_indices[:n_before])
                yield _Pass(state, start, order[:n_needed], earlier)
