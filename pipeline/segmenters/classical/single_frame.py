"""The mask of one frame from a person's prompts: a box, clicks, or a mask to correct."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.appearance import Appearance
from pipeline.segmenters.classical.boundary import LOGIT_LIMIT
from pipeline.segmenters.classical.boxed import segment_box
from pipeline.segmenters.classical.features import ClassicalEmbedding
from pipeline.segmenters.classical.solver import Solver
from pipeline.segmenters.classical.work_prompts import WorkPrompts, distance_to
from pipeline.types import BoolMask

CLICK_DISCS = tuple(radius_px / 428 for radius_px in (14, 22, 34, 52, 80))
"""Radii tried around a click, as shares of the frame's longer side."""
FLIP = 1.2
"""Strength of a click, in logits, from which a pixel changes sides in a mask that the click corrects."""
DOUBT_FROM, DOUBT_TO = 0.15, 0.6
VOTE_MAJORITY, VOTE_SLOPE = 0.45, 4.0


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
        return segment_box(embedding, prompts, prior, appearance, device)
    solver = _ClickSolver(embedding, prompts, appearance, device)
    if prior is not None and (prior > 0).any():
        return solver.correct(prior)
    if not len(prompts.positive_xy):
        nothing = np.zeros(embedding.work_size_hw_px, np.bool_)
        return nothing, np.full(nothing.shape, -6.0, np.float32)
    return solver.start_from_clicks()


class _ClickSolver(Solver):
    """A frame with clicks and no box."""

    def start_from_clicks(self) -> tuple[BoolMask, NDArray[np.float32]]:
        """Try discs of several sizes around the positive clicks, and let the masks they lead to vote.

        A mask has more of a say where the others agree with it and where its border lies on edges of the image.
        """
        reach = distance_to(self.size, self.prompts.positive_xy)
        masks = []
        for radius_px in (share * max(self.size) for share in CLICK_DISCS):
            prior = np.clip(2.0 * (1.0 - reach / radius_px), -3.0, 2.0).astype(np.float32)
            disc = (reach <= radius_px) & ~self.prompts.negative
            near = reach <= 3 * radius_px + 20
            model = self.train(disc, near, channels=9)
            masks.append(self.cut(0.7 * self.logits(model, 9, near) + prior + self.clicks + self.remembered))
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
        self.clicks = self.click_logits(mask)
        wrong = (self.prompts.negative & mask) | (self.prompts.positive & ~mask)
        if not wrong.any():
            return self.cut(base + self.clicks), base + self.clicks
        wanted = self._relabel(mask)
        near = cv2.dilate((mask | wanted).astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
        # Between what a click surely flips and what it surely leaves, the network decides, so it may not learn there.
        doubt = np.clip((np.abs(self.clicks) - DOUBT_FROM) / (DOUBT_TO - DOUBT_FROM), 0.0, 1.0)
        sure = (doubt < 0.5) | (np.abs(self.clicks) > FLIP)
        model = self.train(wanted, near & sure, channels=self.features.shape[2])
        logits = self.logits(model, self.features.shape[2], near) + self.clicks + self.remembered * (1.0 - doubt)
        logits += np.where(wanted, 1.0, -1.0) * sure + 0.5 * base * (1.0 - doubt)
        found = self.cut(logits)
        # What the clicks decided is not for later passes to question.
        decided = np.abs(self.clicks) > FLIP
        logits = np.where(decided, np.where(found, LOGIT_LIMIT, -LOGIT_LIMIT), logits)
        return found, logits.astype(np.float32)

    def _relabel(self, mask: BoolMask) -> BoolMask:
        """The prior with the neighbourhoods of contradicting clicks flipped."""
        wanted = mask.copy()
        wanted[self.clicks < -FLIP] = False
        wanted[self.clicks > FLIP] = True
        return np.asarray((wanted | self.prompts.positive) & ~self.prompts.negative)


def _agreement(row: int, masks: NDArray[np.float32]) -> float:
    """Mean overlap of one of several masks (n, h, w) with the others; a little more than 0 at least."""
    common = np.minimum(masks[row], masks).sum(axis=(1, 2))
    union = np.maximum(np.maximum(masks[row], masks).sum(axis=(1, 2)), 1.0)
    return float((common / union).sum() - 1.0) / max(1, len(masks) - 1) + 1e-3


def _edge_strength(mask: BoolMask, gradient: NDArray[np.float32]) -> float:
    """Mean gradient along the border of a mask, in units of the image's mean."""
    edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    return float(gradient[edge].mean() / (gradient.mean() + 1.0)) if edge.any() else 0.0
