"""Rounds of interaction over one video: prompts in, masks of every frame out, better with every correction."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline import fusion
from pipeline.methods.base import Anchor, Estimate, Method, ObjectRound
from pipeline.object_state import Known, ObjectState, check_prompts, given_mask, merge_prompts
from pipeline.recent_frames import RecentFrames
from pipeline.soft_masks import SoftMask
from pipeline.types import BoolMask, FrameResult, Prompt, RunLengthMask
from pipeline.video import FrameError, FrameSource

_LOCK_POLL_S = 0.05


def _never() -> bool:
    return False


class Session:
    """The state of one video. Rounds exclude each other; `results` and the like may be called meanwhile by any thread.

    A prompted frame's mask changes only through prompts on that frame. Everything kept is compressed: run lengths and a
    few KiB of probabilities per object and frame.
    """

    def __init__(self, frames: FrameSource, method: Method) -> None:
        self._frames = RecentFrames(frames)
        self._video = method.open(self._frames)
        self._objects: dict[int, ObjectState] = {}
        self._round_lock = threading.Lock()
        self._state_lock = threading.RLock()

    @property
    def frame_errors(self) -> Mapping[int, str]:
        """Reasons by index of the frames that could not be read; they have no mask, the others do."""
        return MappingProxyType(self._frames.errors)

    def object_ids(self) -> tuple[int, ...]:
        """All objects that have or had prompts."""
        with self._state_lock:
            return tuple(sorted(self._objects))

    def prompts(self, object_id: int) -> tuple[Prompt, ...]:
        """The prompts of an object by frame; empty for an unknown object."""
        with self._state_lock:
            state = self._objects.get(object_id)
            return () if state is None else tuple(p for _, given in sorted(state.prompts.items()) for p in given)

    def results(self, object_id: int) -> tuple[FrameResult, ...]:
        """What is known of an object now, by frame; empty for an unknown object."""
        with self._state_lock:
            state = self._objects.get(object_id)
            return () if state is None else tuple(state.result(frame_index) for frame_index in sorted(state.known))

    @property
    def held_bytes(self) -> int:
        """Memory this session holds beside the shared embeddings, in bytes: masks and recently read frames."""
        with self._state_lock:
            masks = sum(known.held_bytes for state in self._objects.values() for known in state.known.values())
        return masks + self._frames.held_bytes + self._video.held_bytes

    def stale_frames(self, object_id: int) -> tuple[int, ...]:
        """Frames of an object that a cancelled round left unfinished."""
        with self._state_lock:
            state = self._objects.get(object_id)
            return () if state is None else tuple(sorted(state.stale))

    def restore(
        self, prompts: Sequence[Prompt], results: Iterable[FrameResult], *, unreadable: Collection[int] = ()
    ) -> None:
        """Go on where another session of this video stopped: the next `run_round` segments only what is missing.

        Prompted frames are segmented again, so that the object is learned from the same masks as before; beyond them
        propagation starts from the restored masks.

        Args:
            prompts: all of the other session's prompts, to be given to `run_round` too.
            results: masks it produced; those of prompted frames are ignored.
            unreadable: frames it could not read; they are not tried again.

        Raises:
            ValueError: a prompt is outside the clip or the image, or a result is of an object without prompts.
            FrameError: no frame of the video can be read.
        """
        check_prompts(prompts, len(self._frames), self._frames.size_hw_px)
        results, object_ids = tuple(results), {prompt.object_id for prompt in prompts}
        strangers = sorted({result.object_id for result in results} - object_ids)
        if strangers:
            raise ValueError(
                f"masks of objects {strangers} arrived, but the prompts are of objects {sorted(object_ids)}"
            )
        with self._round_lock, self._state_lock:
            self._take_prompts(tuple(prompts), tuple(sorted(object_ids)))
            for object_id in object_ids:
                state = self._objects[object_id]
                state.stale -= set(unreadable) - set(state.prompts)
            for result in results:
                state = self._objects[result.object_id]
                if result.frame_index not in state.prompts:
                    state.known[result.frame_index] = Known(result.mask, result.mask, result.score, False)
                    state.stale.discard(result.frame_index)

    def run_round(
        self, prompts: Sequence[Prompt], *, object_ids: Collection[int], cancelled: Callable[[], bool] = _never
    ) -> Iterator[FrameResult]:
        """Take the current prompts of some objects and segment what they change.

        Prompted frames come first, then the others outward from this round's interaction frames, nearest first and
        both ways, each side ending before the nearest other prompted frame of the object (I-PT, III-C2). Between two
        prompted frames the predictions from both are fused (I-PT, Eq. 1). A frame may come twice when a second object
        claims pixels. The round begins with the first ``next``; a round that is dropped half-way leaves stale frames.

        Args:
            prompts: the complete current set of prompts of every object in ``object_ids``.
            object_ids: the objects whose prompts these are; other objects keep theirs.
            cancelled: asked between frames; when true the round stops and the rest stays stale for a later round.

        Raises:
            ValueError: a prompt is outside the clip or the image, or of an object not in ``object_ids``.
            FrameError: no frame of the video can be read.
        """
        strangers = sorted({prompt.object_id for prompt in prompts} - set(object_ids))
        if strangers:
            raise ValueError(
                f"prompts of objects {strangers} arrived, but this round is of objects {sorted(object_ids)}"
            )
        check_prompts(prompts, len(self._frames), self._frames.size_hw_px)
        return self._round(tuple(prompts), tuple(sorted(set(object_ids))), cancelled)

    def _round(
        self, prompts: tuple[Prompt, ...], object_ids: tuple[int, ...], cancelled: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        while not self._round_lock.acquire(timeout=_LOCK_POLL_S):
            if cancelled():
                return
        try:
            removed = self._take_prompts(prompts, object_ids)
            for state in removed:
                yield from self._empty(state)
            with self._state_lock:
                waiting = [state for state in self._objects.values() if state.stale]
            for state in waiting:
                yield from self._segment_prompted_frames(state, cancelled)
            yield from _alternate([self._propagate(state, cancelled) for state in waiting])
        finally:
            self._round_lock.release()

    def _take_prompts(self, prompts: tuple[Prompt, ...], object_ids: tuple[int, ...]) -> list[ObjectState]:
        """Update the prompts; returns the objects that lost all of theirs."""
        removed = []
        with self._state_lock:
            for object_id in object_ids:
                given = [prompt for prompt in prompts if prompt.object_id == object_id]
                state = self._objects.get(object_id)
                if state is None:
                    if not given:
                        continue
                    state = self._objects[object_id] = ObjectState(object_id, len(self._frames))
                if state.update_prompts(given) and not given:
                    removed.append(state)
        return removed

    def _empty(self, state: ObjectState) -> Iterator[FrameResult]:
        """Give an object without prompts empty masks, and its pixels back to the others."""
        empty = RunLengthMask.encode(np.zeros(self._frames.size_hw_px, np.bool_))
        for frame_index in sorted(state.known):
            yield from self._store(state, frame_index, Known(empty, empty, 1.0, False))

    def _segment_prompted_frames(self, state: ObjectState, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        for frame_index in sorted(state.stale & set(state.prompts)):
            if cancelled():
                return
            try:
                known = self._segment_prompted(state, frame_index)
            except FrameError:
                state.stale.discard(frame_index)
                continue
            yield from self._store(state, frame_index, known)

    def _segment_prompted(self, state: ObjectState, frame_index: int) -> Known:
        """The mask of a prompted frame: the given one, or the segmenter's answer to clicks and box.

        Raises:
            FrameError: the frame cannot be read.
        """
        self._frames.frame(frame_index)
        prompts = state.prompts[frame_index]
        merged = merge_prompts(prompts)
        truth = given_mask(prompts)
        if truth is not None and not len(merged.points_xy_px) and merged.box_xyxy_px is None:
            return Known(truth, truth, 1.0, True)
        before = truth or state.before_prompts.get(frame_index)
        prior = None
        if before is not None and before.area_px:
            prior = np.where(before.decode(), 4.0, -4.0).astype(np.float32)
        anchors = [anchor for anchor in self._anchors(state) if anchor.frame_index != frame_index and anchor.mask.any()]
        memory = self._video.begin_round(self._object_round(state, anchors))
        estimate = self._video.segment_prompted(frame_index, merged, prior=prior, memory=memory)
        mask = RunLengthMask.encode(np.asarray(estimate.logits > 0))
        return Known(mask, mask, estimate.score, True, SoftMask.pack(estimate.logits))

    def _anchors(self, state: ObjectState) -> list[Anchor]:
        """The prompted frames whose masks are up to date."""
        with self._state_lock:
            done = [frame for frame in sorted(state.prompts) if frame in state.known and frame not in state.stale]
            return [
                Anchor(frame, state.known[frame].own.decode(), merge_prompts(state.prompts[frame])) for frame in done
            ]

    def _object_round(self, state: ObjectState, anchors: Sequence[Anchor]) -> ObjectRound:
        def others(frame_index: int) -> list[BoolMask]:
            with self._state_lock:
                present = [s.known.get(frame_index) for i, s in sorted(self._objects.items()) if i != state.object_id]
            return [known.own.decode() for known in present if known is not None]

        return ObjectRound(state.object_id, state.round_index, tuple(anchors), frozenset(state.stale), others)

    def _propagate(self, state: ObjectState, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """Segment an object's stale frames between its prompted ones, outward from the latest interaction frames."""
        anchors = self._anchors(state)
        if not anchors or cancelled():
            return
        memory = self._video.begin_round(self._object_round(state, anchors))
        bounds: list[Anchor | None] = [None, *anchors, None]
        gaps = []
        for left, right in itertools.pairwise(bounds):
            low = 0 if left is None else left.frame_index + 1
            high = len(self._frames) if right is None else right.frame_index
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
        start, order = _where_left_off(state, near, gap[::-1] if from_right else gap)
        opposite: dict[int, _Opposite] = {}
        if far is not None:
            for estimate in self._video.propagate(far, order[::-1], memory):
                opposite[estimate.frame_index] = _Opposite(
                    SoftMask.pack(estimate.logits), estimate.score, estimate.trust
                )
                if cancelled():
                    return
        reached: set[int] = set()
        for estimate in self._video.propagate(start, order, memory):
            reached.add(estimate.frame_index)
            other = opposite.pop(estimate.frame_index, None)
            if estimate.frame_index in state.stale:
                yield from self._store(state, estimate.frame_index, _fused(estimate, near, far, other))
            if cancelled():
                return
        # What neither pass reached cannot be read; asking again in every later round would not help.
        state.stale -= set(gap) - reached

    def _store(self, state: ObjectState, frame_index: int, known: Known) -> Iterator[FrameResult]:
        """Keep a frame's mask, settle who owns which pixel there, and report every object that changed."""
        with self._state_lock:
            state.known[frame_index] = known
            state.stale.discard(frame_index)
            changed = {state.object_id} | self._settle(frame_index)
            results = [self._objects[object_id].result(frame_index) for object_id in sorted(changed)]
        yield from sorted(results, key=lambda result: result.object_id != state.object_id)

    def _settle(self, frame_index: int) -> set[int]:
        """Give every pixel of a frame one owner; returns the objects whose shown mask changed."""
        present = {i: s.known[frame_index] for i, s in self._objects.items() if frame_index in s.known}
        own = {object_id: known.own.decode() for object_id, known in present.items() if known.own.area_px}
        contested = np.zeros(self._frames.size_hw_px, np.uint8)
        for mask in own.values():
            contested += mask
        prompted = {object_id: mask for object_id, mask in own.items() if present[object_id].prompted}
        shown: dict[int, BoolMask] = dict(own)
        if (contested > 1).any():
            claims = {i: _claim(present[i], mask) for i, mask in own.items() if i not in prompted}
            shown.update(fusion.one_owner(claims, prompted))
        changed = set()
        for object_id, known in present.items():
            encoded = RunLengthMask.encode(shown[object_id]) if object_id in shown else known.own
            if encoded != known.shown:
                changed.add(object_id)
                self._objects[object_id].known[frame_index] = Known(
                    known.own, encoded, known.score, known.prompted, known.soft
                )
        return changed


def _where_left_off(state: ObjectState, near: Anchor, order: range) -> tuple[Anchor, range]:
    """Where a gap that a stopped round began goes on: its last mask that shows the object, and the frames after it."""
    n_done = next((n for n, frame_index in enumerate(order) if frame_index in state.stale), len(order))
    for n in reversed(range(n_done)):
        known = state.known.get(order[n])
        if known is not None and known.own.area_px:
            return Anchor(order[n], known.own.decode()), order[n + 1 :]
    return near, order


def _claim(known: Known, mask: BoolMask) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Probabilities of a propagated object that agree with its mask: above a half inside, nothing outside."""
    soft = known.soft.probabilities() if known.soft is not None else np.full(mask.shape, known.score, np.float32)
    return np.where(mask, np.clip(soft, 0.51, 1.0), 0.0).astype(np.float32)


@dataclass(frozen=True)
class _Opposite:
    """What the pass from the far side said of a frame, kept until the near side comes by."""

    soft: SoftMask
    score: float
    trust: float


def _fused(estimate: Estimate, near: Anchor, far: Anchor | None, other: _Opposite | None) -> Known:
    """One frame's prediction, fused with the opposite one where there is one."""
    if far is None or other is None:
        mask = RunLengthMask.encode(np.asarray(estimate.logits > 0))
        return Known(mask, mask, estimate.score, False, SoftMask.pack(estimate.logits))
    probability = 1.0 / (1.0 + np.exp(-np.clip(estimate.logits, -20.0, 20.0)))
    weight = fusion.linear_weight(estimate.frame_index, near.frame_index, far.frame_index)
    weight = fusion.trusted_weight(weight, estimate.trust, other.trust)
    fused = fusion.fuse(probability.astype(np.float32), other.soft.probabilities(), weight)
    mask = RunLengthMask.encode(np.asarray(fused > 0.5))
    logits = np.log(np.clip(fused, 1e-4, 1 - 1e-4) / np.clip(1.0 - fused, 1e-4, 1.0)).astype(np.float32)
    return Known(mask, mask, weight * estimate.score + (1.0 - weight) * other.score, False, SoftMask.pack(logits))


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
