"""Decodes the masks of objects on one frame in several iterations of the segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.masks import NO_OBJECT_LOGIT
from pipeline.memory import crstm
from pipeline.memory.bank import MemoryBank
from pipeline.memory.policies import MemoryPolicy
from pipeline.memory.policy_settings import build_policy
from pipeline.methods.common.mask_boxes import BOX_WIDENING, MaskBoxes, widened
from pipeline.segmenters.base import (
    FloatMap,
    MemoryQuery,
    MemoryReadout,
    ObjectPrompts,
    PromptBatch,
    Segmenter,
    useful_refinements,
)
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
        object_id: names it where a lost object is searched, or None.
    """

    appearance: Any
    bank: MemoryBank | None
    prompted_frames: int
    object_id: int | None = None

    @classmethod
    def nothing(cls) -> ObjectMemory:
        """Of an object without any prompted frame."""
        return cls(None, None, 0)


@dataclass(frozen=True)
class DecodeRequest:
    """One object to segment on a frame.

    Attributes:
        prompts: of the object on the frame.
        memory: of the object.
        mask_input: logits (h, w) for the first iteration, or None.
        carried: where the object is expected, (h, w) logits, or None; see `Segmenter.segment`.
    """

    prompts: ObjectPrompts
    memory: ObjectMemory
    mask_input: FloatMap | None = None
    carried: FloatMap | None = None


@dataclass(frozen=True)
class Decoded:
    """One object on one frame: logits (h, w), a score in [0, 1], and the memory query of the first iteration."""

    low_res_logits: FloatMap
    score: float
    query: MemoryQuery


@dataclass(frozen=True)
class Decoder:
    """The decoding iterations of I-PT (III-C3); without ``crstm`` those of SAM-PT (3.2).

    Attributes:
        segmenter: decodes all objects of a frame in one call.
        refinement_iterations: how many iterations may follow the first two.
        crstm: how the memory is read, or None.
        mask_boxes: gives the boxes of masks that replace tracked boxes in refinement; None leaves the tracked ones.
    """

    segmenter: Segmenter
    refinement_iterations: int
    crstm: CrstmSettings | None
    mask_boxes: MaskBoxes | None = None

    def decode(self, embedding: Any, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        """Segment several objects on one frame, in one call of the segmenter per iteration.

        Iteration 1 gets the positive points and the box. Iteration 2 gets all prompts, the mask of iteration 1 and what
        is read from the memory. Refinement repeats iteration 2 on its own result, without the memory, until the mask
        converges; an object whose mask has converged takes no part in later iterations. Each object gets the mask that
        it would get alone.

        A tracked box takes part in the first two iterations alone: it is often off, and would cut the mask off at its
        sides. In refinement the box of the current mask stands in its place. The box of a person stays.

        The segmenter is not asked with tracked negative points alone, see `is_lost`.

        Args:
            embedding: of the frame.
            requests: one per object.

        Returns:
            One result per request, in their order.
        """
        lost = [self.is_lost(each) for each in requests]
        if any(lost):
            asked = [each for each, is_lost in zip(requests, lost, strict=True) if not is_lost]
            answers = iter(self.decode(embedding, asked) if asked else ())
            return [self.nothing(embedding, UNKNOWN_SCORE) if is_lost else next(answers) for is_lost in lost]
        found = self._iterate(embedding, [replace(each, prompts=_positives(each.prompts)) for each in requests])
        queries = [each.query for each in found]
        readouts = [self._read(each.memory, query) for each, query in zip(requests, queries, strict=True)]
        rows = list(range(len(requests)))
        for iteration in range(1 + useful_refinements(self.segmenter, self.refinement_iterations)):
            if not rows:
                break
            again = [replace(requests[row], mask_input=found[row].low_res_logits, carried=None) for row in rows]
            if iteration > 0:
                again = [self._with_own_box(embedding, each, found[row]) for each, row in zip(again, rows, strict=True)]
            newer = self._iterate(embedding, again, [readouts[row] for row in rows] if iteration == 0 else None)
            unconverged = []
            for row, now in zip(rows, newer, strict=True):
                before, found[row] = found[row].low_res_logits, now
                if iteration == 0 or not nearly_same(now.low_res_logits > 0, before > 0):
                    unconverged.append(row)
            rows = unconverged
        return [replace(each, query=query) for each, query in zip(found, queries, strict=True)]

    def decode_prompted(
        self, embedding: Any, prompts: ObjectPrompts, memory: ObjectMemory, prior: FloatMap | None
    ) -> Decoded:
        """One object on one more prompted frame. The mask (h, w) it had before is given as the segmenter wants it.

        Negative points correct that mask. Without one they tell nothing of the object: the mask is empty, and not sure.
        """
        if prior is None and only_excludes(prompts):
            return self.nothing(embedding, UNKNOWN_SCORE)
        memory = replace(memory, prompted_frames=memory.prompted_frames + 1)
        request = DecodeRequest(prompts, memory, mask_input=prior)
        if self.segmenter.uses_mask_prior:
            request = DecodeRequest(prompts, memory, carried=prior)
        return self.decode(embedding, [request])[0]

    def is_lost(self, request: DecodeRequest) -> bool:
        """Whether nothing says where the object is: no positive point, no box and no mask. Then its mask is empty.

        SAM would answer negative points alone with anything else, and trackers would start again from that. A segmenter
        with a mask prior looks for lost objects itself.
        """
        is_asked = request.mask_input is not None or self.segmenter.uses_mask_prior or not request.prompts.tracked
        return not is_asked and only_excludes(request.prompts)

    def nothing(self, embedding: Any, score: float) -> Decoded:
        """An empty mask, without asking the segmenter for one; nothing of it can be remembered."""
        unasked = self.segmenter.segment(embedding, PromptBatch((ObjectPrompts(),)))
        return Decoded(np.full_like(unasked.low_res_logits[0, 0], NO_OBJECT_LOGIT), score, unasked.queries[0])

    def query(self, embedding: Any, prompts: ObjectPrompts, memory: ObjectMemory, mask: FloatMap) -> MemoryQuery:
        """The memory query of a prompted frame whose mask (h, w) is known: the first iteration, started from it."""
        found = self._iterate(embedding, [DecodeRequest(_positives(prompts), memory, carried=mask)])[0]
        return replace(found.query, prompted=True)

    def _with_own_box(self, embedding: Any, request: DecodeRequest, found: Decoded) -> DecodeRequest:
        """The request with the box of the mask found so far, widened by its uncertainty, in place of a tracked box."""
        if self.mask_boxes is None or not request.prompts.tracked or request.prompts.box_xyxy_px is None:
            return request
        box = self.mask_boxes.box(embedding, found.low_res_logits)
        if box is None:
            return request
        box = widened(box, BOX_WIDENING * (1 - found.score))
        return replace(request, prompts=replace(request.prompts, box_xyxy_px=box))

    def _read(self, memory: ObjectMemory, query: MemoryQuery) -> MemoryReadout | None:
        if self.crstm is None or memory.bank is None:
            return None
        share = crstm.alpha(memory.prompted_frames, self.crstm.total_rounds)
        return memory.bank.read(query, self.crstm.top_k, share, self.crstm.temperature)

    def _iterate(
        self, embedding: Any, requests: Sequence[DecodeRequest], readouts: Sequence[MemoryReadout | None] | None = None
    ) -> list[Decoded]:
        """One iteration: the best mask of each object. Ambiguous prompts (`is_ambiguous`) make a call of their own."""
        found: dict[int, Decoded] = {}
        ambiguous = [is_ambiguous(each.prompts, each.mask_input) for each in requests]
        for multimask in (False, True):
            rows = [row for row, each in enumerate(ambiguous) if each is multimask]
            if not rows:
                continue
            asked = [requests[row] for row in rows]
            segmentation = self.segmenter.segment(
                embedding,
                PromptBatch(tuple(each.prompts for each in asked)),
                mask_input=[each.mask_input for each in asked],
                mask_prior=[each.carried for each in asked],
                appearance=[each.memory.appearance for each in asked],
                readout=[None if readouts is None else readouts[row] for row in rows],
                multimask=multimask,
            )
            for position, row in enumerate(rows):
                scores = segmentation.predicted_iou[position]
                best = int(scores.argmax())
                logits = segmentation.low_res_logits[position, best]
                found[row] = Decoded(logits, float(scores[best]), segmentation.queries[position])
        return [found[row] for row in range(len(requests))]


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
