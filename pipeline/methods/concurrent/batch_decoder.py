"""Decodes the masks of all objects on one frame, in one call of the segmenter per iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.masks import NO_OBJECT_LOGIT
from pipeline.methods.common.decoding import nearly_same
from pipeline.segmenters.base import (
    FloatMap,
    ObjectPrompts,
    PromptBatch,
    Segmentation,
    Segmenter,
    useful_refinements,
)


@dataclass(frozen=True)
class LowResMask:
    """One object on one frame: logits (h, w) in the segmenter's resolution, and a score in [0, 1]."""

    low_res_logits: FloatMap
    score: float

    def without_object(self, score: float) -> LowResMask:
        """An empty mask in its place."""
        return LowResMask(np.full_like(self.low_res_logits, NO_OBJECT_LOGIT), score)


@dataclass(frozen=True)
class BatchDecoder:
    """Runs the segmenter on a frame: once, and again on its own result as often as ``refinement_iterations`` says.

    Attributes:
        segmenter: decodes all objects of a frame in one call.
        readout_weight: weight of the memory's logits when they are added to the logits of a mask.
        refinement_iterations: further decoding iterations on the segmenter's own result. Objects whose mask has
            converged take no part in them.
    """

    segmenter: Segmenter
    readout_weight: float
    refinement_iterations: int

    def run(
        self,
        embedding: Any,
        prompts: Sequence[ObjectPrompts],
        expected: Sequence[FloatMap | None],
        appearance: Sequence[Any],
        readouts: Sequence[FloatMap | None],
        *,
        multimask: bool = False,
    ) -> list[LowResMask]:
        """Segment several objects on one frame.

        A segmenter without a mask prior gets everything in its first iteration: the expected mask and the readout are
        its mask input. One with a mask prior gets the carried mask first, and the readout with its own result in a
        second iteration.

        Args:
            embedding: of the frame.
            prompts: one row per object, as all that follows.
            expected: logits (h, w) of the mask carried to the frame, or that it had before.
            appearance: what the segmenter learnt of each object.
            readouts: what the memory says.
            multimask: ask for several masks in the first iteration and keep the one with the best predicted IoU.
        """
        batch, segment = PromptBatch(tuple(prompts)), self.segmenter.segment
        if not self.segmenter.uses_mask_prior:
            mask_input = self.combine(expected, readouts)
            first = _best(segment(embedding, batch, mask_input=mask_input, appearance=appearance, multimask=multimask))
            return self.refined(embedding, prompts, appearance, first)
        first = _best(segment(embedding, batch, mask_prior=expected, appearance=appearance, multimask=multimask))
        return self.refined(embedding, prompts, appearance, first, readouts)

    def refined(
        self,
        embedding: Any,
        prompts: Sequence[ObjectPrompts],
        appearance: Sequence[Any],
        found: Sequence[LowResMask],
        readouts: Sequence[FloatMap | None] | None = None,
    ) -> list[LowResMask]:
        """The masks after further iterations. With readouts, one iteration more comes first and gets them."""
        if readouts is not None and all(each is None for each in readouts):
            readouts = None
        found, unconverged = list(found), list(range(len(found)))
        refinements = useful_refinements(self.segmenter, self.refinement_iterations)
        for iteration in range(refinements + (readouts is not None)):
            if not unconverged:
                break
            mask_input: list[FloatMap | None] = [found[row].low_res_logits for row in unconverged]
            if readouts is not None and iteration == 0:
                mask_input = self.combine(mask_input, [readouts[row] for row in unconverged])
            batch = PromptBatch(tuple(prompts[row] for row in unconverged))
            learnt = [appearance[row] for row in unconverged]
            again = _best(self.segmenter.segment(embedding, batch, mask_input=mask_input, appearance=learnt))
            converged = set()
            for row, newer in zip(unconverged, again, strict=True):
                before, found[row] = found[row].low_res_logits, newer
                if nearly_same(newer.low_res_logits > 0, before > 0):
                    converged.add(row)
            if readouts is None or iteration > 0:
                unconverged = [row for row in unconverged if row not in converged]
        return found

    def combine(
        self, expected: Sequence[FloatMap | None], readouts: Sequence[FloatMap | None]
    ) -> list[FloatMap | None]:
        """Masks and readouts added, logits (h, w); None where there is neither."""
        return [self._added(mask, readout) for mask, readout in zip(expected, readouts, strict=True)]

    def _added(self, mask: FloatMap | None, readout: FloatMap | None) -> FloatMap | None:
        if readout is None:
            return mask
        if mask is None or not (mask > 0).any():
            return readout
        return mask + self.readout_weight * readout


def _best(segmentation: Segmentation) -> list[LowResMask]:
    """Of several masks of each object the one with the highest predicted IoU."""
    best = segmentation.predicted_iou.argmax(axis=1)
    return [
        LowResMask(segmentation.low_res_logits[row, k], float(segmentation.predicted_iou[row, k]))
        for row, k in enumerate(best)
    ]
