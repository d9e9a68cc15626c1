"""Points and a box tracked from one frame through its neighbours, as prompts for the segmenter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.methods.base import Anchor
from pipeline.methods.common.mask_boxes import BOX_WIDENING, widened
from pipeline.segmenters.base import ObjectPrompts
from pipeline.trackers.boxes.base import BoxQuery, BoxTracker, BoxTracks
from pipeline.trackers.frames import reduced_grey
from pipeline.trackers.points import sampling
from pipeline.trackers.points.base import PointQueries, PointTracker
from pipeline.trackers.points.patch_similarity import PatchSimilarity
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource

MAX_TRACKED_POINTS = 512
"""Points of several objects that are tracked in one call; more would cost some trackers too much memory."""


@dataclass(frozen=True)
class TrackingSettings:
    """What is tracked.

    Attributes:
        positive_points: number of positive points; a person's own clicks come first, sampled points fill up.
        negative_points: number of negative points, likewise.
        sampling: how the positives are found in a mask, one of `sampling.STRATEGIES`; negatives are always mixed.
        min_box_score: below it the tracked box is not believed.
        box_slack: how far outside the box, as a share of its size, a point may lie before it is dropped.
        widen_boxes: widen tracked boxes by their uncertainty. Not for a segmenter with a mask prior: to it the box only
            says where to look, around which it looks anyway, and masks got worse.
        hidden_turn_negative: an occluded positive point becomes a negative one (I-PT, III-C3); if not, occluded points
            are dropped (SAM-PT, 3.2).
    """

    positive_points: int = 8
    negative_points: int = 1
    sampling: str = "corners_and_grid"
    min_box_score: float = 0.4
    box_slack: float = 0.15
    widen_boxes: bool = True
    hidden_turn_negative: bool = True


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

    def follow(self, frames: FrameSource, anchors: Sequence[Anchor], frame_range: range) -> list[list[ObjectPrompts]]:
        """Prompts per frame of a range that starts at the anchors' frame, for one object per anchor.

        All points are tracked in one call. Positive points outside the tracked box are dropped (I-PT, III-C1), negative
        ones belong there. The box that prompts the segmenter is widened by its uncertainty. An occluded positive point
        becomes a negative one, as it lies on what hides the object (III-C3), or is dropped; a point whose place is
        unknown (NaN) always is.
        """
        starts = [self.prompts_at(frames, anchor) for anchor in anchors]
        found: list[list[ObjectPrompts]] = []
        for rows in _chunks([len(each.points_xy_px) for each in starts]):
            found += self._follow(frames, starts[rows.start : rows.stop], frame_range)
        return found

    def _follow(
        self, frames: FrameSource, starts: Sequence[ObjectPrompts], frame_range: range
    ) -> list[list[ObjectPrompts]]:
        counts = [len(each.points_xy_px) for each in starts]
        if not sum(counts):
            return [[ObjectPrompts(tracked=True)] * len(frame_range) for _ in starts]
        points = np.concatenate([each.points_xy_px for each in starts])
        tracks = self.points.track(frames, PointQueries(frame_range[0], points), frame_range)
        visible = tracks.visible
        if self.similarity is not None:
            visible = self.similarity.check(frames, tracks)
        found, begin = [], 0
        for start, count in zip(starts, counts, strict=True):
            mine = slice(begin, begin + count)
            boxes = None
            if self.boxes is not None and start.box_xyxy_px is not None:
                boxes = self.boxes.track(frames, BoxQuery(frame_range[0], start.box_xyxy_px), frame_range)
            found.append(
                [
                    self._prompts(start, tracks.tracks_xy_px[row, mine], visible[row, mine], boxes, row)
                    for row in range(len(frame_range))
                ]
            )
            begin += count
        return found

    def _prompts(
        self,
        start: ObjectPrompts,
        points: NDArray[np.float32],
        visible: NDArray[np.bool_],
        boxes: BoxTracks | None,
        row: int,
    ) -> ObjectPrompts:
        """The prompts of one object on one frame."""
        keep = np.isfinite(points).all(axis=1)
        if not self.settings.hidden_turn_negative:
            keep &= visible
        signs = start.positive & visible
        box = None
        if boxes is not None and boxes.scores[row] >= self.settings.min_box_score:
            tracked_box = boxes.boxes_xyxy_px[row]
            keep &= ~signs | _inside(points, tracked_box, self.settings.box_slack)
            x0, y0, x1, y1 = (float(v) for v in tracked_box)
            uncertainty = 1 - float(boxes.scores[row]) if self.settings.widen_boxes else 0.0
            box = widened((x0, y0, x1, y1), BOX_WIDENING * uncertainty)
        return ObjectPrompts(points[keep], signs[keep], box, tracked=True)


def against_each_other(prompts: Sequence[ObjectPrompts]) -> list[ObjectPrompts]:
    """The prompts of several objects on one frame, each with the others' positive points as negative ones.

    Objects without a positive point stay as they are: negative points alone say nothing.
    """
    found = []
    for row, own in enumerate(prompts):
        others = [each.points_xy_px[each.positive] for other, each in enumerate(prompts) if other != row]
        if own.positive.any() and others:
            points = np.concatenate([own.points_xy_px, *others]).astype(np.float32)
            signs = np.concatenate([own.positive, np.zeros(len(points) - len(own.positive), np.bool_)])
            own = replace(own, points_xy_px=points, positive=signs)
        found.append(own)
    return found


def _chunks(counts: Sequence[int]) -> Iterator[range]:
    """Ranges of rows with at most `MAX_TRACKED_POINTS` points in sum, or a single row."""
    begin, points = 0, 0
    for row, count in enumerate(counts):
        if row > begin and points + count > MAX_TRACKED_POINTS:
            yield range(begin, row)
            begin, points = row, 0
        points += count
    if begin < len(counts):
        yield range(begin, len(counts))


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
