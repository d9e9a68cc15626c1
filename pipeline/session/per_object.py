"""Rounds that take one object at a time, each within the restricted ranges of its prompted frames (I-PT, III-C2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline import fusion
from pipeline.masks import known_logits
from pipeline.methods.base import Anchor, Estimate, PerObjectVideo
from pipeline.prompting import merge_prompts, settled
from pipeline.session import ranges
from pipeline.session.confidence import Doubt, agreement
from pipeline.session.frame_mask import Known
from pipeline.session.mask_store import Board
from pipeline.session.object_state import ObjectState
from pipeline.session.resume_point import where_left_off
from pipeline.types import FrameResult
from pipeline.video.frames import FrameError


class OneByOne:
    """See `pipeline.session.propagation.Rounds`.

    Prompted frames come first, then the others outward from this round's interaction frames, nearest first and both
    ways, each side ending before the nearest other prompted frame of the object. Between two prompted frames the
    predictions from both are fused (I-PT, Eq. 1).
    """

    reach = staticmethod(ranges.around_changes)

    def __init__(self, board: Board, video: PerObjectVideo) -> None:
        self._board, self._video = board, video

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """See `pipeline.session.propagation.Rounds.run`. A frame may come twice when a second object claims pixels."""
        waiting = self._board.waiting()
        for state in waiting:
            yield from self._segment_prompted_frames(state, cancelled)
        yield from _alternate([self._propagate(state, cancelled) for state in waiting])

    def _segment_prompted_frames(self, state: ObjectState, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        for frame_index in sorted(state.stale & set(state.prompts)):
            if cancelled():
                return
            try:
                known = self._segment_prompted(state, frame_index)
            except FrameError:
                state.stale.discard(frame_index)
                continue
            yield from self._board.put(frame_index, {state.object_id: known})

    def _segment_prompted(self, state: ObjectState, frame_index: int) -> Known:
        """The mask of a prompted frame: the given one, or the segmenter's answer to clicks and box.

        Raises:
            FrameError: the frame cannot be read.
        """
        self._board.frames.frame(frame_index)
        truth, prompts = settled(state.prompts[frame_index])
        if truth is not None and not prompts:
            return Known.given(truth)
        before = truth or state.before_prompts.get(frame_index)
        prior = known_logits(before.decode()) if before is not None and before.area_px else None
        anchors = self._board.anchors(state, clicks_only=self._video.clicks_only)
        others = [anchor for anchor in anchors if anchor.frame_index != frame_index and anchor.mask.any()]
        memory = self._video.begin_round(self._board.object_round(state, others))
        merged = merge_prompts(prompts, clicks_only=self._video.clicks_only)
        estimate = self._video.segment_prompted(frame_index, merged, prior=prior, memory=memory)
        return Known.found(estimate.logits, estimate.score, prompted=True)

    def _propagate(self, state: ObjectState, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """Segment an object's stale frames between its prompted ones, outward from the latest interaction frames."""
        anchors = self._board.anchors(state, clicks_only=self._video.clicks_only)
        if not anchors or cancelled():
            return
        memory = self._video.begin_round(self._board.object_round(state, anchors))
        bounds: list[Anchor | None] = [None, *anchors, None]
        gaps = []
        for left, right in itertools.pairwise(bounds):
            low = 0 if left is None else left.frame_index + 1
            high = len(self._board.frames) if right is None else right.frame_index
            if state.stale & set(range(low, high)):
                gaps.append(self._fill_gap(state, left, right, range(low, high), memory, cancelled))
        yield from _alternate(gaps)

    def _fill_gap(
        self,
        state: ObjectState,
        left: Anchor | None,
        right: Anchor | None,
        gap: range,
        memory: Any,
        cancelled: Callable[[], bool],
    ) -> Iterator[FrameResult]:
        """Segment the stale frames between two neighbouring prompted frames, or between one and the clip's end."""
        from_right = left is None or (right is not None and right.frame_index in state.interaction_frames)
        near, far = (right, left) if from_right else (left, right)
        assert near is not None
        start, order = where_left_off(state, near, gap[::-1] if from_right else gap)
        opposite: dict[int, tuple[Known, float]] = {}
        if far is not None:
            doubt = Doubt()
            for estimate in self._video.propagate(far, order[::-1], memory):
                opposite[estimate.frame_index] = doubt.met(estimate), estimate.fusion_weight
                if cancelled():
                    return
        reached: set[int] = set()
        doubt = Doubt.along(state, _between(near, start))
        for estimate in self._video.propagate(start, order, memory):
            reached.add(estimate.frame_index)
            known, other = doubt.met(estimate), opposite.pop(estimate.frame_index, None)
            if estimate.frame_index in state.stale:
                if far is not None and other is not None:
                    known = _fused(estimate, known, near, far, *other)
                yield from self._board.put(estimate.frame_index, {state.object_id: known})
            if cancelled():
                return
        # What neither pass reached cannot be read; asking again in every later round would not help.
        state.stale -= set(gap) - reached


def _between(near: Anchor, start: Anchor) -> range:
    """The frames after a prompted frame up to where its way goes on."""
    step = 1 if start.frame_index >= near.frame_index else -1
    return range(near.frame_index + step, start.frame_index + step, step)


def _fused(estimate: Estimate, known: Known, near: Anchor, far: Anchor, other: Known, other_trust: float) -> Known:
    """One frame's prediction from the near side, fused with the one from the far side, which waited for it."""
    assert other.soft is not None
    probability = (1.0 / (1.0 + np.exp(-np.clip(estimate.logits, -20.0, 20.0)))).astype(np.float32)
    opposite = other.soft.probabilities()
    weight = fusion.linear_weight(estimate.frame_index, near.frame_index, far.frame_index)
    weight = fusion.trusted_weight(weight, estimate.fusion_weight, other_trust)
    fused = fusion.fuse(probability, opposite, weight)
    logits = np.log(np.clip(fused, 1e-4, 1 - 1e-4) / np.clip(1.0 - fused, 1e-4, 1.0)).astype(np.float32)
    score = weight * known.score + (1.0 - weight) * other.score
    return Known.found(logits, 1.0).scored(score, agreement(probability, opposite))


def _alternate(streams: Sequence[Iterator[FrameResult]]) -> Iterator[FrameResult]:
    """One result of every stream in turn until all have ended."""
    running = list(streams)
    while running:
        for stream in list(running):
            result = next(stream, None)
            if result is None:
                running.remove(stream)
            else:
                yield result
