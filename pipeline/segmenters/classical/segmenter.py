"""The segmenter that needs no download: hand-made features, a memory, a small network per object and a graph cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, Reference, Segmentation
from pipeline.segmenters.classical import features
from pipeline.segmenters.classical.appearance import Appearance, Region
from pipeline.segmenters.classical.boundary import graph_cut
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.segmenters.classical.single_frame import segment_prompted
from pipeline.segmenters.classical.work_prompts import WorkPrompts
from pipeline.types import BoolMask, FrameRGB

PRIOR_WEIGHT = 0.3
MEMORY_WEIGHT = 0.7
MODEL_WEIGHT = 0.7
DISTANCE_WEIGHT = 0.7
REGION_MARGIN = 0.6
SEARCH_DOUBT = 1.0
MIN_OVERLAP_SHARE = 0.3
MIN_KEPT_SHARE = 0.7
POINT_HINT = 1.0
POINT_SIGMA_PX = 3.0
MIN_AREA_SHARE = 0.05
"""An object whose mask shrinks below this share of its usual area counts as gone."""


@dataclass(frozen=True)
class ClassicalSegmenter:
    """See `pipeline.segmenters.base.Segmenter`. ``device`` is where the small network trains and runs."""

    device: str = "cpu"

    @property
    def name(self) -> str:
        """Key of the embedding cache."""
        return f"classical-{features.WORK_LONG_SIDE_PX}"

    def embed(self, frame_rgb: FrameRGB) -> ClassicalEmbedding:
        """Features of one frame."""
        return features.embed(frame_rgb)

    def memorise(self, references: Sequence[Reference]) -> Appearance:
        """Learn one object from its prompted frames."""
        frames = [(r.embedding, to_work_mask(r.mask, r.embedding.work_size_hw_px)) for r in references]
        return Appearance.learn(frames, device=self.device)

    def segment(
        self,
        embedding: ClassicalEmbedding,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        memory: Sequence[Appearance | None] | None = None,
    ) -> Segmentation:
        """Segment one frame, see `pipeline.segmenters.base.Segmenter.segment`.

        Tracked prompts follow the memory, with the prior as a weak hint; prompts of a person bind the mask.
        """
        n_objects = len(prompts.objects)
        priors = mask_input or [None] * n_objects
        memories = memory or [None] * n_objects
        logits, scores = [], []
        for row, object_prompts in enumerate(prompts.objects):
            given = priors[row]
            prior = None if given is None else to_work_map(given, embedding.work_size_hw_px)
            appearance = memories[row]
            if object_prompts.tracked:
                if appearance is None:
                    raise ValueError(
                        "tracked prompts need a memory of at least one prompted frame; call memorise first"
                    )
                mask, soft = follow(embedding, object_prompts, prior, appearance)
            else:
                work = WorkPrompts.of(object_prompts, embedding)
                mask, soft = segment_prompted(embedding, work, prior, appearance, device=self.device)
            logits.append(full_size_logits(mask, embedding.frame_size_hw_px))
            scores.append(confidence(mask, soft))
        return Segmentation(np.stack(logits), np.array(scores, np.float32))


def follow(
    embedding: ClassicalEmbedding, prompts: ObjectPrompts, prior: NDArray[np.float32] | None, appearance: Appearance
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Mask and evidence logits, both (h, w), of an object followed from another frame.

    Args:
        embedding: of this frame.
        prompts: tracked points and box, in original pixels.
        prior: (h, w) logits of the warped mask, or None when the object was lost: then the whole frame is searched.
        appearance: the object's memory.
    """
    h, w = embedding.work_size_hw_px
    evidence = np.full((h, w), -6.0, np.float32)
    if prior is None or not (prior > 0).any():
        return _search(embedding, appearance, evidence)
    warped = prior > 0
    area_px = float(warped.sum())
    ys, xs = np.nonzero(warped)
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    region = Region.around(_hull(box, prompts, embedding), REGION_MARGIN * 0.5, (h, w))
    centre = (float(xs.mean()) / STRIDE_PX, float(ys.mean()) / STRIDE_PX)
    cell_logits, pixel_logits = appearance.read(embedding, region, centre)
    reach = cv2.distanceTransform((~warped).astype(np.uint8), cv2.DIST_L2, 5)[region.slices]
    penalty = np.minimum(reach / (0.25 * np.sqrt(area_px)), 4.0)
    unary = PRIOR_WEIGHT * prior[region.slices] + MEMORY_WEIGHT * cell_logits + MODEL_WEIGHT * pixel_logits
    unary = unary - DISTANCE_WEIGHT * penalty
    unary += _point_hints(prompts, embedding, region)
    evidence[region.slices] = unary
    mask: BoolMask = np.zeros((h, w), np.bool_)
    mask[region.slices] = graph_cut(unary, embedding.lab_u8[region.slices])
    mask = _continued(mask, warped, appearance.area_share * h * w)
    if mask.sum() < MIN_AREA_SHARE * appearance.area_share * h * w:
        mask[:] = False
    return mask, evidence


def _continued(mask: BoolMask, warped: BoolMask, usual_area_px: float) -> BoolMask:
    """The mask without parts that the warped mask does not lead to, unless too little of the object would be left.

    Little is left when the object moved far or came out from behind something; then every part may be it.
    """
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    area_px = np.bincount(labels.ravel())
    common_px = np.bincount(labels[warped], minlength=len(area_px))
    keep = common_px >= MIN_OVERLAP_SHARE * area_px
    keep[0] = False
    if area_px[keep].sum() < MIN_KEPT_SHARE * usual_area_px:
        return mask
    return np.asarray(keep[labels])


def _search(
    embedding: ClassicalEmbedding, appearance: Appearance, evidence: NDArray[np.float32]
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Look for a lost object in the whole frame; found when one region is large and certain enough."""
    h, w = embedding.work_size_hw_px
    cell_logits, pixel_logits = appearance.read(embedding, Region.whole((h, w)), None)
    evidence[:] = MEMORY_WEIGHT * cell_logits + MODEL_WEIGHT * pixel_logits - SEARCH_DOUBT
    mask = graph_cut(evidence, embedding.lab_u8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = np.zeros((h, w), np.bool_)
    if count > 1:
        best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        region = labels == best
        if region.sum() >= 0.25 * appearance.area_share * h * w and float(evidence[region].mean()) > 1.5:
            found = region
    return found, evidence


def _hull(
    box: tuple[float, float, float, float], prompts: ObjectPrompts, embedding: ClassicalEmbedding
) -> tuple[float, float, float, float]:
    """The warped mask's box together with the tracked one, in work pixels."""
    if prompts.box_xyxy_px is None:
        return box
    scale_x, scale_y = embedding.scale_xy
    x0, y0, x1, y1 = prompts.box_xyxy_px
    return (
        min(box[0], x0 * float(scale_x)),
        min(box[1], y0 * float(scale_y)),
        max(box[2], x1 * float(scale_x)),
        max(box[3], y1 * float(scale_y)),
    )


def _point_hints(prompts: ObjectPrompts, embedding: ClassicalEmbedding, region: Region) -> NDArray[np.float32]:
    """(rows, columns) logits that tracked points add around themselves."""
    hints = np.zeros((region.y1 - region.y0, region.x1 - region.x0), np.float32)
    if not len(prompts.points_xy_px):
        return hints
    cells = np.floor(prompts.points_xy_px * embedding.scale_xy).astype(int) - (region.x0, region.y0)
    inside = ((cells >= 0) & (cells < (hints.shape[1], hints.shape[0]))).all(axis=1)
    for (x, y), positive in zip(cells[inside], prompts.positive[inside], strict=True):
        hints[y, x] = 1.0 if positive else -1.0
    spread = cv2.GaussianBlur(hints, (0, 0), POINT_SIGMA_PX) * (2 * np.pi * POINT_SIGMA_PX**2)
    return np.asarray(POINT_HINT * np.clip(spread, -1.0, 1.0), np.float32)


def to_work_mask(mask: BoolMask, work_size_hw_px: tuple[int, int]) -> BoolMask:
    """Reduce a full-size mask; an object too small to cover half a work pixel keeps its best covered ones."""
    h, w = work_size_hw_px
    share = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
    return np.asarray((share >= min(0.5, float(share.max()))) & (share > 0))


def to_work_map(values: FloatMap, work_size_hw_px: tuple[int, int]) -> NDArray[np.float32]:
    """Reduce a full-size map of logits."""
    h, w = work_size_hw_px
    return np.asarray(cv2.resize(values, (w, h), interpolation=cv2.INTER_AREA), np.float32)


def full_size_logits(mask: BoolMask, frame_size_hw_px: tuple[int, int]) -> NDArray[np.float32]:
    """Logits at full size whose zero level is the smoothed border of a work-size mask."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    height_px, width_px = frame_size_hw_px
    soft = cv2.resize(soft, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(8.0 * (soft - 0.5), np.float32)


def confidence(mask: BoolMask, evidence: NDArray[np.float32]) -> float:
    """How far the evidence agrees with the mask, in [0, 1]: expected intersection over expected union."""
    if not mask.any():
        return float(1.0 / (1.0 + np.exp(np.clip(evidence.max(), -10, 10))))
    probability = 1.0 / (1.0 + np.exp(-np.clip(evidence, -10, 10)))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    union = float(mask.sum() + probability[near & ~mask].sum())
    return float(np.clip(probability[mask].sum() / union, 0.0, 1.0))
