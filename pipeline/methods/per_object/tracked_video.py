"""A video in which tracked points and boxes prompt the segmenter on every frame: what I-PT and SAM-PT share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.masks import saturated_logits
from pipeline.memory.bank import MemoryBank
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.key_grid import KeyGrid
from pipeline.memory.policies import POLICY_CELLS, MemoryPolicy
from pipeline.methods.base import Anchor, Estimate, ObjectRound, PropagationPass
from pipeline.methods.common.decoding import Decoded, Decoder, DecodeRequest, ObjectMemory
from pipeline.methods.common.mask_flow import FlowFields
from pipeline.methods.common.search import ObjectSearch
from pipeline.methods.common.video_state import LearnedObject, VideoState, digest
from pipeline.methods.per_object.absence import Absence
from pipeline.methods.per_object.prompt_tracking import PromptTracker, against_each_other
from pipeline.methods.per_object.restarts import RestartSettings
from pipeline.methods.per_object.tracked_pass import Answer, DecodeNeed, Need, RestartNeed, TrackedPass, TrackNeed
from pipeline.methods.per_object.turns import take_turns
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.trackers.frames import ReducedFrames
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError


class TrackedVideo:
    """See `pipeline.methods.base.PerObjectVideo`."""

    clicks_only = False

    def __init__(
        self,
        state: VideoState,
        tracker: PromptTracker,
        decoder: Decoder,
        restart: RestartSettings,
        flow_long_side_px: int,
        fusion_score_power: float = 0.0,
        search: ObjectSearch | None = None,
    ) -> None:
        self._state, self._tracker, self._decoder = state, tracker, decoder
        self._restart, self._absence = restart, Absence(decoder, search)
        self.fusion_score_power = fusion_score_power
        self._frames = ReducedFrames(state.frames)
        self._fields = FlowFields(self._frames, flow_long_side_px)
        self._grid: KeyGrid | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of the objects' memories, their policies and their search, and of reduced frames and optical flow."""
        policies = sum(policy.nbytes for policy in self.policies.values())
        frames = self._frames.held_bytes + self._fields.held_bytes
        return self._state.held_bytes + policies + frames + self._absence.held_bytes

    @property
    def policies(self) -> dict[int, MemoryPolicy]:
        """The policies of the objects' memories, by object id."""
        banks = {object_id: known.bank for object_id, known in list(self._state.objects.items())}
        return {each: bank.policy for each, bank in banks.items() if bank is not None and bank.policy is not None}

    def forget(self, object_id: int) -> None:
        """Drop an object's memory and what the segmenter learnt of it."""
        self._state.objects.pop(object_id, None)
        self._absence.forget(object_id)

    def begin_round(self, task: ObjectRound) -> ObjectMemory:
        """Update the memory (I-PT, III-D2): clear the range of the round, then store the prompted frames."""
        crstm = self._decoder.crstm
        known = self._state.objects.get(task.object_id)
        if known is None:
            bank = crstm.bank() if crstm is not None else None
            known = self._state.objects[task.object_id] = LearnedObject(bank)
        memory = ObjectMemory(self._state.learn(known, task.anchors), known.bank, len(task.anchors), task.object_id)
        self._absence.remember(task.object_id, task.anchors)
        if known.bank is not None:
            prompted = {anchor.frame_index for anchor in task.anchors}
            for frame_index in set(known.digests_in_bank) - prompted:
                known.bank.forget(frame_index)
                del known.digests_in_bank[frame_index]
            known.bank.clear(task.frame_indices)
            for anchor in task.anchors:
                self._remember_anchor(known, known.bank, anchor, memory)
        return memory

    def _remember_anchor(self, known: LearnedObject, bank: MemoryBank, anchor: Anchor, memory: ObjectMemory) -> None:
        mask_digest = digest(anchor.mask)
        if known.digests_in_bank.get(anchor.frame_index) == mask_digest:
            return
        if not anchor.mask.any():
            bank.forget(anchor.frame_index)
            known.digests_in_bank[anchor.frame_index] = mask_digest
            return
        embedding = self._state.embedding(anchor.frame_index)
        mask = self._state.low_res(anchor.frame_index, saturated_logits(anchor.mask))
        prompts = self._tracker.prompts_at(self._frames, anchor)
        query = self._decoder.query(embedding, prompts, memory, mask)
        bank.pin(anchor.frame_index, self._policy_keys(embedding, anchor.mask))
        bank.store(anchor.frame_index, self._state.segmenter.memorise(embedding, query, mask), interaction=True)
        known.digests_in_bank[anchor.frame_index] = mask_digest

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: ObjectMemory | None
    ) -> Estimate:
        """Segment one frame from a person's prompts."""
        memory = memory or ObjectMemory.nothing()
        embedding = self._state.embedding(frame_index)
        low_res = None if prior is None else self._state.low_res(frame_index, prior)
        decoded = self._decoder.decode_prompted(embedding, prompts, memory, low_res)
        return self._estimate(frame_index, decoded)

    def propagate(self, anchor: Anchor, frame_indices: range, memory: ObjectMemory) -> Iterator[Estimate]:
        """Segment frame by frame; the trackers restart from a predicted mask as `RestartSettings` says."""
        for _, estimate in self.propagate_together([PropagationPass(anchor, frame_indices, memory)]):
            yield estimate

    def propagate_together(self, passes: Sequence[PropagationPass]) -> Iterator[tuple[int, Estimate]]:
        """Several passes in turn; see `pipeline.methods.base.BatchedVideo`.

        Passes whose next frame is the same are tracked and decoded together. What that changes is time alone, except
        for ``similar_area_together`` of `RestartSettings`, and for point trackers whose points influence each other.
        """
        steps = [TrackedPass(each, self._state, self._fields, self._restart, self._finished).run() for each in passes]
        yield from take_turns(passes, steps, self._answers)

    def _answers(self, needs: Sequence[Need]) -> Sequence[Answer]:
        """What passes need for one frame; all needs are of one kind."""
        if isinstance(needs[0], TrackNeed):
            return self._tracked([need for need in needs if isinstance(need, TrackNeed)])
        if isinstance(needs[0], RestartNeed):
            return self._restarts([need for need in needs if isinstance(need, RestartNeed)])
        return self._decoded([need for need in needs if isinstance(need, DecodeNeed)])

    def _tracked(self, needs: Sequence[TrackNeed]) -> Sequence[Answer]:
        found: list[Answer] = [None] * len(needs)
        for rows in _equal(need.frame_range for need in needs):
            anchors, frame_range = [needs[row].anchor for row in rows], needs[rows[0]].frame_range
            followed = self._tracker.follow(self._frames, anchors, frame_range)
            for row, prompts in zip(rows, followed, strict=True):
                found[row] = prompts
        return found

    def _restarts(self, needs: Sequence[RestartNeed]) -> Sequence[Answer]:
        if not self._restart.together:
            return [self._restart.choose(need.areas_px, need.first_area_px) for need in needs]
        found: list[Answer] = [None] * len(needs)
        for rows in _equal(need.frame_indices for need in needs):
            areas_px = [needs[row].areas_px for row in rows]
            chosen = self._restart.choose_together(areas_px, [needs[row].first_area_px for row in rows])
            for row in rows:
                found[row] = chosen
        return found

    def _decoded(self, needs: Sequence[DecodeNeed]) -> Sequence[Answer]:
        frame_index = needs[0].frame_index
        try:
            embedding = self._state.embedding(frame_index)
        except FrameError:
            return [None] * len(needs)
        prompts = [need.prompts for need in needs]
        if self._restart.together:
            prompts = against_each_other(prompts)
        requests = []
        for need, given in zip(needs, prompts, strict=True):
            carried = None if need.flow is None else need.flow.to(frame_index)
            low_res = None if carried is None else self._state.low_res(frame_index, carried)
            requests.append(DecodeRequest(given, need.memory, carried=low_res))
        decoded = self._decoder.decode(embedding, requests)
        rows = zip(needs, requests, decoded, strict=True)
        return [self._absence.checked(frame_index, embedding, asked, each, need.cleared) for need, asked, each in rows]

    def _finished(self, frame_index: int, decoded: Decoded, memory: ObjectMemory) -> Estimate:
        """The estimate of a frame, which the memory then knows."""
        estimate = self._estimate(frame_index, decoded)
        self._remember(estimate, self._state.embedding(frame_index), decoded, memory)
        return estimate

    def _remember(self, estimate: Estimate, embedding: Any, decoded: Decoded, memory: ObjectMemory) -> None:
        crstm = self._decoder.crstm
        frame_index = estimate.frame_index
        if crstm is None or memory.bank is None or frame_index % crstm.interval_frames:
            return
        if not (decoded.low_res_logits > 0).any():
            return
        if memory.bank.offer(frame_index, self._policy_keys(embedding, np.asarray(estimate.logits > 0))):
            entry = self._state.segmenter.memorise(embedding, decoded.query, decoded.low_res_logits)
            memory.bank.store(frame_index, entry, interaction=False)

    def _policy_keys(self, embedding: Any, mask: BoolMask) -> FrameKeys:
        """What memory policies compare of an object's mask (H, W) on a frame."""
        segmenter = self._state.segmenter
        if self._grid is None:
            self._grid = KeyGrid.of(segmenter, embedding, self._state.frames.size_hw_px, POLICY_CELLS)
        keys = self._grid.keys(segmenter.key_features(embedding))
        return FrameKeys(keys, self._grid.shares(mask).to(keys.device))

    def _estimate(self, frame_index: int, decoded: Decoded) -> Estimate:
        logits = self._state.full_size(frame_index, decoded.low_res_logits)
        return Estimate(frame_index, logits, decoded.score)


def _equal(keys: Iterable[Hashable]) -> list[list[int]]:
    """The rows of equal keys."""
    rows: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return list(rows.values())
