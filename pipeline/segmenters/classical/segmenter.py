"""The segmenter that needs no download: hand-made features, a small network per object and a graph cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

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
from pipeline.segmenters.classical.appearance import Appearance
from pipeline.segmenters.classical.features import ClassicalEmbedding
from pipeline.segmenters.classical.following import follow
from pipeline.segmenters.classical.improving import improve
from pipeline.segmenters.classical.local_colour import refined
from pipeline.segmenters.classical.memory import Cells, centre_cell, keys
from pipeline.segmenters.classical.single_frame import segment_prompted
from pipeline.segmenters.classical.work_prompts import WorkPrompts
from pipeline.types import BoolMask, FrameRGB

DECIDED_LOGIT = 0.25
"""Least strength of the logits handed to the next pass: which side of the boundary a pixel is on is never lost."""

FULL_LOGIT = 4.0
SURE_LOGIT, LEAST_STRENGTH = 4.0, 0.1
"""Evidence that counts as certain, and the share of `FULL_LOGIT` that the weakest evidence still gets."""

CLICKED_LOGIT = 100.0
"""Strength of the logits where a person clicked: no later pass and no move of the border changes these pixels."""


@dataclass(frozen=True)
class ClassicalSegmenter:
    """See `pipeline.segmenters.base.Segmenter`. ``device`` is where the small network trains and runs."""

    device: str = "cpu"

    @property
    def name(self) -> str:
        """Key of the embedding cache."""
        return f"classical-{features.WORK_LONG_SIDE_PX}"

    @property
    def uses_mask_prior(self) -> bool:
        """Without it the first pass would have to search the whole frame."""
        return True

    def embed(self, frame_rgb: FrameRGB) -> ClassicalEmbedding:
        """Features of one frame."""
        return features.embed(frame_rgb)

    def features(self, embedding: ClassicalEmbedding) -> torch.Tensor:
        """The orientation histograms of the grid, (80, gh, gw) float32."""
        return torch.from_numpy(np.ascontiguousarray(embedding.grid.transpose(2, 0, 1), dtype=np.float32))

    def key_features(self, embedding: ClassicalEmbedding) -> torch.Tensor:
        """Colour, colour around, and the orientation histograms, weighted as in the memory's keys: (86, gh, gw)."""
        stacked = keys(embedding, embedding.grid.astype(np.float32))
        return torch.from_numpy(np.ascontiguousarray(stacked.transpose(2, 0, 1)))

    def learn(self, references: Sequence[ReferenceFrame], previous: Appearance | None = None) -> Appearance:
        """Train the object's network on its prompted frames."""
        frames = [(r.embedding, to_work_mask(r.mask, r.embedding.work_size_hw_px)) for r in references]
        return Appearance.learn(
            frames, device=self.device, projection=None if previous is None else previous.projection
        )

    def adapt(self, appearance: Appearance, embedding: ClassicalEmbedding, low_res_logits: FloatMap) -> Appearance:
        """Let the network learn on from one more frame, see `Appearance.adapt`."""
        return appearance.adapt(embedding, low_res_logits > 0)

    def segment(
        self,
        embedding: ClassicalEmbedding,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Appearance | None] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,  # noqa: ARG002 - one answer is all it has
    ) -> Segmentation:
        """Segment one frame, see `pipeline.segmenters.base.Segmenter.segment`.

        Tracked prompts are hints; prompts of a person bind the mask.

        Raises:
            ValueError: tracked prompts came without an appearance.
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
        for given, earlier, expected, learnt, memory in rows:
            if earlier is not None:
                mask, evidence = improve(embedding, given, earlier, memory)
            elif not given.tracked:
                work = WorkPrompts.of(given, embedding)
                mask, evidence = segment_prompted(embedding, work, expected, learnt, device=self.device)
            elif learnt is None:
                raise ValueError("tracked prompts need what prompted frames taught; call learn first")
            else:
                mask, evidence = follow(embedding, given, expected, learnt)
            queries.append(_query(embedding, learnt, mask) if earlier is None else MemoryQuery(torch.empty(0, 0)))
            agreed = np.where(mask, np.maximum(evidence, DECIDED_LOGIT), np.minimum(evidence, -DECIDED_LOGIT))
            logits.append(np.where(_clicked(embedding, given), np.where(mask, CLICKED_LOGIT, -CLICKED_LOGIT), agreed))
            scores.append(confidence(mask, evidence))
        return Segmentation(
            np.stack(logits).astype(np.float32)[:, None], np.array(scores, np.float32)[:, None], tuple(queries)
        )

    def memorise(self, embedding: ClassicalEmbedding, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:  # noqa: ARG002
        """Cells of the frame with whether they are object."""
        mask = low_res_logits > 0
        if not mask.any():
            return MemoryEntry(torch.empty(query.keys.shape[0], 0), torch.empty(1, 0))
        entry: MemoryEntry = query.cells.entry(mask)
        return entry

    def to_low_res(self, embedding: ClassicalEmbedding, logits: FloatMap) -> FloatMap:
        """Logits at work size; an object too small to cover half a work pixel keeps its best covered ones."""
        h, w = embedding.work_size_hw_px
        reduced = np.asarray(cv2.resize(logits, (w, h), interpolation=cv2.INTER_AREA), np.float32)
        lost = (logits > 0).any() and not (reduced > 0).any()
        if lost:
            reduced[to_work_mask(logits > 0, (h, w))] = DECIDED_LOGIT
        return reduced

    def to_full_size(self, embedding: ClassicalEmbedding, low_res_logits: FloatMap) -> FloatMap:
        """Logits at full size: zero at the mask's smoothed border, which is brought to the frame's edges.

        Away from the border they are as strong as the evidence was, within +-`FULL_LOGIT`, so that of two passes that
        disagree on a frame the surer one wins.
        """
        border = refined(low_res_logits > 0, embedding, np.abs(low_res_logits) >= CLICKED_LOGIT)
        soft = cv2.GaussianBlur(border.astype(np.float32), (0, 0), 0.8)
        height_px, width_px = embedding.frame_size_hw_px
        soft = cv2.resize(soft, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        share = np.clip(np.abs(low_res_logits) / SURE_LOGIT, LEAST_STRENGTH, 1.0).astype(np.float32)
        strength = np.asarray(cv2.resize(share, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.float32)
        return np.asarray(2 * FULL_LOGIT * (soft - 0.5) * strength, np.float32)


def _clicked(embedding: ClassicalEmbedding, prompts: ObjectPrompts) -> BoolMask:
    """Pixels (h, w) under a person's clicks."""
    if prompts.tracked or not len(prompts.points_xy_px):
        return np.zeros(embedding.work_size_hw_px, np.bool_)
    work = WorkPrompts.of(prompts, embedding)
    return work.positive | work.negative


def _query(embedding: ClassicalEmbedding, appearance: Appearance | None, mask: BoolMask) -> MemoryQuery:
    """Ask the memory about the cells around a mask; about all of them, wherever they are, when there is none."""
    if appearance is None:
        return MemoryQuery(torch.empty(0, 0))
    return Cells.of(embedding, appearance.projection, mask).query(centre_cell(mask) if mask.any() else None)


def to_work_mask(mask: BoolMask, work_size_hw_px: tuple[int, int]) -> BoolMask:
    """Reduce a full-size mask; an object too small to cover half a work pixel keeps its best covered ones."""
    h, w = work_size_hw_px
    share = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
    return np.asarray((share >= min(0.5, float(share.max()))) & (share > 0))


def confidence(mask: BoolMask, evidence: NDArray[np.float32]) -> float:
    """How far the evidence agrees with the mask, in [0, 1]: expected intersection over expected union."""
    if not mask.any():
        return float(1.0 / (1.0 + np.exp(np.clip(evidence.max(), -10, 10))))
    probability = 1.0 / (1.0 + np.exp(-np.clip(evidence, -10, 10)))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    union = float(mask.sum() + probability[near & ~mask].sum())
    return float(np.clip(probability[mask].sum() / union, 0.0, 1.0))
