"""Prompts at work size, and the mask of one frame from a person's clicks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import ObjectPrompts
from pipeline.segmenters.classical.appearance import NETWORK_LOGIT_LIMIT, AppearanceModel, PixelNetwork
from pipeline.segmenters.classical.boundary import CUT_LOGIT_LIMIT, geodesic_distance, graph_cut
from pipeline.segmenters.classical.features import (
    WORK_LONG_SIDE_PX,
    ClassicalEmbedding,
    Projection,
    Region,
    pixel_features,
)
from pipeline.types import BoolMask

CLICK_RADIUS_PX = 3
"""Radius of the disc of pixels that a click puts into the mask or keeps out of it."""
CLICK_LOGIT = 3.0
"""Logit at a click."""
CLICK_REACH_PX = 40.0
"""Geodesic distance over which a click's logit falls to 1/e."""
MIN_CLICK_REACH_PX = 8.0
"""Least reach of a click that corrects a mask."""
CLICK_REACH_DEPTHS = 4.0
"""Reach of such a click, in multiples of its depth in what is wrong."""
APPEARANCE_WEIGHT = 0.5
"""Weight on a prompted frame of the appearance model that other frames trained."""
ABSENT_LOGIT = -6.0
"""Logit of pixels that were not looked at, and of a frame without the object."""
COLOUR_CHANNELS = 9
"""First pixel features, which the first network of a frame sees: Lab and two blurs, no texture."""
FRAME_TRAINING_PIXELS = 2500
"""Pixels of each side that a network of one frame trains on."""
FRAME_TRAINING_STEPS = 120
"""Training batches of a network of one frame."""
TRAINING_AREA_SIDE_PX = 61
"""Side of the square by which a mask is dilated to the area that its network trains on."""
GRAB_CUT_ITERATIONS = 3
"""Iterations of OpenCV's GrabCut."""
MIN_GRAB_CUT_PIXELS = 10
"""GrabCut runs only with this many pixels on each side."""
REFINEMENT_ITERATIONS = 2
"""Rounds of GrabCut, network and graph cut for a mask of a single frame."""
PREVIOUS_MASK_WEIGHT = 0.4
"""Logit, positive or negative, that the mask before a round of refinement gives."""
SHAPE_WEIGHT = 0.6
"""Weight in refinement of the prior shape: an ellipse in the box, or the vote of the discs."""
GRAB_CUT_WEIGHT = 1.5
"""Logit, positive or negative, that GrabCut gives in refinement."""

CLICK_DISC_RADII_PX = (14, 22, 34, 52, 80)
"""Radii tried around a click on a frame of `WORK_LONG_SIDE_PX`; smaller frames have smaller ones."""
DISC_NETWORK_WEIGHT = 0.7
"""Weight of the network that was trained on a disc."""
DISC_PRIOR_SLOPE = 2.0
"""Logit of the disc prior at the click; it falls to 0 at the radius."""
DISC_PRIOR_RANGE = (-3.0, 2.0)
"""Limits of the disc prior in logits."""
DISC_AREA_RADII = 3
"""The network of a disc trains within this many radii of the clicks."""
DISC_AREA_PAD_PX = 20
"""Added to that distance."""
EDGE_VOTE_FLOOR = 0.1
"""Added to a mask's edge strength, so that a mask without edges still has a vote."""
VOTE_THRESHOLD = 0.45
"""Share of the votes from which a pixel is object."""
VOTE_SLOPE = 4.0
"""Logits of the vote per unit of the share above the threshold."""
VOTE_LOGIT_LIMIT = 2.0
"""Logits of the vote are clipped to plus or minus this."""

FLIP_LOGIT = 1.2
"""Strength of a click's logit from which a pixel changes sides in the mask that the click corrects."""
KEPT_CLICK_LOGIT = 0.15
"""Strength of a click's logit up to which the corrected mask counts in full."""
UNDECIDED_CLICK_LOGIT = 0.6
"""Strength of a click's logit from which the corrected mask does not count at all."""
CORRECTED_MASK_LOGIT = 2.0
"""Logit, positive or negative, of the mask that clicks correct."""
CORRECTED_MASK_WEIGHT = 0.5
"""Weight of that logit when a click contradicts the mask."""
CORRECTION_AREA_SIDE_PX = 41
"""Side of the square by which a corrected mask is dilated to the area that the network trains on."""

MaskAndLogits = tuple[BoolMask, NDArray[np.float32]]
"""A mask (h, w) and the logits (h, w) float32 that led to it."""


@dataclass(frozen=True)
class WorkPrompts:
    """A person's prompts at work size.

    ``positive`` and ``negative`` (h, w) bool are discs around the clicks, ``positive_xy`` and ``negative_xy`` (N, 2)
    their pixels. ``box`` is left, top, right, bottom in whole pixels (right and bottom exclusive), or None.
    """

    positive: BoolMask
    negative: BoolMask
    positive_xy: NDArray[np.int_]
    negative_xy: NDArray[np.int_]
    box: tuple[int, int, int, int] | None

    @classmethod
    def of(cls, prompts: ObjectPrompts, embedding: ClassicalEmbedding) -> WorkPrompts:
        """Bring prompts to the work size of an embedding."""
        h, w = embedding.work_size_hw_px
        scale = embedding.scale_xy
        pixels_xy = np.floor(prompts.points_xy_px * scale).astype(int)
        pixels_xy = np.clip(pixels_xy, 0, (w - 1, h - 1))
        box = None
        if prompts.box_xyxy_px is not None:
            x0, y0, x1, y1 = np.array(prompts.box_xyxy_px) * np.tile(scale, 2)
            left, top = int(np.clip(np.floor(x0), 0, w - 2)), int(np.clip(np.floor(y0), 0, h - 2))
            box = (left, top, int(np.clip(np.ceil(x1), left + 2, w)), int(np.clip(np.ceil(y1), top + 2, h)))
        positive_xy, negative_xy = pixels_xy[prompts.positive], pixels_xy[~prompts.positive]
        positive, negative = click_discs((h, w), positive_xy), click_discs((h, w), negative_xy)
        # Where a positive and a negative disc meet, each pixel belongs to the nearer click.
        both = positive & negative
        if both.any():
            nearer = distance_to_points((h, w), positive_xy) <= distance_to_points((h, w), negative_xy)
            positive, negative = positive & (~both | nearer), negative & (~both | ~nearer)
        return cls(positive, negative, positive_xy, negative_xy, box)

    def cropped(self, region: Region) -> WorkPrompts:
        """The prompts in a region of the frame; clicks elsewhere are left out."""
        offset_xy = region.x0, region.y0
        positive = self.positive[region.slices]
        limits_xy = (positive.shape[1], positive.shape[0])
        kept = []
        for points in (self.positive_xy - offset_xy, self.negative_xy - offset_xy):
            kept.append(points[((points >= 0) & (points < limits_xy)).all(axis=1)])
        box = None
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            box = (x0 - region.x0, y0 - region.y0, x1 - region.x0, y1 - region.y0)
        return WorkPrompts(positive, self.negative[region.slices], kept[0], kept[1], box)


def click_discs(size_hw_px: tuple[int, int], points_xy: NDArray[np.int_]) -> BoolMask:
    """(h, w) bool discs of `CLICK_RADIUS_PX` around points (N, 2)."""
    canvas = np.zeros(size_hw_px, np.uint8)
    for x, y in points_xy:
        cv2.circle(canvas, (int(x), int(y)), CLICK_RADIUS_PX, 1, -1)
    return canvas.astype(np.bool_)


def distance_to_points(size_hw_px: tuple[int, int], points_xy: NDArray[np.int_]) -> NDArray[np.float32]:
    """(h, w) distance in pixels to the nearest of some points (N, 2)."""
    canvas = np.ones(size_hw_px, np.uint8)
    canvas[points_xy[:, 1], points_xy[:, 0]] = 0
    return np.asarray(cv2.distanceTransform(canvas, cv2.DIST_L2, 5), np.float32)


class PromptSolver:
    """The steps that lead from prompts to the mask of one frame (or of a part of it), and what these steps share."""

    def __init__(
        self, embedding: ClassicalEmbedding, prompts: WorkPrompts, appearance: AppearanceModel | None, device: str
    ) -> None:
        self.embedding, self.prompts, self.device = embedding, prompts, device
        self.size = embedding.work_size_hw_px
        whole = Region.whole(self.size)
        projection = appearance.projection if appearance is not None else Projection.fit([embedding])
        self.features = pixel_features(embedding, projection(embedding), whole)
        self.blurred_lab = self.features[..., 3:6]
        self.excluded: BoolMask = np.zeros(self.size, np.bool_)
        self.prior_logits: NDArray[np.float32] = np.zeros(self.size, np.float32)
        if appearance is not None:
            self.prior_logits = np.asarray(APPEARANCE_WEIGHT * appearance.logits(embedding, whole), np.float32)
        self.clicks = self.click_logits()

    def click_logits(self, corrected: BoolMask | None = None) -> NDArray[np.float32]:
        """(h, w) logits of the clicks: plus or minus `CLICK_LOGIT` at a click, fading with geodesic distance.

        Args:
            corrected: the mask that the clicks correct. A click close to its border reaches less far: what is wrong
                there is a strip along the border, and a wide reach would cut into what is right. A click that agrees
                with the mask counts on its own side alone: it keeps what is there and moves no border.
        """
        strengths = np.zeros((2, *self.size), np.float32)
        for sign, points_xy in enumerate((self.prompts.negative_xy, self.prompts.positive_xy)):
            depth = None
            wrong: BoolMask = np.zeros(self.size, np.bool_)
            if corrected is not None:
                wrong = corrected if sign == 0 else ~corrected
                depth = cv2.distanceTransform(np.pad(wrong, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
            for x, y in points_xy:
                seed = np.zeros(self.size, np.bool_)
                seed[y, x] = True
                reach = CLICK_REACH_PX
                if depth is not None and depth[y, x] > 0:
                    reach = float(np.clip(CLICK_REACH_DEPTHS * depth[y, x], MIN_CLICK_REACH_PX, CLICK_REACH_PX))
                distance = np.maximum(geodesic_distance(seed, self.blurred_lab) - CLICK_RADIUS_PX, 0.0)
                strength = CLICK_LOGIT * np.exp(-distance / reach)
                if depth is not None and depth[y, x] == 0:
                    strength = np.where(wrong, 0.0, strength)
                strengths[sign] = np.maximum(strengths[sign], strength)
        return np.asarray(strengths[1] - strengths[0], np.float32)

    def cut(self, logits: NDArray[Any]) -> BoolMask:
        """Graph cut that obeys the clicks and the excluded pixels."""
        background = self.excluded | self.prompts.negative
        return graph_cut(
            logits.astype(np.float32),
            self.embedding.lab_u8,
            foreground=self.prompts.positive,
            background=background,
        )

    def training_area(self, mask: BoolMask) -> BoolMask:
        """Pixels (h, w) on which a network learns to separate a mask from what is around it."""
        return _dilated(mask, TRAINING_AREA_SIDE_PX)

    def refine(self, mask: BoolMask, shape_prior: NDArray[np.float32]) -> MaskAndLogits:
        """Repeat GrabCut, a fresh network on all features, and a graph cut over both and the shape prior (h, w)."""
        logits = np.where(mask, 1.0, -1.0).astype(np.float32)
        for _ in range(REFINEMENT_ITERATIONS):
            area = self.training_area(mask)
            network = self.train_network(mask, area)
            grab = self.grab_cut(mask, area)
            logits = (
                PREVIOUS_MASK_WEIGHT * np.where(mask, 1.0, -1.0)
                + SHAPE_WEIGHT * shape_prior
                + self.network_logits(network, area)
                + GRAB_CUT_WEIGHT * np.where(grab, 1.0, -1.0)
                + self.clicks
                + self.prior_logits
            ).astype(np.float32)
            refined = self.cut(logits)
            if not refined.any():
                break
            mask = refined
        return mask, logits

    def train_network(self, labels: BoolMask, area: BoolMask, *, channels: int | None = None) -> PixelNetwork | None:
        """Train a network on labels (h, w) in an area; None if one label is missing there.

        Args:
            labels: (h, w) bool, True is object.
            area: (h, w) bool.
            channels: how many of the first features it sees; None: all.
        """
        rng = np.random.default_rng(1)
        picked = []
        for group in (labels & area, ~labels & area):
            candidates = np.flatnonzero(group)
            if not len(candidates):
                return None
            replace = len(candidates) < FRAME_TRAINING_PIXELS
            picked.append(rng.choice(candidates, FRAME_TRAINING_PIXELS, replace=replace))
        indices = np.concatenate(picked)
        x = np.ascontiguousarray(self.features.reshape(-1, self.features.shape[2])[indices, :channels])
        return PixelNetwork.train(x, labels.ravel()[indices], steps=FRAME_TRAINING_STEPS, device=self.device)

    def network_logits(
        self, network: PixelNetwork | None, area: BoolMask, *, channels: int | None = None
    ) -> NDArray[np.float32]:
        """(h, w) logits of a network in an area, the lowest possible elsewhere; all 0 without a network."""
        if network is None:
            return np.zeros(self.size, np.float32)
        logits = np.full(self.size, -NETWORK_LOGIT_LIMIT, np.float32)
        logits[area] = network.logits(np.ascontiguousarray(self.features[area][:, :channels]))
        return logits

    def grab_cut(self, mask: BoolMask, area: BoolMask) -> BoolMask:
        """OpenCV's GrabCut from a mask, within the bounding box of an area; the clicks are hard constraints."""
        labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[self.excluded] = cv2.GC_BGD
        labels[self.prompts.negative] = cv2.GC_BGD
        labels[self.prompts.positive] = cv2.GC_FGD
        ys, xs = np.nonzero(area)
        part = (slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1))
        inner = np.ascontiguousarray(labels[part])
        object_pixels = np.isin(inner, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if min(object_pixels.sum(), (~object_pixels).sum()) < MIN_GRAB_CUT_PIXELS:
            return mask
        cv2.setRNGSeed(0)  # its k-means draws from this thread's generator
        models = np.zeros((1, 65)), np.zeros((1, 65))
        image = np.ascontiguousarray(self.embedding.bgr_u8[part])
        cv2.grabCut(image, inner, (0, 0, 1, 1), *models, GRAB_CUT_ITERATIONS, cv2.GC_INIT_WITH_MASK)
        result = np.zeros(self.size, np.bool_)
        result[part] = np.isin(inner, (cv2.GC_FGD, cv2.GC_PR_FGD))
        return result


class ClickSolver(PromptSolver):
    """A frame with clicks and no box."""

    def segment(self) -> MaskAndLogits:
        """Try discs of several sizes around the positive clicks, and let the masks they lead to vote.

        A mask has more of a vote where the others agree with it and where its border lies on edges of the image.
        """
        distance = distance_to_points(self.size, self.prompts.positive_xy)
        masks = []
        for radius_px in (radius_px / WORK_LONG_SIDE_PX * max(self.size) for radius_px in CLICK_DISC_RADII_PX):
            prior = np.clip(DISC_PRIOR_SLOPE * (1.0 - distance / radius_px), *DISC_PRIOR_RANGE).astype(np.float32)
            disc = (distance <= radius_px) & ~self.prompts.negative
            area = distance <= DISC_AREA_RADII * radius_px + DISC_AREA_PAD_PX
            network = self.train_network(disc, area, channels=COLOUR_CHANNELS)
            logits = DISC_NETWORK_WEIGHT * self.network_logits(network, area, channels=COLOUR_CHANNELS)
            masks.append(self.cut(logits + prior + self.clicks + self.prior_logits))
        lightness = self.embedding.lab_u8[..., 0].astype(np.float32)
        gradient = np.abs(cv2.Sobel(lightness, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(lightness, cv2.CV_32F, 0, 1))
        stack = np.stack(masks).astype(np.float32)
        votes = np.array(
            [_agreement(k, stack) * (_edge_strength(each, gradient) + EDGE_VOTE_FLOOR) for k, each in enumerate(masks)]
        )
        share = np.tensordot((votes / votes.sum()).astype(np.float32), stack, 1)
        prior = np.clip(VOTE_SLOPE * (share - VOTE_THRESHOLD), -VOTE_LOGIT_LIMIT, VOTE_LOGIT_LIMIT).astype(np.float32)
        mask = (share > VOTE_THRESHOLD) | self.prompts.positive
        return self.refine(np.asarray(mask & ~self.prompts.negative), prior)

    def correct(self, previous_logits: NDArray[np.float32]) -> MaskAndLogits:
        """Let clicks change a mask, given as logits (h, w), where they contradict it, and keep it elsewhere."""
        mask = previous_logits > 0
        base = np.where(mask, CORRECTED_MASK_LOGIT, -CORRECTED_MASK_LOGIT).astype(np.float32)
        self.clicks = self.click_logits(mask)
        wrong = (self.prompts.negative & mask) | (self.prompts.positive & ~mask)
        if not wrong.any():
            return self.cut(base + self.clicks), base + self.clicks
        target = self._relabelled(mask)
        area = _dilated(mask | target, CORRECTION_AREA_SIDE_PX)
        # Between what a click surely flips and what it surely leaves, the network decides, so it may not learn there.
        strength = np.abs(self.clicks)
        undecided = np.clip((strength - KEPT_CLICK_LOGIT) / (UNDECIDED_CLICK_LOGIT - KEPT_CLICK_LOGIT), 0.0, 1.0)
        sure = (undecided < 0.5) | (strength > FLIP_LOGIT)
        network = self.train_network(target, area & sure)
        logits = self.network_logits(network, area) + self.clicks + self.prior_logits * (1.0 - undecided)
        logits += np.where(target, 1.0, -1.0) * sure + CORRECTED_MASK_WEIGHT * base * (1.0 - undecided)
        found = self.cut(logits)
        # Later passes keep what the clicks decided.
        decided = strength > FLIP_LOGIT
        logits = np.where(decided, np.where(found, CUT_LOGIT_LIMIT, -CUT_LOGIT_LIMIT), logits)
        return found, logits.astype(np.float32)

    def _relabelled(self, mask: BoolMask) -> BoolMask:
        """The mask with the neighbourhoods of contradicting clicks flipped."""
        target = mask.copy()
        target[self.clicks < -FLIP_LOGIT] = False
        target[self.clicks > FLIP_LOGIT] = True
        return np.asarray((target | self.prompts.positive) & ~self.prompts.negative)


def _dilated(mask: BoolMask, side_px: int) -> BoolMask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side_px, side_px), np.uint8)), np.bool_)


def _agreement(row: int, masks: NDArray[np.float32]) -> float:
    """Mean overlap of one of several masks (n, h, w) with the others; a little more than 0 at least."""
    common = np.minimum(masks[row], masks).sum(axis=(1, 2))
    union = np.maximum(np.maximum(masks[row], masks).sum(axis=(1, 2)), 1.0)
    return float((common / union).sum() - 1.0) / max(1, len(masks) - 1) + 1e-3


def _edge_strength(mask: BoolMask, gradient: NDArray[np.float32]) -> float:
    """Mean gradient along the border of a mask, in units of the image's mean."""
    edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    return float(gradient[edge].mean() / (gradient.mean() + 1.0)) if edge.any() else 0.0
