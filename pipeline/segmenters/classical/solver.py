"""The steps that masks of one frame are made of: clicks that pull, a network, GrabCut and a graph cut."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.appearance import Appearance, Region, pixel_features
from pipeline.segmenters.classical.boundary import geodesic_distance, graph_cut
from pipeline.segmenters.classical.features import ClassicalEmbedding
from pipeline.segmenters.classical.memory import Projection
from pipeline.segmenters.classical.pixel_model import LOGIT_LIMIT as PIXEL_LIMIT
from pipeline.segmenters.classical.pixel_model import PixelModel
from pipeline.segmenters.classical.work_prompts import CLICK_RADIUS_PX, WorkPrompts
from pipeline.types import BoolMask

STAGE_STEPS = 120
REFINEMENTS = 2
GEODESIC_REACH_PX = 40.0
MIN_REACH_PX = 8.0
DEPTHS_REACHED = 4.0
PREVIOUS_WEIGHT, SHAPE_WEIGHT, GRAB_CUT_WEIGHT = 0.4, 0.6, 1.5


class Solver:
    """The steps of one prompted frame; holds what they share."""

    def __init__(
        self, embedding: ClassicalEmbedding, prompts: WorkPrompts, appearance: Appearance | None, device: str
    ) -> None:
        self.embedding, self.prompts, self.device = embedding, prompts, device
        self.size = embedding.work_size_hw_px
        whole = Region.whole(self.size)
        projection = appearance.projection if appearance is not None else Projection.fit([embedding])
        self.features = pixel_features(embedding, projection(embedding), whole)
        self.smooth_lab = self.features[..., 3:6]
        self.outside: BoolMask = np.zeros(self.size, np.bool_)
        self.remembered: NDArray[np.float32] = np.zeros(self.size, np.float32)
        if appearance is not None:
            self.remembered = np.asarray(0.5 * appearance.read(embedding, whole), np.float32)
        self.clicks = self.click_logits()

    def click_logits(self, prior: BoolMask | None = None) -> NDArray[np.float32]:
        """+-3 at the clicks, fading with geodesic distance.

        Args:
            prior: the mask that the clicks correct. A click close to its border reaches less far: what is wrong there
                is a strip along the border, and a wide reach would cut into what is right. A click that agrees with
                the mask speaks for its own side alone: it defends what is there and moves no border.
        """
        pull = np.zeros((2, *self.size), np.float32)
        for sign, centres in enumerate((self.prompts.negative_xy, self.prompts.positive_xy)):
            depth = None
            wrong: BoolMask = np.zeros(self.size, np.bool_)
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
                strength = 3.0 * np.exp(-distance / reach)
                if depth is not None and depth[y, x] == 0:
                    strength = np.where(wrong, 0.0, strength)
                pull[sign] = np.maximum(pull[sign], strength)
        return np.asarray(pull[1] - pull[0], np.float32)

    def cut(self, logits: NDArray[Any]) -> BoolMask:
        outside = self.outside | self.prompts.negative
        return graph_cut(
            logits.astype(np.float32), self.embedding.lab_u8, inside=self.prompts.positive, outside=outside
        )

    def surroundings(self, mask: BoolMask) -> BoolMask:
        """Pixels (h, w) that a mask is told from."""
        return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((61, 61), np.uint8)), np.bool_)

    def refine(self, mask: BoolMask, prior: NDArray[np.float32]) -> tuple[BoolMask, NDArray[np.float32]]:
        """Twice: GrabCut, a fresh network on all features, and a cut over both and the prior."""
        logits = np.where(mask, 1.0, -1.0).astype(np.float32)
        for _ in range(REFINEMENTS):
            near = self.surroundings(mask)
            model = self.train(mask, near, channels=self.features.shape[2])
            grab = self.grab_cut(mask, near)
            logits = (
                PREVIOUS_WEIGHT * np.where(mask, 1.0, -1.0)
                + SHAPE_WEIGHT * prior
                + self.logits(model, self.features.shape[2], near)
                + GRAB_CUT_WEIGHT * np.where(grab, 1.0, -1.0)
                + self.clicks
                + self.remembered
            ).astype(np.float32)
            refined = self.cut(logits)
            if not refined.any():
                break
            mask = refined
        return mask, logits

    def train(self, labels: BoolMask, near: BoolMask, *, channels: int) -> PixelModel | None:
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

    def logits(self, model: PixelModel | None, channels: int, near: BoolMask | None = None) -> NDArray[np.float32]:
        if model is None:
            return np.zeros(self.size, np.float32)
        logits = np.full(self.size, -PIXEL_LIMIT, np.float32)
        where = near if near is not None else np.ones(self.size, np.bool_)
        logits[where] = model.logits(np.ascontiguousarray(self.features[where][:, :channels]))
        return logits

    def grab_cut(self, mask: BoolMask, near: BoolMask) -> BoolMask:
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
