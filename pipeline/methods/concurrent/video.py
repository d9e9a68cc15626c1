"""All objects of a video taken through it together: what `idpro` and, one object at a time, `civos` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from weakref import WeakSet

import numpy as np
import torch

from pipeline.embeddings.prefetch import EmbeddingPrefetcher
from pipeline.masks import saturated_logits
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.policies import MemoryPolicy
from pipeline.memory.policy_settings import build_policy
from pipeline.methods.base import Anchor, Estimate, Interaction, ObjectRound
from pipeline.methods.common.mask_flow import FlowFields, MaskFlow
from pipeline.methods.common.video_state import ObjectKnowledge, VideoState, digest
from pipeline.methods.concurrent.batch_decoder import BatchDecoder, LowResMask
from pipeline.methods.concurrent.interaction import PromptedFrames
from pipeline.methods.concurrent.memory import Asked, ConcurrentMemory, MemorySettings, PassMemory, Remembered
from pipeline.methods.concurrent.prompts import prompts_from
from pipeline.methods.concurrent.settings import ConcurrentSettings
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError


@dataclass(eq=False)
class PassState:
    """One object on its way from a frame: what was learnt of it, the mask to carry on, and its temporary memory."""

    object_id: int
    appearance: Any
    flow: MaskFlow
    memory: PassMemory
    uncertainty: float | None = None
    """Of the frame it came by last, for methods that look at it."""
    appearance_before: Any = None
    """What was known before that frame."""


@dataclass(frozen=True)
class Seen:
    """What a step made of one object: unless it is ``sure``, it is not remembered."""

    found: LowResMask
    estimate: Estimate
    sure: bool = True


class MemoryVideo:
    """See `pipeline.methods.base.ConcurrentVideo`. Not ``across_rounds``, each way only knows where it began."""

    def __init__(self, state: VideoState, settings: ConcurrentSettings, *, across_rounds: bool = True) -> None:
        s = settings
        self._state, self._settings, self._across_rounds = state, settings, across_rounds
        self._memory = ConcurrentMemory(state, MemorySettings(s.key_cells, s.read_frames, s.temperature, s.memory_mib))
        self._marks: dict[int, dict[int, bytes]] = {}
        self._fields = FlowFields(state.frames, s.flow_long_side_px)
        self._ahead: EmbeddingPrefetcher[Any] = EmbeddingPrefetcher(state.embedding, s.frames_ahead)
        self._ways: WeakSet[PassState] = WeakSet()
        self._decoder = BatchDecoder(state.segmenter, s.readout_weight, s.refinement_iterations)
        self._prompted = PromptedFrames(
            state, self._memory, BatchDecoder(state.segmenter, s.readout_weight, s.prompted_refinements)
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of the memory, of what the ways under way remember, and of the flows between the last frames."""
        remembered = [each for way in list(self._ways) for each in way.memory.readable.values()]
        keys = {id(each.keys): each.keys.nbytes for each in remembered}
        temporary = sum(keys.values()) + sum(each.value.nbytes for each in remembered)
        compared = sum(way.memory.policy.nbytes for way in list(self._ways))
        return self._memory.nbytes + self._fields.held_bytes + temporary + compared

    @property
    def policies(self) -> dict[int, MemoryPolicy]:
        """What decides about the memory of the ways under way, by object id."""
        return {way.object_id: way.memory.policy for way in list(self._ways)}

    def interact(
        self, interactions: Sequence[Interaction], known: Sequence[ObjectRound]
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """Segment prompted frames, see `PromptedFrames`."""
        return self._prompted.segment(interactions, known)

    def begin_round(self, tasks: Sequence[ObjectRound]) -> dict[int, Any]:
        """Take the prompted frames into the memory (IDPro, Eq. 7), and let the segmenter learn what it wants to.

        Returns:
            By object id what the segmenter learnt.
        """
        return {task.object_id: self._learn(task) for task in tasks}

    def prefetch(self, frame_indices: Sequence[int]) -> None:
        """Embed these frames ahead."""
        self._ahead.prefetch(frame_indices)

    def start_pass(self, object_id: int, anchor: Anchor, memory: Mapping[int, Any]) -> PassState:
        """Begin a way from a frame whose mask is known."""
        s = self._settings
        policy = build_policy(s.memory_policy, s.memory_slots, s.memory_similarity)
        pass_memory = PassMemory(s.last_frames, s.interval_frames, policy)
        way = PassState(object_id, memory[object_id], MaskFlow(self._fields), pass_memory)
        way.flow.start(anchor.frame_index, anchor.mask)
        # The prompted frames are in the memory, unless a way goes on from where another round was stopped.
        known = self._across_rounds and self._memory.holds(object_id, anchor.frame_index)
        try:
            embedding = None if known else self._state.embedding(anchor.frame_index)
            keys = self._memory.keys(anchor.frame_index, embedding)
            pass_memory.policy.pin(anchor.frame_index, self._compared(lambda: self._memory.coarse(keys), anchor.mask))
            if not known:
                pass_memory.begin(anchor.frame_index, Remembered(keys, self._memory.value(embedding, anchor.mask)))
        except FrameError:
            pass
        self._ways.add(way)
        return way

    def step(self, frame_index: int, ways: Sequence[PassState], memory: Any) -> list[Estimate]:  # noqa: ARG002
        """Segment one frame with one affinity and one batch of prompts, however many objects (IDPro, Eq. 8)."""
        return self.segment(frame_index, self._ahead.take(frame_index), ways)

    def segment(self, frame_index: int, embedding: Any, ways: Sequence[PassState]) -> list[Estimate]:
        """As `step`, of a frame whose embedding is at hand."""
        segmenter = self._state.segmenter
        keys = self._memory.keys(frame_index, embedding)
        carried = self._carried(frame_index, embedding, ways)
        asked = [
            Asked(way.object_id, mask, way.memory.readable, self._across_rounds)
            for way, mask in zip(ways, carried, strict=True)
        ]
        readouts = self._memory.read(frame_index, embedding, keys, asked)
        prompts = self._prompts(embedding, carried, readouts)
        appearance = [way.appearance for way in ways]
        found = self._decoder.run(embedding, prompts, carried, appearance, readouts)
        seen = self._look_at(frame_index, embedding, ways, found, readouts)
        coarse = cache(lambda: self._memory.coarse(keys))
        for way, each in zip(ways, seen, strict=True):
            mask: BoolMask = np.asarray(each.estimate.logits > 0)
            way.flow.start(frame_index, mask)
            way.appearance_before = way.appearance
            if each.sure:
                remembered = Remembered(keys, self._memory.value(embedding, mask))
                way.memory.add(frame_index, remembered, partial(self._compared, coarse, mask))
                way.appearance = segmenter.adapt(way.appearance, embedding, each.found.low_res_logits)
        return [each.estimate for each in seen]

    def continue_from(self, way: PassState, anchor: Anchor, memory: Mapping[int, Any] | None) -> None:
        """See `pipeline.methods.base.OnlineVideo.continue_from` (thesis, 6.4.5)."""
        way.flow.start(anchor.frame_index, anchor.mask)
        way.memory.discard(anchor.frame_index)
        if memory is None:
            segmenter, embedding = self._state.segmenter, self._state.embedding(anchor.frame_index)
            keys = self._memory.keys(anchor.frame_index, embedding)
            way.memory.begin(anchor.frame_index, Remembered(keys, self._memory.value(embedding, anchor.mask)))
            low_res_logits = segmenter.to_low_res(embedding, saturated_logits(anchor.mask))
            way.appearance = segmenter.adapt(way.appearance_before, embedding, low_res_logits)
            return
        if self._memory.holds(way.object_id, anchor.frame_index):
            keys = self._memory.keys(anchor.frame_index, None)
            way.memory.policy.pin(anchor.frame_index, self._compared(lambda: self._memory.coarse(keys), anchor.mask))
        way.appearance = memory[way.object_id]

    def relocate(self, frame_index: int, way: PassState, mask: BoolMask) -> Estimate:
        """See `pipeline.methods.base.OnlineVideo.relocate`."""
        found_first = way.uncertainty
        way.memory.discard(frame_index)
        way.flow.start(frame_index, mask)
        way.appearance, way.uncertainty = way.appearance_before, None
        (estimate,) = self.segment(frame_index, self._state.embedding(frame_index), [way])
        # The next frame is compared with what was found without a person's help (thesis, 6.4.4).
        way.uncertainty = found_first
        return estimate

    def release_frame(self, frame_index: int) -> None:
        """Drop a frame's embedding: nobody will ask for the frame again."""
        self._state.drop_embedding(frame_index)

    def forget(self, object_id: int) -> None:
        """Drop an object's memory and what the segmenter learnt of it."""
        self._state.objects.pop(object_id, None)
        self._marks.pop(object_id, None)
        self._memory.forget(object_id)

    def _look_at(
        self,
        frame_index: int,
        embedding: Any,
        ways: Sequence[PassState],  # noqa: ARG002 - for methods that look closer
        found: Sequence[LowResMask],
        readouts: Sequence[FloatMap],  # noqa: ARG002
    ) -> list[Seen]:
        """Judge what was found on a frame, one row per way, before it is remembered."""
        logits = [self._state.segmenter.to_full_size(embedding, each.low_res_logits) for each in found]
        return [Seen(each, Estimate(frame_index, full, each.score)) for each, full in zip(found, logits, strict=True)]

    def _compared(self, coarse_keys: Callable[[], torch.Tensor], mask: BoolMask) -> FrameKeys:
        """What memory policies compare of an object's mask (H, W); objects share the keys."""
        keys = coarse_keys()
        return FrameKeys(keys, self._memory.coarse_shares(mask).to(keys.device))

    def _learn(self, task: ObjectRound) -> Any:
        readable = []
        for anchor in task.anchors:
            try:
                self._remember(task.object_id, anchor)
            except FrameError:
                continue
            readable.append(anchor)
        kept = {anchor.frame_index for anchor in readable}
        self._memory.keep_only(task.object_id, sorted(kept))
        marks = self._marks.get(task.object_id, {})
        self._marks[task.object_id] = {frame: mark for frame, mark in marks.items() if frame in kept}
        known = self._state.objects.setdefault(task.object_id, ObjectKnowledge(None))
        return self._state.learn(known, readable)

    def _remember(self, object_id: int, anchor: Anchor) -> None:
        """Take a prompted frame into the memory, unless its mask is there already.

        Raises:
            FrameError: the frame cannot be read.
        """
        mark, marks = digest(anchor.mask), self._marks.setdefault(object_id, {})
        if self._memory.holds(object_id, anchor.frame_index) and marks.get(anchor.frame_index) == mark:
            return
        embedding = self._state.embedding(anchor.frame_index)
        if self._across_rounds:
            self._memory.store(anchor.frame_index, embedding, object_id, anchor.mask)
            marks[anchor.frame_index] = mark

    def _carried(self, frame_index: int, embedding: Any, ways: Sequence[PassState]) -> list[FloatMap | None]:
        """The ways' masks carried to a frame, logits (h, w)."""
        carried = [way.flow.to(frame_index) for way in ways]
        return [None if each is None else self._state.segmenter.to_low_res(embedding, each) for each in carried]

    def _prompts(
        self, embedding: Any, carried: Sequence[FloatMap | None], readouts: Sequence[FloatMap]
    ) -> list[ObjectPrompts]:
        grid, size_hw_px, s = self._memory.grid(embedding), self._state.frames.size_hw_px, self._settings
        expected = self._decoder.together(carried, readouts)
        return [
            prompts_from(each, grid, s.positive_points, s.negative_points, size_hw_px)
            for each in expected
            if each is not None
        ]
