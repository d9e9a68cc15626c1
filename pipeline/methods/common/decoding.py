"""Decodes the mask of one object on one frame in several iterations of the segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.masks import ABSENT_LOGIT
from pipeline.memory import crstm
from pipeline.memory.bank import MemoryBank
from pipeline.memory.policies import MemoryPolicy
from pipeline.memory.policy_settings import build_policy
from pipeline.segmenters.base import FloatMap, MemoryQuery, ObjectPrompts, PromptBatch, Segmentation, Segmenter
from pipeline.types import BoolMask

CONVERGED_SHARE = 0.01
"""Refinement ends when an iteration changes less than this share of the mask."""

UNKNOWN_SCORE = 0.5
"""Score of an empty mask where nothing tells whether the object is there."""


@dataclass(frozen=True)
class CrstmSettings:
    """I-PT's cross-round space-time module.

    Attributes:
        interval_frames: one segmented frame in every ``interval_frames`` is offered to the memory (I-PT's d; STM's
            value).
        top_k: how many memory cells answer for a cell of the frame (Eq. 4; the value is STCN's).
        temperature: affinities are divided by this before the softmax; 1 is Eq. 4.
        total_rounds: I-PT's R in Eq. 6.
        limit_mib: bound of one object's memory in one video.
        policy: which of the offered frames stay, one of `POLICIES`.
        slots: how many of them do, beside the prompted ones.
        least_similarity: READMem's lower similarity bound, see `ReadMem`.
        new_bank: makes a memory from its bound in MiB and its policy.
    """

    interval_frames: int = 5
    top_k: int = 20
    temperature: float = 1.0
    total_rounds: int = 8
    limit_mib: int = 256
    policy: str = "fifo"
    slots: int = 20
    least_similarity: float = 0.5
    new_bank: Callable[[float, MemoryPolicy], MemoryBank] = MemoryBank

    def bank(self) -> MemoryBank:
        """An empty memory."""
        return self.new_bank(self.limit_mib, build_policy(self.policy, self.slots, self.least_similarity))


@dataclass(frozen=True)
class ObjectMemory:
    """One object in one round.

    Attributes:
        appearance: what the segmenter learnt of it.
        bank: its memory, or None.
        prompted_frames: on how many frames a person prompted it; they weigh the memory (r of Eq. 6, `crstm.alpha`).
    """

    appearance: Any
    bank: MemoryBank | None
    prompted_frames: int

    @classmethod
    def nothing(cls) -> ObjectMemory:
        """Of an object without any prompted frame."""
        return cls(None, None, 0)


@dataclass(frozen=True)
class Decoded:
    """One object on one frame: logits (h, w), a score in [0, 1], and the memory query of the first iteration."""

    low_res_logits: FloatMap
    score: float
    query: MemoryQuery


@dataclass(frozen=True)
class Decoder:
    """The decoding iterations of I-PT (III-C3); without ``crstm`` those of SAM-PT (3.2)."""

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

        Iteration 1 gets the positive points and the box. Iteration 2 gets all prompts, the mask of iteration 1 and what
        is read from the memory. Refinement repeats iteration 2 on its own result, without the memory, until the mask
        converges.

        Args:
            embedding: of the frame.
            prompts: of the object on the frame.
            memory: of the object.
            mask_input: logits (h, w) for iteration 1, or None.
            carried: where the object is expected, (h, w) logits, or None; see `Segmenter.segment`.
        """
        first = self._iterate(embedding, _positives(prompts), memory, mask_input=mask_input, carried=carried)
        row = int(first.predicted_iou[0].argmax())
        query, best = first.queries[0], first.low_res_logits[0, row]
        score = float(first.predicted_iou[0, row])
        readout = None
        if self.crstm is not None and memory.bank is not None:
            share = crstm.alpha(memory.prompted_frames, self.crstm.total_rounds)
            readout = memory.bank.read(query, self.crstm.top_k, share, self.crstm.temperature)
        for iteration in range(1 + self.refinement_iterations):
            found = self._iterate(
                embedding, prompts, memory, mask_input=best, readout=readout if iteration == 0 else None
            )
            converged = iteration > 0 and nearly_same(found.low_res_logits[0, 0] > 0, best > 0)
            best, score = found.low_res_logits[0, 0], float(found.predicted_iou[0, 0])
            if converged:
                break
        return Decoded(best, score, query)

    def decode_prompted(
        self, embedding: Any, prompts: ObjectPrompts, memory: ObjectMemory, prior: FloatMap | None
    ) -> Decoded:
        """As `decode`, of one more prompted frame. The mask (h, w) it had before is given as the segmenter wants it.

        Negative points correct that mask. Without one they tell nothing of the object: the mask is empty, and not sure.
        """
        if prior is None and only_excludes(prompts):
            return self.nothing(embedding, UNKNOWN_SCORE)
        memory = replace(memory, prompted_frames=memory.prompted_frames + 1)
        if self.segmenter.uses_mask_prior:
            return self.decode(embedding, prompts, memory, carried=prior)
        return self.decode(embedding, prompts, memory, mask_input=prior)

    def nothing(self, embedding: Any, score: float) -> Decoded:
        """An empty mask, without asking the segmenter for one; nothing of it can be remembered."""
        unasked = self.segmenter.segment(embedding, PromptBatch((ObjectPrompts(),)))
        return Decoded(np.full_like(unasked.low_res_logits[0, 0], ABSENT_LOGIT), score, unasked.queries[0])

    def query(self, embedding: Any, prompts: ObjectPrompts, memory: ObjectMemory, mask: FloatMap) -> MemoryQuery:
        """The memory query of a frame whose mask (h, w) is known: the first iteration, started from that mask."""
        first = self._iterate(embedding, _positives(prompts), memory, mask_input=None, carried=mask)
        return first.queries[0]

    def _iterate(
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
    """Whether the prompt is a person's only click. It may mean a part or the whole; SAM has a mask for each.

    Of the points that trackers moved a single one may be left. Which mask scores best then changes from frame to frame,
    while one mask stays much the same.
    """
    lone = len(prompts.positive) == 1 and bool(prompts.positive.all()) and prompts.box_xyxy_px is None
    return lone and not prompts.tracked and mask is None


def only_excludes(prompts: ObjectPrompts) -> bool:
    """Whether prompts only say where the object is not; asked with them alone, SAM answers with anything else."""
    return not prompts.positive.any() and prompts.box_xyxy_px is None


def nearly_same(mask: BoolMask, before: BoolMask) -> bool:
    """Whether so little of a mask (h, w) changed that a further iteration is not worth its time."""
    return int((mask != before).sum()) <= CONVERGED_SHARE * int(before.sum())


def _positives(prompts: ObjectPrompts) -> ObjectPrompts:
    """The prompts without their negative points; all prompts if that would leave none."""
    keep = prompts.positive
    if keep.all() or (not keep.any() and prompts.box_xyxy_px is None):
        return prompts
    return replace(prompts, points_xy_px=prompts.points_xy_px[keep], positive=np.ones(int(keep.sum()), np.bool_))
