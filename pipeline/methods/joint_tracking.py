"""Points, a box and the warped mask are followed together and prompt the segmenter on every frame (I-PT, III-C)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import sampling
from pipeline.embeddings import EmbeddingCache
from pipeline.methods.base import Anchor, Estimate
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, Reference, Segmenter
from pipeline.trackers._frames import reduced_grey
from pipeline.trackers.boxes.base import BoxQuery, BoxTracker
from pipeline.trackers.dense_flow import warp_logits
from pipeline.trackers.points.base import PointQueries, PointTracker
from pipeline.types import BoolMask
from pipeline.video import FrameError, FrameSource


@dataclass(frozen=True)
class JointTrackingSettings:
    """``restart_frames``: trackers start anew from the latest mask this often (SAM-PT: every 8 frames)."""

    n_points: int = 48
    restart_frames: int = 8
    min_box_score: float = 0.4
    box_slack: float = 0.15
    flow_long_side_px: int = 214


@dataclass(frozen=True)
class JointTracking:
    """See `pipeline.methods.base.Method`. All parts are shared by the videos; the cache is bounded."""

    segmenter: Segmenter
    point_tracker: PointTracker
    box_tracker: BoxTracker
    embeddings: EmbeddingCache[Any]
    settings: JointTrackingSettings = JointTrackingSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> JointTrackingVideo:
        """Start work on a video."""
        return JointTrackingVideo(self, frames)


class JointTrackingVideo:
    """See `pipeline.methods.base.OpenVideo`."""

    def __init__(self, parts: JointTracking, frames: FrameSource) -> None:
        self._parts, self._frames = parts, frames
        self._key = next(parts.video_keys)

    def embedding(self, frame_index: int) -> Any:
        """The segmenter's embedding of a frame, from the cache if it is there."""
        segmenter = self._parts.segmenter
        key = (segmenter.name, self._key, frame_index)
        return self._parts.embeddings.get_or_make(key, lambda: segmenter.embed(self._frames.frame(frame_index)))

    def learn(self, anchors: Sequence[Anchor]) -> Any:
        """Let the segmenter memorise the prompted frames."""
        references = [Reference(self.embedding(anchor.frame_index), anchor.mask) for anchor in anchors]
        return self._parts.segmenter.memorise(references)

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: Any
    ) -> Estimate:
        """Segment one frame from a person's prompts."""
        batch = PromptBatch((prompts,))
        found = self._parts.segmenter.segment(
            self.embedding(frame_index), batch, mask_input=[prior], memory=None if memory is None else [memory]
        )
        return Estimate(frame_index, found.mask_logits[0], float(found.predicted_iou[0]))

    def propagate(self, anchor: Anchor, frame_indices: range, memory: Any) -> Iterator[Estimate]:
        """Follow the object frame by frame, restarting the trackers from the latest mask every few frames."""
        mask, start = anchor.mask, anchor.frame_index
        for first in range(0, len(frame_indices), self._parts.settings.restart_frames):
            part = frame_indices[first : first + self._parts.settings.restart_frames]
            for estimate in self._follow(start, mask, part, memory):
                mask = estimate.logits > 0
                yield estimate
            start = part[-1]

    def _follow(self, start: int, mask: BoolMask, part: range, memory: Any) -> Iterator[Estimate]:
        """Segment the frames of one stretch, prompting with tracks that start at the mask of frame ``start``."""
        tracked = self._tracked_prompts(start, mask, range(start, part[-1] + part.step, part.step))
        long_side_px = self._parts.settings.flow_long_side_px
        previous_grey, _ = reduced_grey(self._frames, start, long_side_px)
        logits = np.where(mask, 4.0, -4.0).astype(np.float32)
        for prompts, frame_index in zip(tracked[1:], part, strict=True):
            grey, _ = reduced_grey(self._frames, frame_index, long_side_px)
            if grey is None:
                continue
            prior = None
            if previous_grey is not None and (logits > 0).any():
                prior = _warp_full_size(previous_grey, grey, logits)
            try:
                embedding = self.embedding(frame_index)
            except FrameError:
                continue
            found = self._parts.segmenter.segment(
                embedding, PromptBatch((prompts,)), mask_input=[prior], memory=[memory]
            )
            logits = found.mask_logits[0]
            previous_grey = grey
            yield Estimate(frame_index, logits, float(found.predicted_iou[0]))

    def _tracked_prompts(self, start: int, mask: BoolMask, frame_range: range) -> list[ObjectPrompts]:
        """Per frame of the range the visible points inside the tracked box, and that box where it is certain."""
        settings = self._parts.settings
        nothing = [ObjectPrompts(tracked=True)] * len(frame_range)
        if not mask.any():
            return nothing
        grey, scale = reduced_grey(self._frames, start, 640)
        if grey is None:
            return nothing
        core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
        small = cv2.resize(core if core.any() else mask.astype(np.uint8), (grey.shape[1], grey.shape[0]))
        points = sampling.mixed(grey, small.astype(np.bool_), settings.n_points) / np.float32(scale)
        tracks = self._parts.point_tracker.track(self._frames, PointQueries(start, points), frame_range)
        ys, xs = np.nonzero(mask)
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        boxes = self._parts.box_tracker.track(self._frames, BoxQuery(start, box), frame_range)
        prompts = []
        for row in range(len(frame_range)):
            certain = bool(boxes.scores[row] >= settings.min_box_score)
            keep = tracks.visible[row].copy()
            if certain:
                keep &= _inside(tracks.tracks_xy_px[row], boxes.boxes_xyxy_px[row], settings.box_slack)
            x0, y0, x1, y1 = (float(v) for v in boxes.boxes_xyxy_px[row])
            prompts.append(
                ObjectPrompts(
                    points_xy_px=tracks.tracks_xy_px[row][keep],
                    positive=np.ones(int(keep.sum()), np.bool_),
                    box_xyxy_px=(x0, y0, x1, y1) if certain else None,
                    tracked=True,
                )
            )
        return prompts


def _inside(points_xy_px: NDArray[np.float32], box: NDArray[np.float32], slack: float) -> NDArray[np.bool_]:
    """Which points (N, 2) lie in the box widened by ``slack`` of its size."""
    pad = slack * (box[2:] - box[:2])
    return np.asarray(((points_xy_px >= box[:2] - pad) & (points_xy_px <= box[2:] + pad)).all(axis=1))


def _warp_full_size(previous_grey: NDArray[np.uint8], grey: NDArray[np.uint8], logits: FloatMap) -> FloatMap:
    """Carry full-size logits along the flow of two reduced frames."""
    small = cv2.resize(logits, (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_AREA)
    warped = warp_logits(previous_grey, grey, np.asarray(small, np.float32))
    return np.asarray(cv2.resize(warped, (logits.shape[1], logits.shape[0])), np.float32)
