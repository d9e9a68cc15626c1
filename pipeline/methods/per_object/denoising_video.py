"""A video in which each frame's mask prompts the next: boxes around the last mask, jittered, compete (SAM-PD, III)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.masks import bounding_box, iou, saturated_logits
from pipeline.methods.base import Anchor, Estimate, ObjectRound, PropagationPass
from pipeline.methods.common.decoding import Decoder, ObjectMemory
from pipeline.methods.common.video_state import LearnedObject, VideoState
from pipeline.methods.sam_pd import SamPdSettings
from pipeline.schedule import schedule
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, Segmentation
from pipeline.types import BoolMask, RunLengthMask
from pipeline.video.frames import FrameError

Box = tuple[float, float, float, float]
Point = NDArray[np.float32]
MOSTLY = 0.5
"""Share of another object's mask; see `negative_point`."""


@dataclass(frozen=True)
class DenoisingMemory:
    """One object in one round; ``other_masks`` as in `ObjectRound`."""

    object_id: int
    object_memory: ObjectMemory
    other_masks: Callable[[int], Mapping[int, RunLengthMask]]


@dataclass
class RunningPass:
    """A running pass.

    Attributes:
        position: among the passes that run together.
        given: what to propagate.
        last_seen: logits (H, W) of the newest mask that is not empty; while the object is lost, its box prompts.
        template: the object's features (C, h0, w0) on its prompted frame, background zeroed; None before the first
            step.
    """

    position: int
    given: PropagationPass
    last_seen: FloatMap
    template: torch.Tensor | None = None

    @property
    def memory(self) -> DenoisingMemory:
        """Of the object."""
        memory: DenoisingMemory = self.given.memory
        return memory

    @property
    def is_absent(self) -> bool:
        """Whether the pass starts from a frame that does not show the object."""
        return not self.given.anchor.mask.any()


class DenoisingVideo:
    """See `pipeline.methods.base.BatchedVideo`."""

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
        return DenoisingMemory(task.object_id, ObjectMemory(learnt, None, len(task.anchors)), task.other_masks)

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
        """Segment frame by frame. While the object is lost, the box of its last non-empty mask is the prompt.

        From an anchor with an empty mask nothing is looked for: the method starts from a mask.
        """
        for _, estimate in self.propagate_together([PropagationPass(anchor, frame_indices, memory)]):
            yield estimate

    def propagate_together(self, passes: Sequence[PropagationPass]) -> Iterator[tuple[int, Estimate]]:
        """Several passes in turn; objects that are next on the same frame keep off each other (SAM-PD, III-D)."""
        running = [RunningPass(n, each, saturated_logits(each.anchor.mask)) for n, each in enumerate(passes)]
        for frame_index, positions in schedule([each.frame_indices for each in passes]):
            together = [running[position] for position in positions]
            try:
                estimates = self._step(frame_index, together)
            except FrameError:
                continue
            for each, estimate in zip(together, estimates, strict=True):
                if (estimate.logits > 0).any():
                    each.last_seen = estimate.logits
                yield each.position, estimate

    def _step(self, frame_index: int, passes: Sequence[RunningPass]) -> list[Estimate]:
        """One frame of several objects: first the coarse masks of all of them, then each one refined."""
        present = [each for each in passes if not each.is_absent]
        if not present:
            self._state.frames.frame(frame_index)
        nothing = saturated_logits(np.zeros(self._state.frames.size_hw_px, np.bool_))
        estimates = {each.position: Estimate(frame_index, nothing, 1.0) for each in passes}
        if present:
            coarse = self._coarse(frame_index, present, passes)
            estimates |= self._refined(frame_index, present, passes, coarse)
        return [estimates[each.position] for each in passes]

    def _coarse(
        self, frame_index: int, present: Sequence[RunningPass], passes: Sequence[RunningPass]
    ) -> list[tuple[FloatMap, float]]:
        """Of each object the answer to all its boxes that looks most like it: logits (h, w) and score (III-C)."""
        masks = {each.memory.object_id: np.asarray(each.last_seen > 0) for each in passes}
        negatives = self._negatives(frame_index, present, masks)
        embedding, features = self._state.embedding(frame_index), self._features(frame_index)
        rows = []
        for each, inside_others in zip(present, negatives, strict=True):
            boxes = jittered_boxes(bounding_box(each.last_seen > 0), self._settings, self._state.frames.size_hw_px)
            points, signs = _signed(np.zeros((0, 2), np.float32), inside_others)
            rows.append([ObjectPrompts(points, signs, box, tracked=True) for box in boxes])
        found = self._segment(frame_index, embedding, present, rows)
        answers, first = [], 0
        for each, of_object in zip(present, rows, strict=True):
            candidates = found.low_res_logits[first : first + len(of_object), 0]
            template = self._template(each)
            alike = [float(correlation_peak(template, masked_crop(features, logits))) for logits in candidates]
            best = int(np.argmax(alike))
            answers.append((candidates[best], float(found.predicted_iou[first + best, 0])))
            first += len(of_object)
        return answers

    def _refined(
        self,
        frame_index: int,
        present: Sequence[RunningPass],
        passes: Sequence[RunningPass],
        coarse: Sequence[tuple[FloatMap, float]],
    ) -> dict[int, Estimate]:
        """Each mask again, from a point deep inside it and points deep inside all other objects (III-D), by position.

        Where this finds nothing, the coarse mask stays.
        """
        full = [np.asarray(self._state.full_size(frame_index, logits) > 0) for logits, _ in coarse]
        nothing: BoolMask = np.zeros(self._state.frames.size_hw_px, np.bool_)
        masks = {each.memory.object_id: nothing for each in passes}
        masks |= {each.memory.object_id: mask for each, mask in zip(present, full, strict=True)}
        kept = {each.position: answer for each, answer in zip(present, coarse, strict=True)}
        shown = [each for each in present if masks[each.memory.object_id].any()]
        rows = []
        for each, negatives in zip(shown, self._negatives(frame_index, shown, masks), strict=True):
            inside = deepest_point(masks[each.memory.object_id])[None]
            rows.append([ObjectPrompts(*_signed(inside, negatives), tracked=True)])
        if rows:
            found = self._segment(frame_index, self._state.embedding(frame_index), shown, rows, kept)
            for row, each in enumerate(shown):
                chosen = self._chosen(frame_index, found.low_res_logits[row], each)
                if (found.low_res_logits[row, chosen] > 0).any():
                    kept[each.position] = found.low_res_logits[row, chosen], float(found.predicted_iou[row, chosen])
        return {
            position: Estimate(frame_index, self._state.full_size(frame_index, logits), score)
            for position, (logits, score) in kept.items()
        }

    def _chosen(self, frame_index: int, candidates: FloatMap, running: RunningPass) -> int:
        """Which of the refined masks (K, h, w) is kept: the largest one, or the one most like the last mask."""
        if self._settings.keep == "largest":
            return int(np.argmax((candidates > 0).sum(axis=(1, 2))))
        last = self._state.low_res(frame_index, running.last_seen) > 0
        return int(np.argmax([iou(candidate > 0, last) for candidate in candidates]))

    def _negatives(
        self, frame_index: int, objects: Sequence[RunningPass], masks: Mapping[int, BoolMask]
    ) -> list[list[Point]]:
        """For each object a point in every other one, by its mask in ``masks`` or else its known mask of the frame."""
        deepest: dict[int, Point] = {}
        known = dict(masks)
        points = []
        for each in objects:
            own_id = each.memory.object_id
            for other_id, of_frame in each.memory.other_masks(frame_index).items():
                if other_id not in known:
                    known[other_id] = of_frame.decode()
            inside = []
            for other_id, mask in known.items():
                if other_id == own_id or not mask.any():
                    continue
                if other_id not in deepest:
                    deepest[other_id] = deepest_point(mask)
                point = negative_point(known[own_id], mask, deepest[other_id])
                inside += [] if point is None else [point]
            points.append(inside)
        return points

    def _segment(
        self,
        frame_index: int,
        embedding: Any,
        objects: Sequence[RunningPass],
        rows: Sequence[Sequence[ObjectPrompts]],
        coarse: Mapping[int, tuple[FloatMap, float]] | None = None,
    ) -> Segmentation:
        """All rows of all objects in one call; with coarse masks, by position, several candidates for each."""
        carried, appearance = [], []
        for each, of_object in zip(objects, rows, strict=True):
            mask = self._state.low_res(frame_index, each.last_seen) if coarse is None else coarse[each.position][0]
            carried += [mask] * len(of_object)
            appearance += [each.memory.object_memory.appearance] * len(of_object)
        return self._state.segmenter.segment(
            embedding,
            PromptBatch(tuple(prompts for of_object in rows for prompts in of_object)),
            mask_prior=carried,
            appearance=appearance,
            multimask=coarse is not None,
        )

    def _features(self, frame_index: int) -> torch.Tensor:
        return self._state.segmenter.features(self._state.embedding(frame_index))

    def _template(self, running: RunningPass) -> torch.Tensor:
        """The object's features on its prompted frame, background zeroed: (C, h0, w0)."""
        if running.template is None:
            anchor = running.given.anchor
            mask = self._state.low_res(anchor.frame_index, saturated_logits(anchor.mask))
            running.template = masked_crop(self._features(anchor.frame_index), mask)
        return running.template


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


def deepest_point(mask: BoolMask) -> Point:
    """The pixel farthest from the mask's border, x and y; the mask must not be empty."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([x, y], np.float32)


def negative_point(own: BoolMask, other: BoolMask, deepest: Point) -> Point | None:
    """A point that says where another object is, without cutting into this one.

    SAM-PD (III-D) takes the other mask's deepest point, and notes that it may make masks unstable (Table V). Where
    masks overlap, that point may lie inside this object. Then one deep in what is the other's alone is taken, if that
    is most of it. If this mask covers most of a much smaller one, it has grown over that, and the deepest point stays.
    Else both masks are nearly the same, and nobody knows whose the pixels are.

    Args:
        own: this object's mask (H, W).
        other: the other's, not empty.
        deepest: x and y of ``deepest_point(other)``.

    Returns:
        x and y in pixels; None for no point.
    """
    x, y = deepest.astype(int)
    if not own[y, x]:
        return deepest
    alone, area_px = other & ~own, int(other.sum())
    if int(alone.sum()) >= MOSTLY * area_px:
        return deepest_point(alone)
    return deepest if area_px <= MOSTLY * int(own.sum()) else None


def _signed(positive: Point, negatives: Sequence[Point]) -> tuple[Point, NDArray[np.bool_]]:
    """Points (N, 2) and their signs (N,), the positive ones first."""
    points = np.concatenate([positive, *(each[None] for each in negatives)]).astype(np.float32)
    return points, np.array([True] * len(positive) + [False] * len(negatives), np.bool_)
