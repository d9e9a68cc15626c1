"""A video whose objects are found by reading a memory of frames: all together (IDPro), or one at a time (CiVOS)."""

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
from pipeline.memory.key_grid import KeyGrid
from pipeline.memory.policies import MemoryPolicy
from pipeline.memory.policy_settings import build_policy
from pipeline.methods.base import Anchor, Estimate, Interaction, ObjectRound
from pipeline.methods.common.expected_prompts import prompts_from
from pipeline.methods.common.mask_flow import FlowFields, MaskFlow
from pipeline.methods.common.search import CONTRADICTION, LOST_SCORE, Reappearance
from pipeline.methods.common.video_state import LearnedObject, VideoState, digest
from pipeline.methods.concurrent.batch_decoder import BatchDecoder, LowResMask
from pipeline.methods.concurrent.interaction import PromptedFrames
from pipeline.methods.concurrent.memory import MemoryItem, PassMemory, ReadRequest
from pipeline.methods.concurrent.settings import ConcurrentSettings, NewMemory, new_concurrent_memory
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError


@dataclass(eq=False)
class PassState:
    """One propagation pass of one object.

    Attributes:
        object_id: the object.
        appearance: what the segmenter learnt of it.
        flow: carries its latest mask to the next frame.
        memory: the temporary memory of the pass.
        uncertainty: of the latest frame, for methods that measure it.
        absent: whether the pass started where a person said that the object is not to be seen, and has not found it.
        previous_appearance: what the segmenter had learnt before the latest frame.
    """

    object_id: int
    appearance: Any
    flow: MaskFlow
    memory: PassMemory
    uncertainty: float | None = None
    absent: bool = False
    previous_appearance: Any = None


@dataclass(frozen=True)
class StepResult:
    """The mask that a step predicts for one object, and whether it is stored in the memory of the pass."""

    found: LowResMask
    estimate: Estimate
    remember: bool = True


class MemoryVideo:
    """See `pipeline.methods.base.OnlineVideo`.

    With ``across_rounds`` every frame reads all prompted frames of all rounds; otherwise a pass reads only what it
    remembers itself, first the frame from which it started.
    """

    def __init__(
        self,
        state: VideoState,
        settings: ConcurrentSettings,
        *,
        across_rounds: bool = True,
        new_memory: NewMemory = new_concurrent_memory,
    ) -> None:
        s = settings
        self._state, self._settings, self._across_rounds = state, settings, across_rounds
        self._memory = new_memory(state, settings)
        self._mask_digests: dict[int, dict[int, bytes]] = {}
        self._fields = FlowFields(state.frames, s.flow_long_side_px)
        self._prefetcher: EmbeddingPrefetcher[Any] = EmbeddingPrefetcher(state.embedding, s.frames_ahead)
        self._passes: WeakSet[PassState] = WeakSet()
        self._decoder = BatchDecoder(state.segmenter, s.readout_weight, s.refinement_iterations)
        self._prompted = PromptedFrames(
            state, self._memory, BatchDecoder(state.segmenter, s.readout_weight, s.prompted_refinements)
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of the memory, of what running passes remember, and of the optical flow between the latest frames."""
        remembered = [each for pass_ in list(self._passes) for each in pass_.memory.readable.values()]
        keys = {id(each.keys): each.keys.nbytes for each in remembered}
        temporary = sum(keys.values()) + sum(each.value.nbytes for each in remembered)
        compared = sum(pass_.memory.policy.nbytes for pass_ in list(self._passes))
        return self._memory.nbytes + self._fields.held_bytes + temporary + compared

    @property
    def policies(self) -> dict[int, MemoryPolicy]:
        """The memory policies of the running passes, by object id."""
        return {pass_.object_id: pass_.memory.policy for pass_ in list(self._passes)}

    def interact(
        self, interactions: Sequence[Interaction], known: Sequence[ObjectRound]
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """Segment prompted frames, see `PromptedFrames`."""
        return self._prompted.segment(interactions, known)

    def begin_round(self, tasks: Sequence[ObjectRound]) -> dict[int, Any]:
        """Store the prompted frames in the memory (IDPro, Eq. 7), and let the segmenter learn from them.

        Returns:
            By object id what the segmenter learnt.
        """
        return {task.object_id: self._learn(task) for task in tasks}

    def prefetch(self, frame_indices: Sequence[int]) -> None:
        """Embed these frames in the background."""
        self._prefetcher.prefetch(frame_indices)

    def start_pass(self, object_id: int, anchor: Anchor, memory: Mapping[int, Any]) -> PassState:
        """Start a pass from a frame whose mask is known."""
        s = self._settings
        policy = build_policy(s.memory_policy, s.memory_slots, s.memory_similarity)
        pass_memory = PassMemory(s.last_frames, s.interval_frames, policy)
        pass_ = PassState(object_id, memory[object_id], MaskFlow(self._fields), pass_memory)
        pass_.flow.start(anchor.frame_index, anchor.mask)
        pass_.absent = not anchor.mask.any()
        # Prompted frames are in the memory already. A pass that resumes a cancelled round starts from another frame.
        known = self._across_rounds and self._memory.holds(object_id, anchor.frame_index)
        try:
            embedding = None if known else self._state.embedding(anchor.frame_index)
            keys = self._memory.keys(anchor.frame_index, embedding)
            pass_memory.policy.pin(
                anchor.frame_index, self._policy_keys(lambda: self._memory.coarse(keys), anchor.mask)
            )
            if not known:
                pass_memory.begin(anchor.frame_index, MemoryItem(keys, self._memory.value(embedding, anchor.mask)))
        except FrameError:
            pass
        self._passes.add(pass_)
        return pass_

    def step(self, frame_index: int, passes: Sequence[PassState], memory: Any) -> list[Estimate]:  # noqa: ARG002
        """Segment one frame with one affinity and one batch of prompts, however many objects (IDPro, Eq. 8)."""
        return self.segment(frame_index, self._prefetcher.take(frame_index), passes)

    def segment(self, frame_index: int, embedding: Any, passes: Sequence[PassState]) -> list[Estimate]:
        """As `step`, with the frame's embedding given."""
        segmenter = self._state.segmenter
        keys = self._memory.keys(frame_index, embedding)
        carried = self._carried(frame_index, embedding, passes)
        requests = [
            ReadRequest(pass_.object_id, mask, pass_.memory.readable, self._across_rounds)
            for pass_, mask in zip(passes, carried, strict=True)
        ]
        readouts = self._memory.read(frame_index, embedding, keys, requests)
        grid = self._memory.grid(embedding)
        judges = [
            Reappearance(self._memory.looks(frame_index, request), keys, grid)
            if request.mask is None and (self._settings.find_lost or pass_.absent)
            else None
            for pass_, request in zip(passes, requests, strict=True)
        ]
        prompts = self._prompts(grid, carried, readouts, judges)
        appearance = [pass_.appearance for pass_ in passes]
        found = self._decoder.run(embedding, prompts, carried, appearance, readouts)
        rows = zip(passes, found, readouts, judges, strict=True)
        found = [self._checked(pass_, each, readout, judge) for pass_, each, readout, judge in rows]
        results = self._judge(frame_index, embedding, passes, found, readouts)
        coarse = cache(lambda: self._memory.coarse(keys))
        for pass_, each in zip(passes, results, strict=True):
            mask: BoolMask = np.asarray(each.estimate.logits > 0)
            pass_.flow.start(frame_index, mask)
            pass_.absent = pass_.absent and not mask.any()
            pass_.previous_appearance = pass_.appearance
            if each.remember:
                remembered = MemoryItem(keys, self._memory.value(embedding, mask))
                pass_.memory.add(frame_index, remembered, partial(self._policy_keys, coarse, mask))
                pass_.appearance = segmenter.adapt(pass_.appearance, embedding, each.found.low_res_logits)
        return [each.estimate for each in results]

    def continue_from(self, pass_: PassState, anchor: Anchor, memory: Mapping[int, Any] | None) -> None:
        """See `pipeline.methods.base.OnlineVideo.continue_from` (thesis, 6.4.5)."""
        pass_.flow.start(anchor.frame_index, anchor.mask)
        pass_.absent = not anchor.mask.any()
        pass_.memory.discard(anchor.frame_index)
        if memory is None:
            segmenter, embedding = self._state.segmenter, self._state.embedding(anchor.frame_index)
            keys = self._memory.keys(anchor.frame_index, embedding)
            pass_.memory.begin(anchor.frame_index, MemoryItem(keys, self._memory.value(embedding, anchor.mask)))
            low_res_logits = segmenter.to_low_res(embedding, saturated_logits(anchor.mask))
            pass_.appearance = segmenter.adapt(pass_.previous_appearance, embedding, low_res_logits)
            return
        if self._memory.holds(pass_.object_id, anchor.frame_index):
            keys = self._memory.keys(anchor.frame_index, None)
            pass_.memory.policy.pin(
                anchor.frame_index, self._policy_keys(lambda: self._memory.coarse(keys), anchor.mask)
            )
        pass_.appearance = memory[pass_.object_id]

    def relocate(self, frame_index: int, pass_: PassState, mask: BoolMask) -> Estimate:
        """See `pipeline.methods.base.OnlineVideo.relocate`."""
        uncertainty_before_help = pass_.uncertainty
        pass_.memory.discard(frame_index)
        pass_.flow.start(frame_index, mask)
        pass_.appearance, pass_.uncertainty = pass_.previous_appearance, None
        (estimate,) = self.segment(frame_index, self._state.embedding(frame_index), [pass_])
        # The next frame is compared with the uncertainty before a person helped (thesis, 6.4.4).
        pass_.uncertainty = uncertainty_before_help
        return estimate

    def release_frame(self, frame_index: int) -> None:
        """Drop the embedding of a frame that will not be used again."""
        self._state.drop_embedding(frame_index)

    def forget(self, object_id: int) -> None:
        """Drop an object's memory and what the segmenter learnt of it."""
        self._state.objects.pop(object_id, None)
        self._mask_digests.pop(object_id, None)
        self._memory.forget(object_id)

    def _judge(
        self,
        frame_index: int,
        embedding: Any,
        passes: Sequence[PassState],  # noqa: ARG002 - for subclasses
        found: Sequence[LowResMask],
        readouts: Sequence[FloatMap],  # noqa: ARG002
    ) -> list[StepResult]:
        """Estimates of what was found on a frame, one per pass, and whether each enters the memory."""
        logits = [self._state.segmenter.to_full_size(embedding, each.low_res_logits) for each in found]
        return [
            StepResult(each, Estimate(frame_index, full, each.score)) for each, full in zip(found, logits, strict=True)
        ]

    def _policy_keys(self, coarse_keys: Callable[[], torch.Tensor], mask: BoolMask) -> FrameKeys:
        """What memory policies compare of an object's mask (H, W); all objects share the keys."""
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
        digests = self._mask_digests.get(task.object_id, {})
        self._mask_digests[task.object_id] = {frame: each for frame, each in digests.items() if frame in kept}
        known = self._state.objects.setdefault(task.object_id, LearnedObject(None))
        return self._state.learn(known, readable)

    def _remember(self, object_id: int, anchor: Anchor) -> None:
        """Store a prompted frame in the memory, unless its mask is there already.

        Raises:
            FrameError: the frame cannot be read.
        """
        mask_digest, digests = digest(anchor.mask), self._mask_digests.setdefault(object_id, {})
        if self._memory.holds(object_id, anchor.frame_index) and digests.get(anchor.frame_index) == mask_digest:
            return
        embedding = self._state.embedding(anchor.frame_index)
        if self._across_rounds:
            self._memory.store(anchor.frame_index, embedding, object_id, anchor.mask)
            digests[anchor.frame_index] = mask_digest

    def _carried(self, frame_index: int, embedding: Any, passes: Sequence[PassState]) -> list[FloatMap | None]:
        """The latest mask of each pass carried to a frame, logits (h, w)."""
        carried = [pass_.flow.to(frame_index) for pass_ in passes]
        return [None if each is None else self._state.segmenter.to_low_res(embedding, each) for each in carried]

    def _prompts(
        self,
        grid: KeyGrid,
        carried: Sequence[FloatMap | None],
        readouts: Sequence[FloatMap],
        judges: Sequence[Reappearance | None],
    ) -> list[ObjectPrompts]:
        size_hw_px, s = self._state.frames.size_hw_px, self._settings
        prompts = []
        for expected, judge in zip(self._decoder.combine(carried, readouts), judges, strict=True):
            if expected is None or (judge is not None and not judge.is_worth_asking(expected)):
                prompts.append(ObjectPrompts(tracked=True))
            else:
                prompts.append(prompts_from(expected, grid, s.positive_points, s.negative_points, size_hw_px))
        return prompts

    def _checked(
        self, pass_: PassState, found: LowResMask, readout: FloatMap, judge: Reappearance | None
    ) -> LowResMask:
        """The mask, or an empty one where the memory contradicts it.

        Where nothing was carried to the frame, the object was lost, and a mask must surely show it. A segmenter with a
        mask prior has its own search, which is trusted unless a person said that the object is not there.
        """
        searches_itself = self._state.segmenter.uses_mask_prior
        mask = np.asarray(found.low_res_logits > 0)
        if judge is None:
            checks = self._settings.find_lost and not searches_itself
            contradicted = checks and mask.any() and float(readout[mask].mean()) < CONTRADICTION
            return found.without_object(LOST_SCORE) if contradicted else found
        if searches_itself and not pass_.absent:
            return found
        support = judge.support(mask)
        if mask.any() and judge.recognises(mask):
            return LowResMask(found.low_res_logits, min(found.score, support))
        return found.without_object(1.0 if pass_.absent else LOST_SCORE * (1.0 - support))
