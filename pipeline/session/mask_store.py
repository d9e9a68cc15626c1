"""The masks of all objects of one video; every pixel of a frame belongs to at most one object."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline import fusion
from pipeline.methods.base import Anchor, ObjectRound
from pipeline.prompting import merge_prompts, split_at_last_mask
from pipeline.session.object_state import (
    AffectedFrames,
    FrameMask,
    History,
    ObjectState,
    PromptsByFrame,
    prompts_by_frame,
)
from pipeline.types import BoolMask, FrameResult, PointPrompt, Prompt, RunLengthMask
from pipeline.uncertainty import object_uncertainties, objects_near
from pipeline.video.frames import FrameSource

_LEAST_CLAIM, _GREATEST_CLAIM = 0.51, 0.999
"""Probabilities of an object within its own mask, at least and at most."""

PROBABILITIES_MIB = 64.0
"""Bound of the probabilities behind the masks of one session; a frame of 854x480 has some 4 KiB of them per object."""
_CHECKS_PER_BOUND = 8
"""The bound is checked each time 1 / `_CHECKS_PER_BOUND` of it was added: each check visits all masks."""


class MaskStore:
    """The states of all objects of one video, shared by a session and its propagation.

    ``lock`` guards everything; methods acquire it themselves. Masks are kept as run lengths. At most
    ``probabilities_mib`` MiB of the probabilities behind them are kept; those of the oldest masks are dropped first.
    Where pixels are claimed by several objects, a mask without probabilities claims them with its score.
    """

    def __init__(self, frames: FrameSource, probabilities_mib: float = PROBABILITIES_MIB) -> None:
        self.frames = frames
        self.objects: dict[int, ObjectState] = {}
        self.lock = threading.RLock()
        self._histories: defaultdict[int, History] = defaultdict(History)
        self._limit_bytes, self._added_bytes = int(probabilities_mib * 2**20), 0

    def set_prompts(
        self, object_id: int, prompts: Sequence[Prompt], affected_frames: AffectedFrames
    ) -> tuple[list[FrameResult], bool]:
        """Give an object its complete current set of prompts, and mark the frames stale that this affects.

        Where prompts were taken away, and the others are those of an earlier round or include them, the masks of that
        round come back. The masks of an object without any prompt left become empty, and other objects get its pixels.

        Returns:
            The masks that changed by that alone, and whether the object went back to an earlier round: then everything
            that a method learned from the later rounds is void.
        """
        with self.lock:
            new = prompts_by_frame(prompts)
            state = self.objects.get(object_id)
            if state is None:
                if not new:
                    return [], False
                state = self.objects[object_id] = ObjectState(object_id)
            if state.prompts == new:
                return [], False
            changed = self._return_to_earlier(state, new)
            state.update_prompts(new, affected_frames, len(self.frames))
            if not new:
                return self._clear_masks(state), True
            results = [r for index in sorted(changed or ()) for r in self._resolved_results(index, {object_id})]
            return results, changed is not None

    def _return_to_earlier(self, state: ObjectState, new: PromptsByFrame) -> set[int] | None:
        """Go back to the earlier state nearest to the new prompts; the frames that changed, or None without one."""
        history = self._histories[state.object_id]
        history.remember(state)
        earlier = history.nearest(new)
        if earlier is None or earlier.prompts == state.prompts:
            return None
        return state.return_to(earlier)

    def _clear_masks(self, state: ObjectState) -> list[FrameResult]:
        empty = RunLengthMask.encode(np.zeros(self.frames.size_hw_px, np.bool_))
        mask = FrameMask(empty, empty, 1.0, prompted=False)
        return [r for index in sorted(state.masks) for r in self.add_masks(index, {state.object_id: mask})]

    def replace_object(self, state: ObjectState) -> None:
        """Take the state of an object from another session of this video; its history starts anew."""
        with self.lock:
            self.objects[state.object_id] = state.copy()
            self._histories.pop(state.object_id, None)

    def unfinished(self) -> list[ObjectState]:
        """The objects that have stale frames, by id."""
        with self.lock:
            return [state for _, state in sorted(self.objects.items()) if state.stale]

    def mark_finished(self, state: ObjectState, frame_indices: Collection[int]) -> None:
        """Mark frames as not stale, also without a mask: later rounds do not try unreadable frames again."""
        with self.lock:
            state.stale.difference_update(frame_indices)

    def anchors(self, state: ObjectState, *, clicks_only: bool = False) -> list[Anchor]:
        """The prompted frames of an object whose masks are up to date; ``clicks_only`` as in `merge_prompts`."""
        with self.lock:
            current = [frame for frame in sorted(state.prompts) if frame in state.masks and frame not in state.stale]
            return [
                Anchor(
                    frame,
                    state.masks[frame].raw.decode(),
                    merge_prompts(split_at_last_mask(state.prompts[frame])[1], clicks_only=clicks_only),
                )
                for frame in current
            ]

    def object_round(self, state: ObjectState, anchors: Sequence[Anchor]) -> ObjectRound:
        """The object's part of a round, as methods receive it."""

        def others(frame_index: int) -> dict[int, RunLengthMask]:
            with self.lock:
                masks = {i: s.masks.get(frame_index) for i, s in sorted(self.objects.items()) if i != state.object_id}
            return {object_id: mask.raw for object_id, mask in masks.items() if mask is not None}

        with self.lock:
            stale = frozenset(state.stale)
        return ObjectRound(state.object_id, state.round_index, tuple(anchors), stale, others)

    def add_masks(self, frame_index: int, masks: Mapping[int, FrameMask], *, final: bool = True) -> list[FrameResult]:
        """Keep new masks of one frame, by object id, and resolve their overlaps.

        Args:
            frame_index: the frame.
            masks: of objects that are in ``objects``.
            final: whether the frame is finished, so that it is stale no longer.

        Returns:
            The results of all objects whose mask on the frame changed, those in ``masks`` first.
        """
        with self.lock:
            for object_id, mask in masks.items():
                state = self.objects[object_id]
                state.masks[frame_index] = mask
                if final:
                    state.stale.discard(frame_index)
            self._update_uncertainties(frame_index, set(masks))
            self._added_bytes += sum(mask.soft_bytes for mask in masks.values())
            if self._added_bytes > self._limit_bytes / _CHECKS_PER_BOUND:
                self.limit_probabilities()
            return self._resolved_results(frame_index, set(masks))

    def _resolved_results(self, frame_index: int, new: set[int]) -> list[FrameResult]:
        changed = new | self._resolve_overlaps(frame_index)
        results = [self.objects[object_id].result(frame_index) for object_id in sorted(changed)]
        return sorted(results, key=lambda result: result.object_id not in new)

    def limit_probabilities(self) -> None:
        """Drop the oldest probabilities beyond the bound, from every object in proportion to what it has."""
        with self.lock:
            self._added_bytes = 0
            held = {i: sum(mask.soft_bytes for mask in state.masks.values()) for i, state in self.objects.items()}
            excess = 1.0 - self._limit_bytes * (1.0 - 1.0 / _CHECKS_PER_BOUND) / max(1, sum(held.values()))
            for object_id, state in self.objects.items():
                surplus = excess * held[object_id]
                for frame_index, mask in state.masks.items():
                    if surplus <= 0:
                        break
                    surplus -= mask.soft_bytes
                    state.masks[frame_index] = mask.without_probabilities()

    def on_frame(self, frame_index: int) -> dict[int, FrameMask]:
        """The masks of one frame by object id. The caller holds the lock."""
        return {i: state.masks[frame_index] for i, state in self.objects.items() if frame_index in state.masks}

    def _update_uncertainties(self, frame_index: int, new: set[int]) -> None:
        """Measure the uncertainty of objects with new masks, and of objects so near that theirs changes too."""
        soft = {i: mask.soft.small() for i, mask in self.on_frame(frame_index).items() if mask.soft is not None}
        for object_id, uncertainty in object_uncertainties(soft, objects_near(soft, new)).items():
            masks = self.objects[object_id].masks
            masks[frame_index] = replace(masks[frame_index], uncertainty=uncertainty)

    def _resolve_overlaps(self, frame_index: int) -> set[int]:
        """Give every pixel of a frame to one object; returns the objects whose resolved mask changed."""
        present = self.on_frame(frame_index)
        raw = {object_id: mask.raw for object_id, mask in present.items() if mask.raw.area_px}
        resolved: Mapping[int, RunLengthMask] = raw
        if _overlap(list(raw.values())):
            decoded = {object_id: mask.decode() for object_id, mask in raw.items()}
            prompted = {object_id for object_id in decoded if present[object_id].prompted}
            separate = fusion.resolve_overlaps(self._claims(frame_index, present, decoded), prompted)
            resolved = {object_id: RunLengthMask.encode(mask) for object_id, mask in separate.items()}
        changed = set()
        for object_id, mask in present.items():
            run_lengths = resolved.get(object_id, mask.raw)
            if run_lengths != mask.resolved:
                changed.add(object_id)
                self.objects[object_id].masks[frame_index] = replace(mask, resolved=run_lengths)
        return changed

    def _claims(
        self, frame_index: int, present: Mapping[int, FrameMask], raw: Mapping[int, BoolMask]
    ) -> dict[int, NDArray[np.float32]]:
        """How strongly each object claims each pixel, (H, W) float32 in [0, 1] by object id.

        Above a half within its raw mask, elsewhere 0; 1 in the parts that a person clicked.
        """
        any_prompted = any(present[object_id].prompted for object_id in raw)
        contested = np.asarray(np.sum(list(raw.values()), axis=0, dtype=np.uint8) > 1) if any_prompted else None
        claims = {}
        for object_id, inside in raw.items():
            mask = present[object_id]
            soft = mask.soft.probabilities() if mask.soft is not None else np.full(inside.shape, mask.score)
            claim = np.where(inside, np.clip(soft, _LEAST_CLAIM, _GREATEST_CLAIM), 0.0).astype(np.float32)
            if mask.prompted and contested is not None:
                for part in _clicked_parts(contested & inside, self.objects[object_id].prompts.get(frame_index, ())):
                    claim[part] = 1.0
            claims[object_id] = claim
        return claims

    def held_bytes(self) -> int:
        """Memory of all masks, also of earlier rounds, in bytes."""
        with self.lock:
            states, histories = self.objects.values(), self._histories.values()
            return sum(state.held_bytes for state in states) + sum(history.held_bytes for history in histories)


def _overlap(masks: list[RunLengthMask]) -> bool:
    """Whether two of the masks share a pixel; decided on the run lengths."""
    if len(masks) < 2:
        return False
    union = int(coco_mask.area(coco_mask.merge([mask.coco() for mask in masks])))
    return union < sum(mask.area_px for mask in masks)


def _clicked_parts(contested: BoolMask, prompts: Sequence[Prompt]) -> Iterator[BoolMask]:
    """The connected parts of the contested pixels in which a person clicked positively."""
    clicks = [prompt for prompt in prompts if isinstance(prompt, PointPrompt) and prompt.positive]
    if not clicks or not contested.any():
        return
    _, labels = cv2.connectedComponents(contested.astype(np.uint8))
    height_px, width_px = contested.shape
    clicked = {int(labels[min(int(c.y_px), height_px - 1), min(int(c.x_px), width_px - 1)]) for c in clicks}
    for label in sorted(clicked - {0}):
        yield labels == label
