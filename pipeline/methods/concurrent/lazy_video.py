"""A video under a method that measures its own uncertainty (thesis, 6.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.masks import iou, probabilities
from pipeline.methods.base import Estimate
from pipeline.methods.common.video_state import VideoState
from pipeline.methods.concurrent.batch_decoder import BatchDecoder, LowResMask
from pipeline.methods.concurrent.settings import NewMemory, new_concurrent_memory
from pipeline.methods.concurrent.video import MemoryVideo, PassState, StepResult
from pipeline.methods.lazy import LazySettings
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.uncertainty import UncertaintyThresholds, entropy_map, masked_entropy, pseudo_correction


class LazyVideo(MemoryVideo):
    """See `pipeline.methods.base.OnlineVideo`. Each pass compares its uncertainty with that of its latest frame."""

    def __init__(
        self,
        state: VideoState,
        settings: LazySettings,
        thresholds: UncertaintyThresholds,
        new_memory: NewMemory = new_concurrent_memory,
    ) -> None:
        super().__init__(state, settings, new_memory=new_memory)
        self._thresholds, self._lazy = thresholds, settings
        self._refiner = BatchDecoder(state.segmenter, settings.readout_weight, settings.prompted_refinements)

    def _judge(
        self,
        frame_index: int,
        embedding: Any,
        passes: Sequence[PassState],
        found: Sequence[LowResMask],
        readouts: Sequence[FloatMap],
    ) -> list[StepResult]:
        """Measure every object's uncertainty, and correct masks whose uncertainty rose (thesis, 6.4.4)."""
        tau_p, tau_u = self._thresholds.tau_p, self._thresholds.tau_u
        plain = super()._judge(frame_index, embedding, passes, found, readouts)
        entropy = entropy_map(_probabilities(plain))
        results, uncertain = [], []
        for row, (pass_, each) in enumerate(zip(passes, plain, strict=True)):
            now = masked_entropy(entropy, np.asarray(each.estimate.logits > 0))
            change = None if pass_.uncertainty is None else now - pass_.uncertainty
            # The next frame is compared with what was found, not with what a correction made of it (6.4.4).
            pass_.uncertainty = now
            estimate = replace(each.estimate, uncertainty=now, uncertainty_change=change)
            if change is not None and change >= tau_u:
                estimate = replace(estimate, wants_help=True)
            elif change is not None and change >= tau_p and self._lazy.pseudo_corrections:
                uncertain.append(row)
            results.append(replace(each, estimate=estimate))
        results = self._corrected(embedding, entropy, passes, results, readouts, uncertain)
        return [replace(each, remember=_uncertainty_of(each.estimate) < self._thresholds.tau_m) for each in results]

    def _corrected(
        self,
        embedding: Any,
        entropy: FloatMap,
        passes: Sequence[PassState],
        results: Sequence[StepResult],
        readouts: Sequence[FloatMap],
        rows: Sequence[int],
    ) -> list[StepResult]:
        """The same results, some rows replaced by the method's own corrections where these are accepted.

        The segmenter gets one positive click and what it learnt of the object, but not the mask (6.9). A segmenter with
        a mask prior gets the mask too, as it makes poor masks from single clicks. The thesis accepts every correction.
        Here one is accepted if it is less uncertain and its IoU with the mask is at least ``pseudo_agreement``: a
        single click may mean a part of the object or more than the object.
        """
        clicks = {row: pseudo_correction(entropy, np.asarray(results[row].estimate.logits > 0)) for row in rows}
        clicks_by_row = {row: _click(*spot) for row, spot in clicks.items() if spot is not None}
        if not clicks_by_row:
            return list(results)
        candidates = list(results)
        answers = self._refined(embedding, passes, results, clicks_by_row, readouts)
        for row, answer in zip(clicks_by_row, answers, strict=True):
            logits = self._state.segmenter.to_full_size(embedding, answer.low_res_logits)
            estimate = replace(results[row].estimate, logits=logits, score=answer.score)
            candidates[row] = replace(results[row], found=answer, estimate=estimate)
        entropy = entropy_map(_probabilities(candidates))
        chosen = list(results)
        for row in clicks_by_row:
            old, new = results[row].estimate, candidates[row].estimate
            uncertainty = masked_entropy(entropy, np.asarray(new.logits > 0))
            agrees = iou(new.logits > 0, old.logits > 0) >= self._lazy.pseudo_agreement
            if agrees and uncertainty < _uncertainty_of(old):
                chosen[row] = replace(candidates[row], estimate=replace(new, uncertainty=uncertainty))
        return chosen

    def _refined(
        self,
        embedding: Any,
        passes: Sequence[PassState],
        results: Sequence[StepResult],
        clicks_by_row: Mapping[int, ObjectPrompts],
        readouts: Sequence[FloatMap],
    ) -> list[LowResMask]:
        """The segmenter's masks for one click per row, all in one call; the readouts are added again."""
        prompts, appearance = list(clicks_by_row.values()), [passes[row].appearance for row in clicks_by_row]
        uses_mask = self._state.segmenter.uses_mask_prior
        masks = [results[row].found.low_res_logits if uses_mask else None for row in clicks_by_row]
        once = replace(self._refiner, refinement_iterations=0)
        first = once.run(embedding, prompts, masks, appearance, [None] * len(clicks_by_row), multimask=not uses_mask)
        return self._refiner.refined(embedding, prompts, appearance, first, [readouts[row] for row in clicks_by_row])


def _probabilities(results: Sequence[StepResult]) -> NDArray[np.float32]:
    """(O, H, W) float32 in [0, 1]."""
    return probabilities(np.stack([each.estimate.logits for each in results]))


def _uncertainty_of(estimate: Estimate) -> float:
    return math.inf if estimate.uncertainty is None else estimate.uncertainty


def _click(x_px: float, y_px: float) -> ObjectPrompts:
    return ObjectPrompts(np.array([[x_px, y_px]], np.float32), np.array([True]))
