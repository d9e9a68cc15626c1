"""A video in which each frame's mask prompts the next: boxes around the last mask, jittered, compete (SAM-PD, III)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.masks import bounding_box, saturated_logits
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.methods.common.decoding import Decoder, ObjectMemory
from pipeline.methods.common.video_state import LearnedObject, VideoState
from pipeline.methods.sam_pd import SamPdSettings
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, Segmentation
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DenoisingMemory:
    """One object in one round; ``other_masks`` as in `ObjectRound`."""

    object_memory: ObjectMemory
    other_masks: Callable[[int], Sequence[BoolMask]]


class DenoisingVideo:
    """See `pipeline.methods.base.PerObjectVideo`."""

    clicks_only = False
    fusion_score_power = 0.0

    def __init__(self, state: VideoState, decoder: Decoder, settings: SamPdSettings) -> None:
        self._state, self._decoder, self._settings = state, decoder, settings

    @property
    def held_bytes(self) -> int:
        """Bytes of the objects' memories."""
        return self._state.held_bytes

    def forget(self, object_id: int) -> None:
        """Drop what the segmenter learnt of an object."""
        self._state.objects.pop(object_id, None)

    def begin_round(self, task: ObjectRound) -> DenoisingMemory:
        """Let the segmenter learn from the prompted frames."""
        known = self._state.objects.setdefault(task.object_id, LearnedObject(None))
        learnt = self._state.learn(known, task.anchors)
        return DenoisingMemory(ObjectMemory(learnt, None, len(task.anchors)), task.other_masks)

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: DenoisingMemory | None
    ) -> Estimate:
        """Segment one frame from a person's prompts."""
        known = memory.object_memory if memory is not None else ObjectMemory.nothing()
        embedding = self._state.embedding(frame_index)
        low_res = None if prior is None else self._state.low_res(frame_index, prior)
        decoded = self._decoder.decode_prompted(embedding, prompts, known, low_res)
        return Estimate(frame_index, self._state.full_size(frame_index, decoded.low_res_logits), decoded.score)

    def propagate(self, anchor: Anchor, frame_indices: range, memory: DenoisingMemory) -> Iterator[Estimate]:
        """Segment frame by frame. While the object is lost, the box of its last non-empty mask is the prompt."""
        if not anchor.mask.any():
            return
        template = self._template(anchor)
        last_seen = saturated_logits(anchor.mask)
        for frame_index in frame_indices:
            try:
                estimate = self._step(frame_index, last_seen, template, memory)
            except FrameError:
                continue
            if (estimate.logits > 0).any():
                last_seen = estimate.logits
            yield estimate

    def _template(self, anchor: Anchor) -> torch.Tensor:
        """The object's features on its prompted frame, background zeroed: (C, h0, w0)."""
        embedding = self._state.embedding(anchor.frame_index)
        mask = self._state.low_res(anchor.frame_index, saturated_logits(anchor.mask))
        return masked_crop(self._state.segmenter.features(embedding), mask)

    def _step(self, frame_index: int, previous: FloatMap, template: torch.Tensor, memory: DenoisingMemory) -> Estimate:
        segmenter, embedding = self._state.segmenter, self._state.embedding(frame_index)
        carried = self._state.low_res(frame_index, previous)
        boxes = jittered_boxes(bounding_box(previous > 0), self._settings, self._state.frames.size_hw_px)
        rows = tuple(ObjectPrompts(box_xyxy_px=box, tracked=True) for box in boxes)
        coarse = self._segment(embedding, rows, carried, memory)
        features = segmenter.features(embedding)
        similarity = [
            float(correlation_peak(template, masked_crop(features, logits))) for logits in coarse.low_res_logits[:, 0]
        ]
        chosen = coarse.low_res_logits[int(np.argmax(similarity)), 0]
        refined, score = self._refine(frame_index, embedding, chosen, carried, memory)
        if not (refined > 0).any():
            refined, score = chosen, float(coarse.predicted_iou[int(np.argmax(similarity)), 0])
        return Estimate(frame_index, self._state.full_size(frame_index, refined), score)

    def _refine(
        self, frame_index: int, embedding: Any, coarse: FloatMap, carried: FloatMap, memory: DenoisingMemory
    ) -> tuple[FloatMap, float]:
        """Refine a mask with a positive point deep inside it and a negative one deep inside every other object."""
        mask = self._state.full_size(frame_index, coarse) > 0
        if not mask.any():
            return coarse, 0.0
        points = [
            deepest_point(mask),
            *(deepest_point(other) for other in memory.other_masks(frame_index) if other.any()),
        ]
        signs = np.array([True] + [False] * (len(points) - 1), np.bool_)
        prompts = ObjectPrompts(np.array(points, np.float32), signs, tracked=True)
        found = self._segment(embedding, (prompts,), coarse, memory, multimask=True)
        candidates = found.low_res_logits[0]
        if self._settings.keep == "largest":
            row = int(np.argmax((candidates > 0).sum(axis=(1, 2))))
        else:
            row = int(np.argmax([_overlap(candidate > 0, carried > 0) for candidate in candidates]))
        return candidates[row], float(found.predicted_iou[0, row])

    def _segment(
        self,
        embedding: Any,
        rows: tuple[ObjectPrompts, ...],
        carried: FloatMap,
        memory: DenoisingMemory,
        multimask: bool = False,
    ) -> Segmentation:
        return self._state.segmenter.segment(
            embedding,
            PromptBatch(rows),
            mask_prior=[carried] * len(rows),
            appearance=[memory.object_memory.appearance] * len(rows),
            multimask=multimask,
        )


def jittered_boxes(box: Box, settings: SamPdSettings, size_hw_px: tuple[int, int]) -> list[Box]:
    """The box at 3 x 3 grid positions in every scale, cut to the image; the box itself first (SAM-PD, IV-A)."""
    x0, y0, x1, y1 = box
    width_px, height_px = x1 - x0, y1 - y0
    steps = (0.0, -settings.grid_step, settings.grid_step)
    boxes = []
    for scale in settings.scales:
        for down in steps:
            for right in steps:
                cx, cy = (x0 + x1) / 2 + right * width_px, (y0 + y1) / 2 + down * height_px
                half_w, half_h = scale * width_px / 2, scale * height_px / 2
                left, top = max(0.0, cx - half_w), max(0.0, cy - half_h)
                right_px, bottom = min(float(size_hw_px[1]), cx + half_w), min(float(size_hw_px[0]), cy + half_h)
                boxes.append((left, top, max(right_px, left + 1.0), max(bottom, top + 1.0)))
    return boxes


def masked_crop(features: torch.Tensor, low_res_logits: FloatMap) -> torch.Tensor:
    """Features (C, h', w') inside a mask given as logits (h, w), cropped to its box; (C, 0, 0) for an empty mask."""
    height, width = features.shape[1:]
    share = cv2.resize((low_res_logits > 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    inside = share >= min(0.5, float(share.max()))
    if not share.any():
        return features[:, :0, :0]
    ys, xs = np.nonzero(inside)
    part = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
    weights = torch.from_numpy(np.ascontiguousarray(inside[part])).to(features.device)
    return features[:, part[0], part[1]] * weights


def correlation_peak(template: torch.Tensor, crop: torch.Tensor) -> torch.Tensor:
    """The maximum cross-correlation of two feature crops (C, h, w) over all shifts (SAM-PD, Eq. 2)."""
    if not template.numel() or not crop.numel():
        return torch.tensor(-torch.inf)
    size = [template.shape[axis] + crop.shape[axis] - 1 for axis in (1, 2)]
    spectrum = (torch.fft.rfft2(crop.float(), s=size) * torch.fft.rfft2(template.float(), s=size).conj()).sum(dim=0)
    peak: torch.Tensor = torch.fft.irfft2(spectrum, s=size).max()
    return peak


def deepest_point(mask: BoolMask) -> NDArray[np.float32]:
    """The pixel farthest from the mask's border, x and y; the mask must not be empty."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([x, y], np.float32)


def _overlap(a: BoolMask, b: BoolMask) -> float:
    union = int((a | b).sum())
    return float((a & b).sum()) / union if union else 1.0
