"""Propagation of one object at a time, within the restricted ranges of its prompted frames (I-PT, III-C2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline import fusion
from pipeline.masks import iou, probabilities, saturated_logits
from pipeline.methods.base import Anchor, BatchedVideo, Estimate, PerObjectVideo, PropagationPass
from pipeline.prompting import merge_prompts, split_at_last_mask
from pipeline.session.mask_store import MaskStore
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.propagation import AccumulatedUncertainty, frames_around_changes, resume_point
from pipeline.types import FrameResult, RunLengthMask
from pipeline.video.frames import FrameError

T = TypeVar("T")

MET_IOU = 0.5
"""A pass has met the masks from the other side where it overlaps one of them by this."""
LOST_IOU = 0.2
"""A pass that has met them, and then overlaps them by so much less than at best, does not count any more."""
LEAST_OVERLAP = 0.05
"""Added to the overlaps of masks on neighbouring frames before they are compared: small, fast objects have none."""
SIDE_MARGIN = 0.05
"""How far from a half the probabilities of a known mask are at least, on the side that the mask says."""


class PerObjectPropagation:
    """A `pipeline.session.propagation.Propagation`.

    Prompted frames come first. The others follow outward from this round's interaction frames, nearest first and in
    both directions; each pass ends before the object's next prompted frame. Between two prompted frames a prediction is
    fused with the mask that the frame has from earlier rounds (I-PT, Eq. 1). Where both were prompted now, the passes
    from both are fused: these frames come twice.
    """

    affected_frames = staticmethod(frames_around_changes)

    def __init__(self, store: MaskStore, video: PerObjectVideo) -> None:
        self._store, self._video = store, video

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """See `Propagation.run`. A frame may come twice, when a second object claims pixels of it."""
        unfinished = self._store.unfinished()
        for state in unfinished:
            yield from self._segment_prompted_frames(state, cancelled)
        yield from self._propagate(unfinished, cancelled)

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

    def _propagate(self, states: Sequence[ObjectState], cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """Segment the stale frames between the objects' prompted ones."""
        gaps = [gap for state in states for gap in self._gaps(state)]
        passes = [(gap, gap_pass) for gap in gaps for gap_pass in gap.passes]
        if not passes or cancelled():
            return
        streams = self._streams([each.of_video for _, each in passes])
        for position, estimate in streams:
            gap, gap_pass = passes[position]
            mask = gap_pass.accumulated.next_mask(estimate)
            if estimate.frame_index in gap.state.stale:
                yield from self._arrived(gap, gap_pass, estimate, mask)
            if cancelled():
                return
        for gap in gaps:
            # Also the frames without a mask: they cannot be read.
            self._store.mark_finished(gap.state, gap.frame_indices)

    def _gaps(self, state: ObjectState) -> Iterator[_Gap]:
        """The stretches of frames between an object's prompted ones that have stale frames."""
        anchors = self._store.anchors(state, clicks_only=self._video.clicks_only)
        if not anchors:
            return
        memory = self._video.begin_round(self._store.object_round(state, anchors))
        bounds: list[Anchor | None] = [None, *anchors, None]
        for left, right in itertools.pairwise(bounds):
            low = 0 if left is None else left.frame_index + 1
            high = len(self._store.frames) if right is None else right.frame_index
            if state.stale & set(range(low, high)):
                yield _Gap.of(state, left, right, range(low, high), memory)

    def _streams(self, passes: Sequence[PropagationPass]) -> Iterator[tuple[int, Estimate]]:
        if isinstance(self._video, BatchedVideo):
            return self._video.propagate_together(passes)
        running = [self._video.propagate(each.anchor, each.frame_indices, each.memory) for each in passes]
        return _alternate([zip(itertools.repeat(n), stream) for n, stream in enumerate(running)])

    def _arrived(self, gap: _Gap, gap_pass: _GapPass, estimate: Estimate, mask: FrameMask) -> Iterator[FrameResult]:
        """Take the prediction of one pass for a stale frame."""
        frame_index, object_id = estimate.frame_index, gap.state.object_id
        far = gap.far_from(gap_pass.near)
        is_first_of_two = frame_index in gap.awaited_twice and frame_index not in gap.arrived
        other = None if is_first_of_two else gap.state.masks.get(frame_index)
        if far is not None and other is not None:
            mask = self._fused(estimate, mask, other, gap_pass, far)
        gap.arrived.add(frame_index)
        yield from self._store.add_masks(frame_index, {object_id: mask}, final=not is_first_of_two)

    def _fused(
        self, estimate: Estimate, mask: FrameMask, other: FrameMask, gap_pass: _GapPass, far: Anchor
    ) -> FrameMask:
        """The prediction of a frame from one side, fused with what is known from the other side (I-PT, Eq. 1)."""
        probability, other_probability = probabilities(estimate.logits), known_probabilities(other)
        agreed = agreement(probability, other_probability)
        trust = gap_pass.trust(mask.raw, other.raw, agreed)
        power = self._video.fusion_score_power
        weight = fusion.linear_weight(estimate.frame_index, gap_pass.near.frame_index, far.frame_index)
        weight = fusion.trusted_weight(weight, trust * mask.score**power, other.score**power)
        if weight <= 0.0:
            return other
        fused = fusion.fuse(probability, other_probability, weight)
        logits = np.log(np.clip(fused, 1e-4, 1 - 1e-4) / np.clip(1.0 - fused, 1e-4, 1.0)).astype(np.float32)
        score = weight * mask.score + (1.0 - weight) * other.score
        return FrameMask.from_logits(logits, 1.0).with_score(score, agreed)


@dataclass
class _GapPass:
    """A pass into a gap from one of its ends.

    Attributes:
        near: the prompted frame at this end.
        of_video: what the method runs, from ``near`` or from where an earlier round left the pass.
        accumulated: lowers the confidence along the pass.
        most_agreed: the greatest overlap with a mask from the other side so far, an IoU in [0, 1].
        steadiness: the least so far, in [0, 1], see `steadiness`.
        latest: this pass's and the other side's mask on the latest frame.
    """

    near: Anchor
    of_video: PropagationPass
    accumulated: AccumulatedUncertainty
    most_agreed: float = 0.0
    steadiness: float = 1.0
    latest: tuple[RunLengthMask, RunLengthMask] | None = None

    def trust(self, mask: RunLengthMask, other: RunLengthMask, agreed: float) -> float:
        """How much the pass counts on its next frame, in [0, 1]; 1 leaves I-PT's Eq. 1 as it is.

        Where both sides agree, both are right. Where they differ farther on, the pass has lost the object: the mask
        from the other side lies between two places where it was right. Before they agree, no one knows who is right;
        a pass whose masks jump from frame to frame where the others do not has lost the object, too.

        Args:
            mask: what the pass found on this frame.
            other: the mask from the other side.
            agreed: the overlap of both, an IoU in [0, 1].
        """
        if self.latest is not None:
            self.steadiness = min(self.steadiness, steadiness((self.latest[0], mask), (self.latest[1], other)))
        self.latest = mask, other
        self.most_agreed = max(self.most_agreed, agreed)
        lost = (self.most_agreed - agreed) / LOST_IOU if self.most_agreed >= MET_IOU else 0.0
        return self.steadiness * max(0.0, 1.0 - lost)

    @classmethod
    def of(cls, state: ObjectState, near: Anchor, frame_indices: range, memory: Any) -> _GapPass:
        """The rest of a pass through all frames of a gap, nearest first."""
        start, order = resume_point(state, near, frame_indices)
        n_needed = max((n for n, index in enumerate(order, start=1) if index in state.stale), default=0)
        accumulated = AccumulatedUncertainty.of_frames(state, _frames_up_to(near, start))
        return cls(near, PropagationPass(start, order[:n_needed], memory), accumulated)


@dataclass(frozen=True)
class _Gap:
    """The frames between two neighbouring prompted frames of an object, or between one and an end of the clip.

    Attributes:
        state: the object.
        left: the prompted frame before the gap; None at the beginning of the clip.
        right: the one after it; None at the end.
        frame_indices: the frames between them.
        passes: from the ends that the latest rounds prompted; from both where they prompted both or neither.
        awaited_twice: the frames that get a prediction from both ends.
        arrived: the frames that got one in this round.
    """

    state: ObjectState
    left: Anchor | None
    right: Anchor | None
    frame_indices: range
    passes: list[_GapPass]
    awaited_twice: frozenset[int]
    arrived: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, state: ObjectState, left: Anchor | None, right: Anchor | None, frames: range, memory: Any) -> _Gap:
        """The gap with the passes that this round needs."""
        ends = [(end, order) for end, order in ((left, frames), (right, frames[::-1])) if end is not None]
        new = [each for each in ends if each[0].frame_index in state.interaction_frames] or ends
        passes = [_GapPass.of(state, end, order, memory) for end, order in new]
        ranges = [set(each.of_video.frame_indices) for each in passes]
        twice = frozenset(set.intersection(*ranges)) if len(ranges) == 2 else frozenset[int]()
        return cls(state, left, right, frames, passes, twice)

    def far_from(self, near: Anchor) -> Anchor | None:
        """The end opposite to ``near``."""
        return self.right if near is self.left else self.left


def _frames_up_to(near: Anchor, start: Anchor) -> range:
    """The frames after a prompted frame, up to and with the frame where its pass continues."""
    step = 1 if start.frame_index >= near.frame_index else -1
    return range(near.frame_index + step, start.frame_index + step, step)


def steadiness(masks: tuple[RunLengthMask, RunLengthMask], others: tuple[RunLengthMask, RunLengthMask]) -> float:
    """How far a pass's masks on two neighbouring frames overlap, beside the other side's masks there, in [0, 1].

    A pass that finds nothing any more is steady: the object may have left.
    """
    if not masks[1].area_px:
        return 1.0
    own, other = (float(coco_mask.iou([one.coco()], [two.coco()], [0])[0, 0]) for one, two in (masks, others))
    return min(1.0, (own + LEAST_OVERLAP) / (other + LEAST_OVERLAP))


def known_probabilities(mask: FrameMask) -> NDArray[np.float32]:
    """The probabilities (H, W) float32 in [0, 1] behind a mask; above a half exactly inside it.

    They are kept small, see `SoftMask`: without the mask itself, its border would be blurred with every fusion.
    """
    inside = mask.raw.decode()
    if mask.soft is None:
        return probabilities(saturated_logits(inside))
    kept = mask.soft.probabilities()
    return np.where(inside, np.maximum(kept, 0.5 + SIDE_MARGIN), np.minimum(kept, 0.5 - SIDE_MARGIN))


def agreement(probability: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How far two passes agree on one frame: the intersection over union of their masks.

    Args:
        probability: (H, W) float32 in [0, 1], of one pass.
        other: (H, W) float32 in [0, 1], of the other.

    Returns:
        In [0, 1]; 1 where both masks are empty.
    """
    return iou(probability > 0.5, other > 0.5)


def _alternate(streams: Sequence[Iterator[T]]) -> Iterator[T]:
    """One item of every stream in turn until all have ended."""
    running = list(streams)
    while running:
        for stream in list(running):
            try:
                item = next(stream)
            except StopIteration:
                running.remove(stream)
            else:
                yield item
