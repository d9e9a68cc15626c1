"""The mask of one frame from a person's prompts: a box, clicks, or a mask to correct."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.appearance import Appearance, Region, pixel_features
from pipeline.segmenters.classical.boundary import geodesic_distance, graph_cut
from pipeline.segmenters.classical.box_evidence import box_evidence, geodesic_ratio
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.segmenters.classical.memory import Projection, nearest_distance
from pipeline.segmenters.classical.pixel_model import LOGIT_LIMIT as PIXEL_LIMIT
from pipeline.segmenters.classical.pixel_model import PixelModel
from pipeline.segmenters.classical.work_prompts import CLICK_RADIUS_PX, WorkPrompts, distance_to
from pipeline.types import BoolMask

STAGE_STEPS = 120
REFINEMENTS = 2
CLICK_DISCS_PX = (14, 22, 34, 52, 80)
GEODESIC_REACH_PX = 40.0
MIN_REACH_PX = 8.0
DEPTHS_REACHED = 4.0
FLIP = 1.2
"""Strength of a click, in logits, from which a pixel changes sides in a mask that the click corrects."""
DOUBT_FROM, DOUBT_TO = 0.15, 0.6
BOX_DOUBT = 1.5
RING_SHARE = 0.3
WIDENING_PX = 12
VOTE_MAJORITY, VOTE_SLOPE = 0.45, 4.0
PREVIOUS_WEIGHT, SHAPE_WEIGHT, GRAB_CUT_WEIGHT, RATIO_WEIGHT = 0.4, 0.6, 1.5, 0.7
RATIO_LIMIT = 2.0
TRUST = 4.0
"""Logits deep inside an earlier mask that agrees with the prompts in full; how deep, in square roots of its area."""
TRUST_DEPTH = 0.1
LIKENESS_TEMPERATURE = 0.3
LIKENESS_LIMIT = 1.2


def segment_prompted(
    embedding: ClassicalEmbedding,
    prompts: WorkPrompts,
    prior: NDArray[np.float32] | None,
    appearance: Appearance | None,
    *,
    device: str,
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Mask and evidence logits, both (h, w), that obey a person's prompts.

    Args:
        embedding: of this frame.
        prompts: clicks and box at work size.
        prior: (h, w) logits of the mask to correct, or None.
        appearance: what other prompted frames taught, or None.
        device: where the networks train.
    """
    if prompts.box is not None:
        return _segment_box(embedding, prompts, prior, appearance, device)
    solver = _Solver(embedding, prompts, appearance, device)
    if prior is not None and (prior > 0).any():
        return solver.correct(prior)
    if not len(prompts.positive_xy):
        nothing = np.zeros(embedding.work_size_hw_px, np.bool_)
        return nothing, np.full(nothing.shape, -6.0, np.float32)
    return solver.start_from_clicks()


def _segment_box(
    embedding: ClassicalEmbedding,
    prompts: WorkPrompts,
    prior: NDArray[np.float32] | None,
    appearance: Appearance | None,
    device: str,
) -> tuple[BoolMask, NDArray[np.float32]]:
    """Solve the box's surroundings alone: nothing farther off can be object, and small objects come quickly."""
    assert prompts.box is not None
    size = embedding.work_size_hw_px
    reach = prompts.positive_xy
    limits = np.array([prompts.box, (*reach.min(axis=0), *(reach.max(axis=0) + 1))] if len(reach) else [prompts.box])
    (x0, y0), (x1, y1) = limits[:, :2].min(axis=0).tolist(), limits[:, 2:].max(axis=0).tolist()
    widened = (x0 - WIDENING_PX, y0 - WIDENING_PX, x1 + WIDENING_PX, y1 + WIDENING_PX)
    region = Region.around(widened, RING_SHARE, size)
    solver = _Solver(_crop(embedding, region), prompts.within(region.slices), appearance, device)
    if prior is not None:
        solver.trust_prior(prior[region.slices], int((prior > 0).sum()))
    mask, logits = np.zeros(size, np.bool_), np.full(size, -6.0, np.float32)
    mask[region.slices], logits[region.slices] = solver.refine(solver.start_from_box(), solver.box_prior())
    return mask, logits


def _crop(embedding: ClassicalEmbedding, region: Region) -> ClassicalEmbedding:
    """The features of a part of the frame; its corner must lie on the grid."""
    cells = (
        slice(region.y0 // STRIDE_PX, -(-region.y1 // STRIDE_PX)),
        slice(region.x0 // STRIDE_PX, -(-region.x1 // STRIDE_PX)),
    )
    return ClassicalEmbedding(
        frame_size_hw_px=embedding.frame_size_hw_px,
        bgr_u8=np.ascontiguousarray(embedding.bgr_u8[region.slices]),
        lab_u8=np.ascontiguousarray(embedding.lab_u8[region.slices]),
        pixels=embedding.pixels[region.slices],
        grid=embedding.grid[cells],
        fine_lab_u8=np.ascontiguousarray(embedding.lab_u8[region.slices]),
    )


class _Solver:
    """The steps of one prompted frame; holds what they share."""

    def __init__(
        self, embedding: ClassicalEmbedding, prompts: WorkPrompts, appearance: Appearance | None, device: str
    ) -> None:
        self.embedding, self.prompts, self.device = embedding, prompts, device
        self.size = embedding.work_size_hw_px
        self.whole = Region.whole(self.size)
        projection = appearance.projection if appearance is not None else Projection.fit([embedding])
        self.features = pixel_features(embedding, projection(embedding), self.whole)
        self.smooth_lab = self.features[..., 3:6]
        self.outside = self._forbidden()
        self.remembered: NDArray[np.float32] = np.zeros(self.size, np.float32)
        if appearance is not None:
            self.remembered = np.asarray(0.5 * appearance.read(embedding, self.whole), np.float32)
        self.clicks = self._click_logits()
        self.near = np.ones(self.size, np.bool_)
        self.ratio: NDArray[np.float32] = np.zeros(self.size, np.float32)
        if prompts.box is not None:
            self.near[:] = False
            self.near[Region.around(prompts.box, RING_SHARE, self.size).slices] = True
            known = self.near & self.outside
            if prompts.positive.any() and known.any():
                background = known | prompts.negative
                self.ratio = geodesic_ratio(prompts.positive, background, self.smooth_lab, limit=RATIO_LIMIT)

    def trust_prior(self, prior: NDArray[np.float32], area_px: int) -> None:
        """Take an earlier mask as evidence, as far as it agrees with the box and the clicks."""
        assert self.prompts.box is not None
        mask = prior > 0
        if not mask.any():
            return
        ys, xs = np.nonzero(mask)
        x0, y0, x1, y1 = self.prompts.box
        ax, ay, bx, by = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        common = max(0, min(x1, bx) - max(x0, ax)) * max(0, min(y1, by) - max(y0, ay))
        agreement = common / ((x1 - x0) * (y1 - y0) + (bx - ax) * (by - ay) - common) * mask.sum() / area_px
        for points, wanted in ((self.prompts.positive_xy, True), (self.prompts.negative_xy, False)):
            if len(points):
                agreement *= float((mask[points[:, 1], points[:, 0]] == wanted).mean())
        within, without = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
        depth = within - without
        certainty = np.clip(depth / (TRUST_DEPTH * np.sqrt(mask.sum())), -1.0, 1.0)
        self.remembered = (self.remembered + TRUST * agreement**2 * certainty).astype(np.float32)

    def _forbidden(self) -> BoolMask:
        """Pixels the mask may not have: outside the box, unless a positive click lies out there and widens it."""
        forbidden = np.zeros(self.size, np.bool_)
        if self.prompts.box is not None:
            x0, y0, x1, y1 = self.prompts.box
            for x, y in self.prompts.positive_xy:
                if not (x0 <= x < x1 and y0 <= y < y1):
                    x0, y0, x1, y1 = (
                        min(x0, x - WIDENING_PX),
                        min(y0, y - WIDENING_PX),
                        max(x1, x + WIDENING_PX),
                        max(y1, y + WIDENING_PX),
                    )
            forbidden[:] = True
            forbidden[max(0, y0) : y1, max(0, x0) : x1] = False
        return forbidden

    def _click_logits(self, prior: BoolMask | None = None) -> NDArray[np.float32]:
        """+-3 at the clicks, fading with geodesic distance.

        Args:
            prior: the mask that the clicks correct. A click close to its border reaches less far: what is wrong there
                is a strip along the border, and a wide reach would cut into what is right.
        """
        pull = np.zeros((2, *self.size), np.float32)
        for sign, centres in enumerate((self.prompts.negative_xy, self.prompts.positive_xy)):
            depth = None
            if prior is not None:
                wrong = prior if sign == 0 else ~prior
                depth = cv2.distanceTransform(np.pad(wrong, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
            for x, y in centres:
                seed = np.zeros(self.size, np.bool_)
                seed[y, x] = True
                reach = GEODESIC_REACH_PX
                if depth is not None and depth[y, x] > 0:
                    reach = float(np.clip(DEPTHS_REACHED * depth[y, x], MIN_REACH_PX, GEODESIC_REACH_PX))
                distance = np.maximum(geodesic_distance(seed, self.smooth_lab) - CLICK_RADIUS_PX, 0.0)
                pull[sign] = np.maximum(pull[sign], 3.0 * np.exp(-distance / reach))
        return np.asarray(pull[1] - pull[0], np.float32)

    def cut(self, logits: NDArray[Any]) -> BoolMask:
        outside = self.outside | self.prompts.negative
        return graph_cut(
            logits.astype(np.float32), self.embedding.lab_u8, inside=self.prompts.positive, outside=outside
        )

    def box_prior(self) -> NDArray[np.float32]:
        """An ellipse in the box as logits: +1.5 at the centre, 0 at the border, down to -3."""
        assert self.prompts.box is not None
        x0, y0, x1, y1 = self.prompts.box
        ys, xs = np.mgrid[: self.size[0], : self.size[1]].astype(np.float32)
        across = (xs + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
        down = (ys + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
        radius = across**2 + down**2
        return np.asarray(np.clip(1.5 * (1.0 - radius), -3.0, 1.5), np.float32)

    def start_from_box(self) -> BoolMask:
        """Colour inside the box against colour around it; the ellipse is the prior, clicks' colours are examples."""
        near = self.near
        ring = near & self.outside
        contrast = self._logits(self._train(~self.outside, near, channels=9), 9, near)
        if ring.any():
            logits = box_evidence(contrast, self.features[..., :6], ring, ~self.outside)
        else:
            # The box is the frame: all that is left is where in it the object may be.
            logits = np.asarray(0.7 * contrast + 0.7 * self.box_prior() - BOX_DOUBT, np.float32)
        logits = logits + self.like_clicks(near) + self.clicks + self.remembered + self.ratio
        return self.cut(logits)

    def like_clicks(self, near: BoolMask) -> NDArray[np.float32]:
        """Logits: nearer in colour to the positive clicks than to what is known to be background?"""
        logits = np.zeros(self.size, np.float32)
        known = near & (self.outside | self.prompts.negative)
        if not self.prompts.positive.any() or not known.any():
            return logits
        colours = self.features[..., :6]
        rng = np.random.default_rng(2)
        background = colours[known]
        background = background[rng.choice(len(background), min(800, len(background)), replace=False)]
        query = colours[near]
        to_object = nearest_distance(query, colours[self.prompts.positive])
        to_background = nearest_distance(query, background)
        logits[near] = np.clip((to_background - to_object) / LIKENESS_TEMPERATURE, -LIKENESS_LIMIT, LIKENESS_LIMIT)
        return logits

    def refine(self, mask: BoolMask, prior: NDArray[np.float32]) -> tuple[BoolMask, NDArray[np.float32]]:
        """Twice: GrabCut, a fresh network on all features, and a cut over both and the prior."""
        logits = np.where(mask, 1.0, -1.0).astype(np.float32)
        for _ in range(REFINEMENTS):
            near = self.near
            if self.prompts.box is None:
                near = cv2.dilate(mask.astype(np.uint8), np.ones((61, 61), np.uint8)).astype(bool)
            model = self._train(mask, near, channels=self.features.shape[2])
            grab = self._grab_cut(mask, near)
            logits = (
                PREVIOUS_WEIGHT * np.where(mask, 1.0, -1.0)
                + SHAPE_WEIGHT * prior
                + self._logits(model, self.features.shape[2], near)
                + GRAB_CUT_WEIGHT * np.where(grab, 1.0, -1.0)
                + self.clicks
                + self.remembered
                + RATIO_WEIGHT * self.ratio
            ).astype(np.float32)
            refined = self.cut(logits)
            if not refined.any():
                break
            mask = refined
        return mask, logits

    def start_from_clicks(self) -> tuple[BoolMask, NDArray[np.float32]]:
        """Try discs of several sizes around the positive clicks, and let the masks they lead to vote.

        A mask has more of a say where the others agree with it and where its border lies on edges of the image.
        """
        reach = distance_to(self.size, self.prompts.positive_xy)
        masks = []
        for radius_px in CLICK_DISCS_PX:
            prior = np.clip(2.0 * (1.0 - reach / radius_px), -3.0, 2.0).astype(np.float32)
            disc = (reach <= radius_px) & ~self.prompts.negative
            near = reach <= 3 * radius_px + 20
            model = self._train(disc, near, channels=9)
            masks.append(self.cut(0.7 * self._logits(model, 9, near) + prior + self.clicks + self.remembered))
        lightness = self.embedding.lab_u8[..., 0].astype(np.float32)
        gradient = np.abs(cv2.Sobel(lightness, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(lightness, cv2.CV_32F, 0, 1))
        stack = np.stack(masks).astype(np.float32)
        says = np.array([_agreement(k, stack) * (_edge_strength(masks[k], gradient) + 0.1) for k in range(len(masks))])
        share = np.tensordot((says / says.sum()).astype(np.float32), stack, 1)
        prior = np.clip(VOTE_SLOPE * (share - VOTE_MAJORITY), -2.0, 2.0).astype(np.float32)
        mask = (share > VOTE_MAJORITY) | self.prompts.positive
        return self.refine(np.asarray(mask & ~self.prompts.negative), prior)

    def correct(self, prior: NDArray[np.float32]) -> tuple[BoolMask, NDArray[np.float32]]:
        """Let clicks change an existing mask where they contradict it, and keep it elsewhere."""
        mask = prior > 0
        base = np.where(mask, 2.0, -2.0).astype(np.float32)
        wrong = (self.prompts.negative & mask) | (self.prompts.positive & ~mask)
        if not wrong.any():
            return self.cut(base + self.clicks), base
        self.clicks = self._click_logits(mask)
        wanted = self._relabel(mask)
        near = cv2.dilate((mask | wanted).astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
        # Between what a click surely flips and what it surely leaves, the network decides, so it may not learn there.
        doubt = np.clip((np.abs(self.clicks) - DOUBT_FROM) / (DOUBT_TO - DOUBT_FROM), 0.0, 1.0)
        sure = (doubt < 0.5) | (np.abs(self.clicks) > FLIP)
        model = self._train(wanted, near & sure, channels=self.features.shape[2])
        logits = self._logits(model, self.features.shape[2], near) + self.clicks + self.remembered * (1.0 - doubt)
        logits += np.where(wanted, 1.0, -1.0) * sure + 0.5 * base * (1.0 - doubt)
        return self.cut(logits), logits.astype(np.float32)

    def _relabel(self, mask: BoolMask) -> BoolMask:
        """The prior with the neighbourhoods of contradicting clicks flipped."""
        wanted = mask.copy()
        wanted[self.clicks < -FLIP] = False
        wanted[self.clicks > FLIP] = True
        return np.asarray((wanted | self.prompts.positive) & ~self.prompts.negative)

    def _train(self, labels: BoolMask, near: BoolMask, *, channels: int) -> PixelModel | None:
        rng = np.random.default_rng(1)
        rows = []
        for group in (labels & near, ~labels & near):
            candidates = np.flatnonzero(group)
            if not len(candidates):
                return None
            rows.append(rng.choice(candidates, 2500, replace=len(candidates) < 2500))
        picked = np.concatenate(rows)
        x = self.features.reshape(-1, self.features.shape[2])[picked, :channels]
        return PixelModel.train(np.ascontiguousarray(x), labels.ravel()[picked], steps=STAGE_STEPS, device=self.device)

    def _logits(self, model: PixelModel | None, channels: int, near: BoolMask | None = None) -> NDArray[np.float32]:
        if model is None:
            return np.zeros(self.size, np.float32)
        logits = np.full(self.size, -PIXEL_LIMIT, np.float32)
        where = near if near is not None else np.ones(self.size, np.bool_)
        logits[where] = model.logits(np.ascontiguousarray(self.features[where][:, :channels]))
        return logits

    def _grab_cut(self, mask: BoolMask, near: BoolMask) -> BoolMask:
        labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[self.outside] = cv2.GC_BGD
        labels[self.prompts.negative] = cv2.GC_BGD
        labels[self.prompts.positive] = cv2.GC_FGD
        ys, xs = np.nonzero(near)
        part = (slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1))
        inner = np.ascontiguousarray(labels[part])
        object_pixels = np.isin(inner, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if object_pixels.sum() < 10 or (~object_pixels).sum() < 10:
            return mask
        cv2.setRNGSeed(0)  # its k-means draws from this thread's generator
        models = np.zeros((1, 65)), np.zeros((1, 65))
        image = np.ascontiguousarray(self.embedding.bgr_u8[part])
        cv2.grabCut(image, inner, (0, 0, 1, 1), *models, 3, cv2.GC_INIT_WITH_MASK)
        result = np.zeros(self.size, np.bool_)
        result[part] = np.isin(inner, (cv2.GC_FGD, cv2.GC_PR_FGD))
        return result


def _agreement(row: int, masks: NDArray[np.float32]) -> float:
    """Mean overlap of one of several masks (n, h, w) with the others; a little more than 0 at least."""
    common = np.minimum(masks[row], masks).sum(axis=(1, 2))
    union = np.maximum(np.maximum(masks[row], masks).sum(axis=(1, 2)), 1.0)
    return float((common / union).sum() - 1.0) / max(1, len(masks) - 1) + 1e-3


def _edge_strength(mask: BoolMask, gradient: NDArray[np.float32]) -> float:
    """Mean gradient along the border of a mask, in units of the image's mean."""
    edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    return float(gradient[edge].mean() / (gradient.mean() + 1.0)) if edge.any() else 0.0
