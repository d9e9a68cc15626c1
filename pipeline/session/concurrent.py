"""Rounds that take all objects through the video together: truncated ranges, all of them propagated again (IDPro)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.masks import known_logits
from pipeline.methods.base import Anchor, ConcurrentVideo, Interaction, ObjectRound
from pipeline.prompting import merge_prompts, settled
from pipeline.session import ranges
from pipeline.session.confidence import Doubt
from pipeline.session.frame_mask import Known
from pipeline.session.mask_store import Board
from pipeline.session.object_state import ObjectState
from pipeline.session.resume_point import where_left_off
from pipeline.types import FrameResult
from pipeline.video.frames import FrameError


class Together:
    """See `pipeline.session.propagation.Rounds`.

    All prompted frames are answered at once, and then seen by each other; the others follow outward from the prompted
    frames, each up to the middle between two. A frame is segmented for all objects whose ways pass it at that moment
    in one go. Prompted frames may come twice: quickly, and with what the other prompted frames say.
    """

    reach = staticmethod(ranges.everything)

    def __init__(self, board: Board, video: ConcurrentVideo) -> None:
        self._board, self._video = board, video

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """See `pipeline.session.propagation.Rounds.run`."""
        waiting = self._board.waiting()
        try:
            yield from self._segment_prompted_frames(waiting, cancelled)
            yield from self._propagate(waiting, cancelled)
        finally:
            self._video.prefetch(())

    def _segment_prompted_frames(
        self, waiting: Sequence[ObjectState], cancelled: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        asked: list[Interaction] = []
        for state in waiting:
            for frame_index in sorted(state.stale & set(state.prompts)):
                if cancelled():
                    return
                truth, prompts = settled(state.prompts[frame_index])
                if truth is None or prompts:
                    before = truth or state.before_prompts.get(frame_index)
                    prior = known_logits(before.decode()) if before is not None and before.area_px else None
                    asked.append(Interaction(state.object_id, frame_index, merge_prompts(prompts), prior))
                elif self._is_readable(frame_index):
                    yield from self._board.put(frame_index, {state.object_id: Known.given(truth)})
                else:
                    state.stale.discard(frame_index)
        if not asked:
            return
        known = [round_ for state in waiting if (round_ := self._round(state)).anchors]
        for interaction, estimate in self._video.interact(asked, known):
            found = Known.found(estimate.logits, estimate.score, prompted=True)
            # Until all have seen each other the frames wait: a round that is stopped here asks them again.
            yield from self._board.put(interaction.frame_index, {interaction.object_id: found}, final=False)
            if cancelled():
                return
        for interaction in asked:
            # Also where no answer came: such a frame cannot be read, and asking again would not help.
            self._board.objects[interaction.object_id].stale.discard(interaction.frame_index)

    def _is_readable(self, frame_index: int) -> bool:
        try:
            self._board.frames.frame(frame_index)
        except FrameError:
            return False
        return True

    def _round(self, state: ObjectState) -> ObjectRound:
        return self._board.object_round(state, self._board.anchors(state))

    def _propagate(self, waiting: Sequence[ObjectState], cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        rounds = [round_ for state in waiting if (round_ := self._round(state)).anchors]
        if not rounds or cancelled():
            return
        ways = [way for round_ in rounds for way in _ways(self._board.objects[round_.object_id], round_)]
        memory = self._video.begin_round(rounds)
        steps = schedule([way.frame_indices for way in ways])
        self._video.prefetch([frame_index for frame_index, _ in steps])
        for frame_index, rows in steps:
            yield from self._step(frame_index, [ways[row] for row in rows], memory)
            if cancelled():
                return

    def _step(self, frame_index: int, ways: Sequence[_Way], memory: Any) -> Iterator[FrameResult]:
        for way in ways:
            if way.begun is None:
                way.begun = self._video.start_pass(way.state.object_id, way.anchor, memory)
        try:
            estimates = self._video.step(frame_index, [way.begun for way in ways], memory)
        except FrameError:
            # Asking again in every later round would not help.
            for way in ways:
                way.state.stale.discard(frame_index)
            return
        found = {
            way.state.object_id: way.doubt.met(estimate)
            for way, estimate in zip(ways, estimates, strict=True)
            if frame_index in way.state.stale
        }
        yield from self._board.put(frame_index, found)


@dataclass
class _Way:
    """One object's way from a known frame; ``begun`` is the method's own, once the first step is taken."""

    state: ObjectState
    anchor: Anchor
    frame_indices: range
    doubt: Doubt
    begun: Any = field(default=None)


def _ways(state: ObjectState, task: ObjectRound) -> Iterator[_Way]:
    """The ways of an object that lead past frames that wait, those of the latest interaction frames first."""
    prompted = {anchor.frame_index for anchor in task.anchors}
    latest_first = sorted(task.anchors, key=lambda anchor: anchor.frame_index not in state.interaction_frames)
    for anchor in latest_first:
        for side in ranges.truncated(anchor.frame_index, prompted - {anchor.frame_index}, state.n_frames):
            start, order = where_left_off(state, anchor, side.frame_indices)
            n_needed = max((n for n, frame in enumerate(order, start=1) if frame in task.frame_indices), default=0)
            if n_needed:
                n_before = len(side.frame_indices) - len(order)
                yield _Way(state, start, order[:n_needed], Doubt.along(state, side.frame_indices[:n_before]))


def schedule(ways: Sequence[range]) -> list[tuple[int, list[int]]]:
    """In which order to walk several ways: the one that came least far goes on first, an earlier one where equal.

    Ways that go in the same direction and are next on the same frame are taken together.

    Returns:
        frame index and positions in ``ways`` of every step.
    """
    done = [0] * len(ways)
    steps: list[tuple[int, list[int]]] = []
    while True:
        open_rows = [row for row, way in enumerate(ways) if done[row] < len(way)]
        if not open_rows:
            return steps
        first = min(open_rows, key=lambda row: done[row])
        frame_index, direction = ways[first][done[first]], ways[first].step
        rows = [row for row in open_rows if ways[row][done[row]] == frame_index and ways[row].step == direction]
        for row in rows:
            done[row] += 1
        steps.append((frame_index, rows))
