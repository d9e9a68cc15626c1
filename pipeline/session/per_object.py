"""Propagation of one object at a time, within the restricted ranges of its prompted frames (I-PT, III-C2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import fusion
from pipeline.masks import probabilities, saturated_logits
from pipeline.methods.base import Anchor, Estimate, PerObjectVideo
from pipeline.prompting import merge_prompts, split_at_last_mask
from pipeline.session.mask_store import MaskStore
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.propagation import AccumulatedUncertainty, frames_around_changes, resume_point
from pipeline.types import FrameResult
from pipeline.video.frames import FrameError


class PerObjectPropagation:
    """A `pipeline.session.propagation.Propagation`.

    Prompted frames come first. The others follow outward from this round's interaction frames, nearest first and in
    both directions; each pass ends before the object's next prompted frame. Between two prompted frames the predictions
    of the passes from both are fused (I-PT, Eq. 1).
    """

    affected_frames = staticmethod(frames_around_changes)

    def __init__(self, store: MaskStore, video: PerObjectVideo) -> None:
        self._store, self._video = store, video

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """See `Propagation.run`. A frame may come twice, when a second object claims pixels of it."""
        unfinished = self._store.unfinished()
        for state in unfinished:
            yield from self._segment_prompted_frames(state, cancelled)
        yield from _alternate([self._propagate(state, cancelled) for state in unfinished])

    def _segment_prompted_frames(self, state: ObjectState, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        for frame_index in sorted(state.stale & set(state.prompts)):
            if cancelled():
                return
            try:
                mask = self._segment_prompted(state, frame_index)
            except FrameError:
                self._store.mark_finished(state, [frame_index])
                continue
            yield from self._store.add_masks(frame_index, {state.object_id: mask})

    def _segment_prompted(self, state: ObjectState, frame_index: int) -> FrameMask:
        """The mask of a prompted frame: the given one, or the method's answer to clicks and box.

        Raises:
            FrameError: the frame cannot be read.
        """
        self._store.frames.frame(frame_index)
        given, prompts = split_at_last_mask(state.prompts[frame_index])
        if given is not None and not prompts:
            return FrameMask.from_person(given)
        before = given or state.masks_before_prompts.get(frame_index)
        prior = saturated_logits(before.decode()) if before is not None and before.area_px else None
        anchors = self._store.anchors(state, clicks_only=self._video.clicks_only)
        others = [anchor for anchor in anchors if anchor.frame_index != frame_index and anchor.mask.any()]
        memory = self._video.begin_round(self._store.object_round(state, others))
        merged = merge_prompts(prompts, clicks_only=self._video.clicks_only)
        estimate = self._video.segment_prompted(frame_index, merged, prior=prior, memory=memory)
        return FrameMask.from_logits(estimate.logits, estimate.score, prompted=True)

    def _propagate(self, state: ObjectState, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """Segment an object's stale frames between its prompted ones, outward from the latest interaction frames."""
        anchors = self._store.anchors(state, clicks_only=self._video.clicks_only)
        if not anchors or cancelled():
            return
        memory = self._video.begin_round(self._store.object_round(state, anchors))
        bounds: list[Anchor | None] = [None, *anchors, None]
        gaps = []
        for left, right in itertools.pairwise(bounds):
            low = 0 if left is None else left.frame_index + 1
            high = len(self._store.frames) if right is None else right.frame_index
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
        """Segment the stale frames between two neighbouring prompted frames, or between one and an end of the clip.

        The pass from the far side runs first and is kept; the results come with the pass from the near side.
        """
        from_right = left is None or (right is not None and right.frame_index in state.interaction_frames)
        near, far = (right, left) if from_right else (left, right)
        assert near is not None
        start, order = resume_point(state, near, gap[::-1] if from_right else gap)
        from_far: dict[int, tuple[FrameMask, float]] = {}
        if far is not None:
            accumulated = AccumulatedUncertainty()
            for estimate in self._video.propagate(far, order[::-1], memory):
                from_far[estimate.frame_index] = accumulated.next_mask(estimate), estimate.fusion_weight
                if cancelled():
                    return
        reached: set[int] = set()
        accumulated = AccumulatedUncertainty.of_frames(state, _frames_up_to(near, start))
        for estimate in self._video.propagate(start, order, memory):
            reached.add(estimate.frame_index)
            mask, other = accumulated.next_mask(estimate), from_far.pop(estimate.frame_index, None)
            if estimate.frame_index in state.stale:
                if far is not None and other is not None:
                    mask = _fused(estimate, mask, near, far, *other)
                yield from self._store.add_masks(estimate.frame_index, {state.object_id: mask})
            if cancelled():
                return
        self._store.mark_finished(state, set(gap) - reached)


def _frames_up_to(near: Anchor, start: Anchor) -> range:
    """The frames after a prompted frame, up to and with the frame where its pass continues."""
    step = 1 if start.frame_index >= near.frame_index else -1
    return range(near.frame_index + step, start.frame_index + step, step)


def _fused(
    estimate: Estimate, mask: FrameMask, near: Anchor, far: Anchor, far_mask: FrameMask, far_fusion_weight: float
) -> FrameMask:
    """The prediction of one frame from the near side, fused with the one from the far side."""
    assert far_mask.soft is not None
    probability = probabilities(estimate.logits)
    far_probability = far_mask.soft.probabilities()
    weight = fusion.linear_weight(estimate.frame_index, near.frame_index, far.frame_index)
    weight = fusion.trusted_weight(weight, estimate.fusion_weight, far_fusion_weight)
    fused = fusion.fuse(probability, far_probability, weight)
    logits = np.log(np.clip(fused, 1e-4, 1 - 1e-4) / np.clip(1.0 - fused, 1e-4, 1.0)).astype(np.float32)
    score = weight * mask.score + (1.0 - weight) * far_mask.score
    return FrameMask.from_logits(logits, 1.0).with_score(score, agreement(probability, far_probability))


def agreement(probability: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How far two passes agree on one frame: the intersection over union of their masks.

    Args:
        probability: (H, W) float32 in [0, 1], of one pass.
        other: (H, W) float32 in [0, 1], of the other.

    Returns:
        In [0, 1]; 1 where both masks are empty.
    """
    one, two = probability > 0.5, other > 0.5
    union = int((one | two).sum())
    return float((one & two).sum() / union) if union else 1.0


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
