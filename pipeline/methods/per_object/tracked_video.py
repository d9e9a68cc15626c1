"""A video in which tracked points and boxes prompt the segmenter on every frame: what I-PT and SAM-PT share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.masks import saturated_logits
from pipeline.memory.bank import MemoryBank
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.key_grid import KeyGrid
from pipeline.memory.policies import POLICY_CELLS, MemoryPolicy
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.methods.common.decoding import Decoded, Decoder, ObjectMemory
from pipeline.methods.common.mask_flow import FlowFields, MaskFlow
from pipeline.methods.common.video_state import LearnedObject, VideoState, digest
from pipeline.methods.per_object.prompt_tracking import PromptTracker
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError

RESTARTS = ("never", "horizon", "median_area", "similar_area")


@dataclass(frozen=True)
class RestartSettings:
    """When trackers restart from a predicted mask (SAM-PT, appendix A).

    Attributes:
        variant: ``never``; ``horizon`` (A: at the last frame of the horizon); ``median_area`` (B: at the frame with the
            median mask area in the horizon); ``similar_area`` (C: at the frame whose mask area is closest to the first
            mask's). B and C segment the frames after the chosen one again.
        horizon_frames: SAM-PT's h.
    """

    variant: str = "horizon"
    horizon_frames: int = 8

    def __post_init__(self) -> None:
        if self.variant not in RESTARTS:
            raise ValueError(f"unknown restart variant {self.variant!r}; known are {', '.join(RESTARTS)}")
        if self.horizon_frames < 1:
            raise ValueError(f"the restart horizon must be at least 1 frame, but got {self.horizon_frames}")

    def choose(self, areas_px: Sequence[int], first_area_px: int) -> int:
        """The position in a horizon's masks to restart from."""
        visible = [position for position, area_px in enumerate(areas_px) if area_px]
        if self.variant == "horizon" or not visible:
            return len(areas_px) - 1
        if self.variant == "similar_area":
            return min(visible, key=lambda k: (abs(areas_px[k] - first_area_px), -k))
        ordered = sorted(visible, key=lambda k: areas_px[k])
        return ordered[len(ordered) // 2]


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
    ) -> None:
        self._state, self._tracker, self._decoder = state, tracker, decoder
        self._restart, self._flow_long_side_px = restart, flow_long_side_px
        self.fusion_score_power = fusion_score_power
        self._grid: KeyGrid | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of the objects' memories and of their policies."""
        return self._state.held_bytes + sum(policy.nbytes for policy in self.policies.values())

    @property
    def policies(self) -> dict[int, MemoryPolicy]:
        """The policies of the objects' memories, by object id."""
        banks = {object_id: known.bank for object_id, known in list(self._state.objects.items())}
        return {each: bank.policy for each, bank in banks.items() if bank is not None and bank.policy is not None}

    def forget(self, object_id: int) -> None:
        """Drop an object's memory and what the segmenter learnt of it."""
        self._state.objects.pop(object_id, None)

    def begin_round(self, task: ObjectRound) -> ObjectMemory:
        """Update the memory (I-PT, III-D2): clear the range of the round, then store the prompted frames."""
        crstm = self._decoder.crstm
        known = self._state.objects.get(task.object_id)
        if known is None:
            bank = crstm.bank() if crstm is not None else None
            known = self._state.objects[task.object_id] = LearnedObject(bank)
        memory = ObjectMemory(self._state.learn(known, task.anchors), known.bank, len(task.anchors))
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
        prompts = self._tracker.prompts_at(self._state.frames, anchor)
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
        never = self._restart.variant == "never"
        length = max(1, len(frame_indices)) if never else self._restart.horizon_frames
        first_area_px, done = int(anchor.mask.sum()), 0
        pass_state, latest = _PassState(memory), anchor
        while done < len(frame_indices):
            part = frame_indices[done : done + length]
            estimated = self._follow(anchor, latest, part, pass_state)
            if self._restart.variant in ("never", "horizon"):
                mask = latest.mask
                for estimate in estimated:
                    mask = np.asarray(estimate.logits > 0)
                    yield estimate
                latest, done = Anchor(part[-1], mask), done + len(part)
                anchor = latest if mask.any() else anchor
                continue
            estimates = list(estimated)
            if not estimates:
                latest, done = Anchor(part[-1], latest.mask), done + len(part)
                continue
            last = done + length >= len(frame_indices)
            areas_px = [int((estimate.logits > 0).sum()) for estimate in estimates]
            chosen = len(estimates) - 1 if last else self._restart.choose(areas_px, first_area_px)
            yield from estimates[: chosen + 1]
            at = estimates[chosen]
            done = len(frame_indices) if last else frame_indices.index(at.frame_index) + 1
            latest = Anchor(at.frame_index, np.asarray(at.logits > 0))
            anchor = latest if latest.mask.any() else anchor

    def _follow(self, anchor: Anchor, latest: Anchor, part: range, pass_state: _PassState) -> Iterator[Estimate]:
        """Segment the frames between two restarts with prompts tracked from an anchor.

        Args:
            anchor: the latest frame that shows the object: nothing can be tracked from an empty mask.
            latest: the frame before the first one to segment, usually the anchor.
            part: the frames to segment.
            pass_state: the state of the pass, which is updated.
        """
        start = anchor.frame_index
        tracked = self._tracker.follow(self._state.frames, anchor, range(start, part[-1] + part.step, part.step))
        flow = None
        if self._state.segmenter.uses_mask_prior:
            flow = MaskFlow(FlowFields(self._state.frames, self._flow_long_side_px))
            flow.start(latest.frame_index, latest.mask)
        by_frame = dict(zip(range(start, part[-1] + part.step, part.step), tracked, strict=True))
        for frame_index in part:
            carried = None if flow is None else flow.to(frame_index)
            try:
                embedding = self._state.embedding(frame_index)
            except FrameError:
                continue
            low_res = None if carried is None else self._state.low_res(frame_index, carried)
            decoded = self._decoder.decode(embedding, by_frame[frame_index], pass_state.memory, carried=low_res)
            estimate = self._estimate(frame_index, decoded)
            self._remember(estimate, embedding, decoded, pass_state.memory)
            if flow is not None:
                flow.start(frame_index, np.asarray(estimate.logits > 0))
            yield estimate
            adapted = self._state.segmenter.adapt(pass_state.memory.appearance, embedding, decoded.low_res_logits)
            pass_state.memory = replace(pass_state.memory, appearance=adapted)

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


@dataclass
class _PassState:
    """The state of one propagation pass: the memory, adapted to the frames so far."""

    memory: ObjectMemory
