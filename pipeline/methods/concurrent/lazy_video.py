"""Objects taken through a video by a method that watches how sure it is (thesis, 6.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.masks import probabilities
from pipeline.methods.base import Estimate
from pipeline.methods.common.video_state import VideoState
from pipeline.methods.concurrent.batch_decoder import BatchDecoder, LowResMask
from pipeline.methods.concurrent.video import MemoryVideo, PassState, Seen
from pipeline.methods.lazy import LazySettings
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.uncertainty import entropy_map, masked_entropy, pseudo_correction


class LazyVideo(MemoryVideo):
    """See `pipeline.methods.base.ConcurrentVideo`. Each way compares its uncertainty with that of its last frame."""

    def __init__(self, state: VideoState, settings: LazySettings) -> None:
        super().__init__(state, settings)
        self._thresholds = settings
        self._refiner = BatchDecoder(state.segmenter, settings.readout_weight, settings.prompted_refinements)

    def _look_at(
        self,
        frame_index: int,
        embedding: Any,
        ways: Sequence[PassState],
        found: Sequence[LowResMask],
        readouts: Sequence[FloatMap],
    ) -> list[Seen]:
        """Measure every object's uncertainty, and correct what became doubtful (thesis, 6.4.4)."""
        tau_p, tau_u = self._thresholds.tau_p, self._thresholds.tau_u
        plain = super()._look_at(frame_index, embedding, ways, found, readouts)
        entropy = entropy_map(_probabilities(plain))
        seen, doubtful = [], []
        for row, (way, each) in enumerate(zip(ways, plain, strict=True)):
            now = masked_entropy(entropy, np.asarray(each.estimate.logits > 0))
            change = None if way.uncertainty is None else now - way.uncertainty
            # The next frame is compared with what was found, not with what a correction made of it (6.4.4).
            way.uncertainty = now
            estimate = replace(each.estimate, uncertainty=now, uncertainty_change=change)
            if change is not None and change >= tau_u:
                estimate = replace(estimate, wants_help=True)
            elif change is not None and change >= tau_p and self._thresholds.pseudo_corrections:
                doubtful.append(row)
            seen.append(replace(each, estimate=estimate))
        seen = self._corrected(embedding, entropy, ways, seen, readouts, doubtful)
        return [replace(each, sure=_uncertainty(each.estimate) < self._thresholds.tau_m) for each in seen]

    def _corrected(
        self,
        embedding: Any,
        entropy: FloatMap,
        ways: Sequence[PassState],
        seen: Sequence[Seen],
        readouts: Sequence[FloatMap],
        rows: Sequence[int],
    ) -> list[Seen]:
        """The same with the method's own corrections of some rows, where these are taken.

        The segmenter gets one positive click and what it learnt of the object, but not the mask (6.9); one that wants a
        carried mask gets it too, as it makes poor masks of single clicks. The thesis takes every answer. Here one is
        taken if the object is surer with it and it agrees with the mask by ``pseudo_agreement``: a single click may
        mean a part of the object or more than the object.
        """
        clicks = {row: pseudo_correction(entropy, np.asarray(seen[row].estimate.logits > 0)) for row in rows}
        asked = {row: _click(*spot) for row, spot in clicks.items() if spot is not None}
        if not asked:
            return list(seen)
        candidates = list(seen)
        answers = self._refined(embedding, ways, seen, asked, readouts)
        for row, answer in zip(asked, answers, strict=True):
            logits = self._state.segmenter.to_full_size(embedding, answer.low_res_logits)
            estimate = replace(seen[row].estimate, logits=logits, score=answer.score)
            candidates[row] = replace(seen[row], found=answer, estimate=estimate)
        entropy = entropy_map(_probabilities(candidates))
        chosen = list(seen)
        for row in asked:
            old, new = seen[row].estimate, candidates[row].estimate
            uncertainty = masked_entropy(entropy, np.asarray(new.logits > 0))
            agrees = _iou(new.logits > 0, old.logits > 0) >= self._thresholds.pseudo_agreement
            if agrees and uncertainty < _uncertainty(old):
                chosen[row] = replace(candidates[row], estimate=replace(new, uncertainty=uncertainty))
        return chosen

    def _refined(
        self,
        embedding: Any,
        ways: Sequence[PassState],
        seen: Sequence[Seen],
        asked: Mapping[int, ObjectPrompts],
        readouts: Sequence[FloatMap],
    ) -> list[LowResMask]:
        """What the segmenter makes of one click per asked row, all in one call; the memory is read again."""
        prompts, appearance = list(asked.values()), [ways[row].appearance for row in asked]
        uses_mask = self._state.segmenter.uses_mask_prior
        masks = [seen[row].found.low_res_logits if uses_mask else None for row in asked]
        once = replace(self._refiner, refinement_iterations=0)
        first = once.run(embedding, prompts, masks, appearance, [None] * len(asked), multimask=not uses_mask)
        return self._refiner.refined(embedding, prompts, appearance, first, [readouts[row] for row in asked])


def _probabilities(seen: Sequence[Seen]) -> NDArray[np.float32]:
    """(O, H, W) float32 in [0, 1]."""
    return probabilities(np.stack([each.estimate.logits for each in seen]))


def _iou(a: BoolMask, b: BoolMask) -> float:
    return float((a & b).sum() / max(1, int((a | b).sum())))


def _uncertainty(estimate: Estimate) -> float:
    return math.inf if estimate.uncertainty is None else estimate.uncertainty


def _click(x_px: float, y_px: float) -> ObjectPrompts:
    return ObjectPrompts(np.array([[x_px, y_px]], np.float32), np.array([True]))
