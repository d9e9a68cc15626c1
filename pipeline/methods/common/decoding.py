"""Several passes of the segmenter over one frame: positives first, then everything, then refinement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.memory import crstm
from pipeline.memory.bank import MemoryBank
from pipeline.memory.policy_settings import build_policy
from pipeline.segmenters.base import FloatMap, MemoryQuery, ObjectPrompts, PromptBatch, Segmentation, Segmenter
from pipeline.types import BoolMask

SETTLED_SHARE = 0.01
"""Refinement ends when a pass changes less than this share of the mask."""


@dataclass(frozen=True)
class CrstmSettings:
    """I-PT's cross-round space-time module.

    Attributes:
        interval_frames: every how many frames a segmented frame is offered to the memory (I-PT's d; STM's value).
        top_k: how many memory cells answer for a cell of the frame (Eq. 4; the value is STCN's).
        total_rounds: I-PT's R in Eq. 6.
        limit_mib: bound of one object's memory in one video.
        policy: which of the offered frames stay, one of `POLICIES`.
        slots: how many of them do, beside the prompted ones.
        least_similarity: READMem's lower similarity bound, see `ReadMem`.
    """

    interval_frames: int = 5
    top_k: int = 20
    total_rounds: int = 8
    limit_mib: int = 256
    policy: str = "fifo"
    slots: int = 20
    least_similarity: float = 0.5

    def bank(self) -> MemoryBank:
        """A memory with nothing in it."""
        return MemoryBank(self.limit_mib, build_policy(self.policy, self.slots, self.least_similarity))


@dataclass(frozen=True)
class ObjectMemory:
    """What is known of one object in one round: what the segmenter learnt, and the memory with its weight."""

    appearance: Any
    bank: MemoryBank | None
    round_index: int

    @classmethod
    def nothing(cls) -> ObjectMemory:
        """Of an object that nothing is known of."""
        return cls(None, None, 1)


@dataclass(frozen=True)
class Decoded:
    """One object on one frame: ``low_res_logits`` (h, w), ``score`` in [0, 1], and the first pass's memory query."""

    low_res_logits: FloatMap
    score: float
    query: MemoryQuery


@dataclass(frozen=True)
class Decoder:
    """The passes of I-PT (III-C3), and without ``crstm`` those of SAM-PT (3.2)."""

    segmenter: Segmenter
    refinement_iterations: int
    crstm: CrstmSettings | None

    def decode(
        self,
        embedding: Any,
        prompts: ObjectPrompts,
        memory: ObjectMemory,
        *,
        mask_input: FloatMap | None = None,
        carried: FloatMap | None = None,
    ) -> Decoded:
        """Segment one object on one frame.

        Pass 1 sees the positive points and the box. Pass 2 sees all prompts, the mask of pass 1 and what the memory
        says to pass 1's query. Refinement repeats pass 2 on its own result, without the memory, until the mask settles.

        Args:
            embedding: of the frame.
            prompts: of the object on the frame.
            memory: of the object.
            mask_input: logits (h, w) for pass 1, or None.
            carried: where the object is expected, (h, w) logits, or None; see `Segmenter.segment`.
        """
        first = self._pass(embedding, _positives(prompts), memory, mask_input=mask_input, carried=carried)
        row = int(first.predicted_iou[0].argmax())
        query, best = first.queries[0], first.low_res_logits[0, row]
        score = float(first.predicted_iou[0, row])
        readout = None
        if self.crstm is not None and memory.bank is not None:
            share = crstm.alpha(memory.round_index, self.crstm.total_rounds)
            readout = memory.bank.read(query, self.crstm.top_k, share)
        for iteration in range(1 + self.refinement_iterations):
            found = self._pass(embedding, prompts, memory, mask_input=best, readout=readout if iteration == 0 else None)
            settled = iteration > 0 and nearly_same(found.low_res_logits[0, 0] > 0, best > 0)
            best, score = found.low_res_logits[0, 0], float(found.predicted_iou[0, 0])
            if settled:
                break
        return Decoded(best, score, query)

    def decode_prompted(
        self, embedding: Any, prompts: ObjectPrompts, memory: ObjectMemory, prior: FloatMap | None
    ) -> Decoded:
        """As `decode`, with the mask (h, w) that the frame had before, given as the segmenter wants it."""
        if self.segmenter.uses_mask_prior:
            return self.decode(embedding, prompts, memory, carried=prior)
        return self.decode(embedding, prompts, memory, mask_input=prior)

    def query(self, embedding: Any, prompts: ObjectPrompts, memory: ObjectMemory, mask: FloatMap) -> MemoryQuery:
        """The memory query of a frame whose mask is known: the same first pass, started from that mask (h, w)."""
        first = self._pass(embedding, _positives(prompts), memory, mask_input=None, carried=mask)
        return first.queries[0]

    def _pass(
        self,
        embedding: Any,
        prompts: ObjectPrompts,
        memory: ObjectMemory,
        *,
        mask_input: FloatMap | None,
        carried: FloatMap | None = None,
        readout: Any = None,
    ) -> Segmentation:
        return self.segmenter.segment(
            embedding,
            PromptBatch((prompts,)),
            mask_input=[mask_input],
            mask_prior=[carried],
            appearance=[memory.appearance],
            readout=[readout],
            multimask=is_ambiguous(prompts, mask_input),
        )


def is_ambiguous(prompts: ObjectPrompts, mask: FloatMap | None) -> bool:
    """Whether prompts are a single click: it may mean a part or the whole, and SAM has a mask and a score for each."""
    return len(prompts.positive) == 1 and prompts.box_xyxy_px is None and mask is None


def nearly_same(mask: BoolMask, before: BoolMask) -> bool:
    """Whether so little of a mask (h, w) changed that a further pass is not worth its time."""
    return int((mask != before).sum()) <= SETTLED_SHARE * int(before.sum())


def _positives(prompts: ObjectPrompts) -> ObjectPrompts:
    """The prompts without their negative points; all of them where that leaves nothing."""
    keep = prompts.positive
    if keep.all() or (not keep.any() and prompts.box_xyxy_px is None):
        return prompts
    return replace(prompts, points_xy_px=prompts.points_xy_px[keep], positive=np.ones(int(keep.sum()), np.bool_))
