"""Points and a box tracked from one frame through its neighbours, as prompts for the segmenter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.methods.base import Anchor
from pipeline.segmenters.base import ObjectPrompts
from pipeline.trackers.boxes.base import BoxQuery, BoxTracker
from pipeline.trackers.frames import reduced_grey
from pipeline.trackers.points import sampling
from pipeline.trackers.points.base import PointQueries, PointTracker
from pipeline.trackers.points.patch_similarity import PatchSimilarity
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class TrackingSettings:
    """What is tracked.

    Attributes:
        positive_points: number of positive points; a person's own clicks come first, sampled points fill up.
        negative_points: number of negative points, likewise.
        sampling: how the positives are found in a mask, one of `sampling.STRATEGIES`; negatives are always mixed.
        min_box_score: below it the tracked box is not believed.
        box_slack: how far outside the box, as a share of its size, a point may lie before it is dropped.
    """

    positive_points: int = 8
    negative_points: int = 1
    sampling: str = "mixed"
    min_box_score: float = 0.4
    box_slack: float = 0.15


@dataclass(frozen=True)
class PromptTracker:
    """Tracks the prompts of an object. Without a box tracker it tracks points alone."""

    points: PointTracker
    boxes: BoxTracker | None
    settings: TrackingSettings
    similarity: PatchSimilarity | None = None

    def prompts_at(self, frames: FrameSource, anchor: Anchor) -> ObjectPrompts:
        """The prompts to track from a frame: a person's, filled up from the mask. An empty mask has no points."""
        settings, given = self.settings, anchor.prompts
        grey, scale = reduced_grey(frames, anchor.frame_index, 640)
        if grey is None or not anchor.mask.any():
            return ObjectPrompts(tracked=True)
        core = _resized(_eroded(anchor.mask), grey)
        outside = _resized(~_dilated(anchor.mask), grey)
        rng = np.random.default_rng(anchor.frame_index)
        wanted = (
            (True, core, settings.positive_points, settings.sampling),
            (False, outside, settings.negative_points, "mixed"),
        )
        points, signs = [], []
        for sign, where, n_points, strategy in wanted:
            clicked = given.points_xy_px[given.positive == sign]
            missing = max(0, n_points - len(clicked))
            sampled = sampling.sample(strategy, grey, where, missing, rng) / np.float32(scale)
            points += [clicked, sampled]
            signs += [sign] * (len(clicked) + len(sampled))
        box = given.box_xyxy_px or bounding_box(anchor.mask)
        return ObjectPrompts(np.concatenate(points).astype(np.float32), np.array(signs, np.bool_), box, tracked=True)

    def follow(self, frames: FrameSource, anchor: Anchor, frame_range: range) -> list[ObjectPrompts]:
        """Prompts per frame of a range that starts at the anchor's frame.

        Points outside the tracked box are dropped (I-PT, III-C1); an occluded positive point becomes a negative one, as
        it lies on what hides the object (III-C3); a point whose place is unknown (NaN) is dropped.
        """
        start = self.prompts_at(frames, anchor)
        if not len(start.points_xy_px):
            return [ObjectPrompts(tracked=True)] * len(frame_range)
        tracks = self.points.track(frames, PointQueries(anchor.frame_index, start.points_xy_px), frame_range)
        visible = tracks.visible
        if self.similarity is not None:
            visible = self.similarity.check(frames, tracks)
        boxes = None
        if self.boxes is not None and start.box_xyxy_px is not None:
            boxes = self.boxes.track(frames, BoxQuery(anchor.frame_index, start.box_xyxy_px), frame_range)
        prompts = []
        for row in range(len(frame_range)):
            points = tracks.tracks_xy_px[row]
            keep = np.isfinite(points).all(axis=1)
            box = None
            if boxes is not None and boxes.scores[row] >= self.settings.min_box_score:
                keep &= _inside(points, boxes.boxes_xyxy_px[row], self.settings.box_slack)
                x0, y0, x1, y1 = (float(v) for v in boxes.boxes_xyxy_px[row])
                box = (x0, y0, x1, y1)
            signs = start.positive & visible[row]
            prompts.append(ObjectPrompts(points[keep], signs[keep], box, tracked=True))
        return prompts


def _eroded(mask: BoolMask) -> BoolMask:
    core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    return core if core.any() else mask


def _dilated(mask: BoolMask) -> BoolMask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)), np.bool_)


def _resized(mask: BoolMask, like: NDArray[np.uint8]) -> BoolMask:
    size = like.shape[1], like.shape[0]
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.bool_)


def _inside(points_xy_px: NDArray[np.float32], box: NDArray[np.float32], slack: float) -> NDArray[np.bool_]:
    """Which points (N, 2) lie in the box widened by ``slack`` of its size."""
    pad = slack * (box[2:] - box[:2])
    return np.asarray(((points_xy_px >= box[:2] - pad) & (points_xy_px <= box[2:] + pad)).all(axis=1))
