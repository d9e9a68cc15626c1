"""The segmenter that needs no download: hand-made features, a small network per object and a graph cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.masks import reduced_mask
from pipeline.parts.context import PartContext
from pipeline.segmenters.base import (
    FloatMap,
    MemoryEntry,
    MemoryQuery,
    MemoryReadout,
    ObjectPrompts,
    PromptBatch,
    ReferenceFrame,
    Segmentation,
)
from pipeline.segmenters.classical import features
from pipeline.segmenters.classical.appearance import AppearanceModel
from pipeline.segmenters.classical.boundary import refine_border
from pipeline.segmenters.classical.box_prompt import segment_box
from pipeline.segmenters.classical.features import ClassicalEmbedding
from pipeline.segmenters.classical.memory import QueriedCells, cell_keys, centre_cell
from pipeline.segmenters.classical.prompts import ABSENT_LOGIT, ClickSolver, MaskAndLogits, WorkPrompts
from pipeline.segmenters.classical.propagation import propagate, refine
from pipeline.types import BoolMask, FrameRGB
from pipeline.uncertainty import UncertaintyThresholds

MIN_DECIDED_LOGIT = 0.25
"""Least strength of the logits given to the next pass, so that the side of the border of a pixel is never lost."""
CLICKED_LOGIT = 100.0
"""Strength of the logits where a person clicked; no later pass and no refined border changes these pixels."""
FULL_LOGIT = 4.0
"""Strength of full-size logits where the evidence is certain."""
CERTAIN_LOGIT = 4.0
"""Work-size logit that counts as certain."""
MIN_STRENGTH = 0.1
"""Share of `FULL_LOGIT` that the weakest evidence still gets."""
BORDER_BLUR_SIGMA_PX = 0.8
"""Gaussian that smooths the border of a full-size mask, in pixels of the fine image."""
SCORE_AREA_SIDE_PX = 9
"""Side of the square by which a mask is dilated to the area that its score is computed on."""
SCORE_LOGIT_LIMIT = 10
"""Logits are clipped to plus or minus this before a score is computed."""


@dataclass(frozen=True)
class ClassicalSegmenter:
    """See `pipeline.segmenters.base.Segmenter`. ``device`` is where the small network trains and runs."""

    device: str = "cpu"
    uncertainty_thresholds: ClassVar[UncertaintyThresholds] = UncertaintyThresholds(0.0407, 0.0183, 0.8)
    """By `ivos calibrate` on twelve clips (benchmarks/calibration.json), except tau_m: the 0.1927 found there kept so
    many frames out of the memory that one clip became worse (docs/results.md)."""

    @property
    def name(self) -> str:
        """Key of the embedding cache."""
        return f"classical-{features.WORK_LONG_SIDE_PX}"

    @property
    def uses_mask_prior(self) -> bool:
        """True: without one the first pass would have to search the whole frame."""
        return True

    def embed(self, frame_rgb: FrameRGB) -> ClassicalEmbedding:
        """Compute the features of one frame."""
        return features.embed(frame_rgb)

    def features(self, embedding: ClassicalEmbedding) -> torch.Tensor:
        """The orientation histograms of the grid, (80, gh, gw) float32."""
        return torch.from_numpy(np.ascontiguousarray(embedding.orientations.transpose(2, 0, 1), dtype=np.float32))

    def key_features(self, embedding: ClassicalEmbedding) -> torch.Tensor:
        """Colour, blurred colour and orientation histograms, weighted as in the memory's keys: (86, gh, gw)."""
        stacked = cell_keys(embedding, embedding.orientations.astype(np.float32))
        return torch.from_numpy(np.ascontiguousarray(stacked.transpose(2, 0, 1)))

    def learn(self, references: Sequence[ReferenceFrame], previous: AppearanceModel | None = None) -> AppearanceModel:
        """Train the object's network on its prompted frames."""
        frames = [(r.embedding, reduced_mask(r.mask, r.embedding.work_size_hw_px)) for r in references]
        return AppearanceModel.learn(
            frames, device=self.device, projection=None if previous is None else previous.projection
        )

    def adapt(
        self, appearance: AppearanceModel, embedding: ClassicalEmbedding, low_res_logits: FloatMap
    ) -> AppearanceModel:
        """Train the object's network a little on one more frame, see `AppearanceModel.adapt`."""
        return appearance.adapt(embedding, low_res_logits > 0)

    def segment(
        self,
        embedding: ClassicalEmbedding,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[AppearanceModel | None] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,  # noqa: ARG002 - it has one mask per object
    ) -> Segmentation:
        """Segment one frame, see `pipeline.segmenters.base.Segmenter.segment`.

        Raises:
            ValueError: tracked prompts came without an appearance model.
        """
        nothing = [None] * len(prompts.objects)
        logits, scores, queries = [], [], []
        rows = zip(
            prompts.objects,
            mask_input or nothing,
            mask_prior or nothing,
            appearance or nothing,
            readout or nothing,
            strict=True,
        )
        for given, previous_logits, prior, model, read in rows:
            if previous_logits is not None:
                mask, evidence = refine(embedding, given, previous_logits, read)
                queries.append(MemoryQuery(torch.empty(0, 0)))
            else:
                mask, evidence = self._first_pass(embedding, given, prior, model)
                queries.append(_memory_query(embedding, model, mask))
            agreed = np.where(mask, np.maximum(evidence, MIN_DECIDED_LOGIT), np.minimum(evidence, -MIN_DECIDED_LOGIT))
            clicked = _clicked_pixels(embedding, given)
            logits.append(np.where(clicked, np.where(mask, CLICKED_LOGIT, -CLICKED_LOGIT), agreed))
            scores.append(agreement_score(mask, evidence))
        return Segmentation(
            np.stack(logits).astype(np.float32)[:, None], np.array(scores, np.float32)[:, None], tuple(queries)
        )

    def memorise(self, embedding: ClassicalEmbedding, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:  # noqa: ARG002
        """A sample of the frame's cells, and whether each is object; no cells if the mask is empty."""
        mask = low_res_logits > 0
        if not mask.any():
            return MemoryEntry(torch.empty(query.keys.shape[0], 0), torch.empty(1, 0))
        entry: MemoryEntry = query.cells.entry(mask)
        return entry

    def to_low_res(self, embedding: ClassicalEmbedding, logits: FloatMap) -> FloatMap:
        """Logits at work size; an object that covers half of no work pixel keeps the best covered ones."""
        h, w = embedding.work_size_hw_px
        reduced = np.asarray(cv2.resize(logits, (w, h), interpolation=cv2.INTER_AREA), np.float32)
        if (logits > 0).any() and not (reduced > 0).any():
            reduced[reduced_mask(logits > 0, (h, w))] = MIN_DECIDED_LOGIT
        return reduced

    def to_full_size(self, embedding: ClassicalEmbedding, low_res_logits: FloatMap) -> FloatMap:
        """Logits at full size: zero at the mask's smoothed border, which is moved to the frame's edges.

        Away from the border they are as strong as the evidence was, within plus or minus `FULL_LOGIT`. So if two passes
        disagree on a frame, the surer one wins.
        """
        fine_mask = refine_border(low_res_logits > 0, embedding, np.abs(low_res_logits) >= CLICKED_LOGIT)
        soft = cv2.GaussianBlur(fine_mask.astype(np.float32), (0, 0), BORDER_BLUR_SIGMA_PX)
        height_px, width_px = embedding.frame_size_hw_px
        soft = cv2.resize(soft, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        share = np.clip(np.abs(low_res_logits) / CERTAIN_LOGIT, MIN_STRENGTH, 1.0).astype(np.float32)
        strength = np.asarray(cv2.resize(share, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.float32)
        return np.asarray(2 * FULL_LOGIT * (soft - 0.5) * strength, np.float32)

    def _first_pass(
        self,
        embedding: ClassicalEmbedding,
        prompts: ObjectPrompts,
        mask_prior: FloatMap | None,
        appearance: AppearanceModel | None,
    ) -> MaskAndLogits:
        """Mask and logits, both (h, w), of one object before any readout of the memory."""
        if prompts.tracked:
            if appearance is None:
                raise ValueError("tracked prompts need an appearance model of prompted frames; call learn first")
            return propagate(embedding, prompts, mask_prior, appearance)
        work_prompts = WorkPrompts.of(prompts, embedding)
        if work_prompts.box is not None:
            return segment_box(embedding, work_prompts, mask_prior, appearance, self.device)
        solver = ClickSolver(embedding, work_prompts, appearance, self.device)
        if mask_prior is not None and (mask_prior > 0).any():
            return solver.correct(mask_prior)
        if len(work_prompts.positive_xy):
            return solver.segment()
        size = embedding.work_size_hw_px
        return np.zeros(size, np.bool_), np.full(size, ABSENT_LOGIT, np.float32)


def agreement_score(mask: BoolMask, logits: NDArray[np.float32]) -> float:
    """How far the logits agree with the mask, in [0, 1]: expected intersection over expected union.

    For an empty mask: how improbable an object is at the pixel with the highest logit.
    """
    limit = SCORE_LOGIT_LIMIT
    if not mask.any():
        return float(1.0 / (1.0 + np.exp(np.clip(logits.max(), -limit, limit))))
    probability = 1.0 / (1.0 + np.exp(-np.clip(logits, -limit, limit)))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((SCORE_AREA_SIDE_PX,) * 2, np.uint8)).astype(bool)
    union = float(mask.sum() + probability[near & ~mask].sum())
    return float(np.clip(probability[mask].sum() / union, 0.0, 1.0))


def _clicked_pixels(embedding: ClassicalEmbedding, prompts: ObjectPrompts) -> BoolMask:
    """Pixels (h, w) under a person's clicks."""
    if prompts.tracked or not len(prompts.points_xy_px):
        return np.zeros(embedding.work_size_hw_px, np.bool_)
    work_prompts = WorkPrompts.of(prompts, embedding)
    return work_prompts.positive | work_prompts.negative


def _memory_query(embedding: ClassicalEmbedding, appearance: AppearanceModel | None, mask: BoolMask) -> MemoryQuery:
    """Query the cells around a mask; all cells, with their position left out, if the mask is empty."""
    if appearance is None:
        return MemoryQuery(torch.empty(0, 0))
    cells = QueriedCells.around(embedding, appearance.projection, mask)
    return cells.query(centre_cell(mask) if mask.any() else None)


def build(context: PartContext) -> ClassicalSegmenter:
    """The segmenter that needs no weights."""
    return ClassicalSegmenter(device=context.device)
