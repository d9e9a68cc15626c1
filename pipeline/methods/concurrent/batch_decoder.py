"""BatchDecoder of the segmenter over one frame, with all objects in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.methods.common.decoding import nearly_same
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, Segmentation, Segmenter


@dataclass(frozen=True)
class LowResMask:
    """One object on one frame: logits (h, w) in the segmenter's resolution, and a score in [0, 1]."""

    low_res_logits: FloatMap
    score: float


@dataclass(frozen=True)
class BatchDecoder:
    """How often the segmenter goes over a frame, and what it is shown.

    Attributes:
        segmenter: decodes all objects of a frame in one call.
        readout_weight: of the memory's logits beside the logits of the mask they are added to.
        refinement_iterations: further passes on the segmenter's own result; what has settled takes no part in them.
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

        A segmenter that wants no carried mask sees everything in its first pass: the expected mask and the readout are
        its mask input. One that does sees the carried mask first, and the readout with its own answer in a second pass.

        Args:
            embedding: of the frame.
            prompts: one row per object, as all that follows.
            expected: logits (h, w) of the mask carried to the frame, or that it had before.
            appearance: what the segmenter learnt of each object.
            readouts: what the memory says.
            multimask: ask for several masks in the first pass and keep the one the segmenter scores best.
        """
        batch, segment = PromptBatch(tuple(prompts)), self.segmenter.segment
        if not self.segmenter.uses_mask_prior:
            shown = self.together(expected, readouts)
            first = _best(segment(embedding, batch, mask_input=shown, appearance=appearance, multimask=multimask))
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
        """The same after the further passes, and before them one that is shown the readouts, if there are any."""
        if readouts is not None and all(each is None for each in readouts):
            readouts = None
        found, restless = list(found), list(range(len(found)))
        for iteration in range(self.refinement_iterations + (readouts is not None)):
            if not restless:
                break
            shown: list[FloatMap | None] = [found[row].low_res_logits for row in restless]
            if readouts is not None and iteration == 0:
                shown = self.together(shown, [readouts[row] for row in restless])
            batch = PromptBatch(tuple(prompts[row] for row in restless))
            learnt = [appearance[row] for row in restless]
            again = _best(self.segmenter.segment(embedding, batch, mask_input=shown, appearance=learnt))
            settled = set()
            for row, newer in zip(restless, again, strict=True):
                before, found[row] = found[row].low_res_logits, newer
                if nearly_same(newer.low_res_logits > 0, before > 0):
                    settled.add(row)
            if readouts is None or iteration > 0:
                restless = [row for row in restless if row not in settled]
        return found

    def together(
        self, expected: Sequence[FloatMap | None], readouts: Sequence[FloatMap | None]
    ) -> list[FloatMap | None]:
        """What masks and readouts say together, logits (h, w); None where neither says anything."""
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
