"""The mask of one frame from a box, alone or with clicks: what is around the box is background for certain."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.appearance import Appearance, Region
from pipeline.segmenters.classical.box_evidence import box_evidence
from pipeline.segmenters.classical.examples import click_evidence, example_evidence, sureness_of
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.segmenters.classical.solver import Solver
from pipeline.segmenters.classical.work_prompts import WorkPrompts
from pipeline.types import BoolMask

FILLED_SHARE = 0.95
"""A box of which this much differs from its surroundings is all object."""
RING_SHARE = 0.3
WIDENING_PX = 12
TRUST = 4.0
"""Logits deep inside an earlier mask that agrees with the prompts in full; how deep, in square roots of its area."""
TRUST_DEPTH = 0.1
SURE_SHARE = 0.5
FINAL_GRAB_CUT_WEIGHT = 0.5


def segment_box(
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
    solver = BoxSolver(_crop(embedding, region), prompts.within(region.slices), appearance, device)
    if prior is not None:
        solver.trust_prior(prior[region.slices], int((prior > 0).sum()))
    mask, logits = np.zeros(size, np.bool_), np.full(size, -6.0, np.float32)
    mask[region.slices], logits[region.slices] = solver.solve()
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


class BoxSolver(Solver):
    """The part of a frame that a box and its surroundings cover."""

    def __init__(
        self, embedding: ClassicalEmbedding, prompts: WorkPrompts, appearance: Appearance | None, device: str
    ) -> None:
        super().__init__(embedding, prompts, appearance, device)
        assert prompts.box is not None
        self.outside = self._forbidden()
        self.near: BoolMask = np.zeros(self.size, np.bool_)
        self.near[Region.around(prompts.box, RING_SHARE, self.size).slices] = True
        self.ring = self.near & self.outside
        self.repelled = np.minimum(self.clicks, 0.0)

    def surroundings(self, mask: BoolMask) -> BoolMask:  # noqa: ARG002 - the box says it
        """Pixels (h, w) that a mask is told from: those in the box and around it."""
        return self.near

    def solve(self) -> tuple[BoolMask, NDArray[np.float32]]:
        """Examples of the object are the clicks, and while these are few the surest part of what the box finds."""
        telling = sureness_of(self.prompts) if self.ring.any() else 0.0
        evidence: NDArray[np.float32] = np.zeros(self.size, np.float32)
        background, inside = self.ring | self.prompts.negative, ~self.outside
        if telling < 1.0:
            mask, logits = self.refine(self._start(), self._ellipse())
            objects = self._surest(mask, logits)
            if not self.ring.any() or not objects.any():
                return mask, logits
            found = example_evidence(self.features, self.prompts, objects, background, inside)
            evidence = np.asarray((1.0 - telling) * found, np.float32)
        if telling > 0.0:
            evidence = evidence + telling * click_evidence(self.features, self.prompts, background, inside)
        evidence = np.asarray(evidence + self.repelled + self.remembered, np.float32)
        mask = self.cut(evidence)
        grab = self.grab_cut(mask, self.near)
        evidence = np.asarray(evidence + FINAL_GRAB_CUT_WEIGHT * np.where(grab, 1.0, -1.0), np.float32)
        return self.cut(evidence), evidence

    def _start(self) -> BoolMask:
        """Colour inside the box against colour around it."""
        contrast = self.logits(self.train(~self.outside, self.near, channels=9), 9, self.near)
        unlike = float((contrast[~self.outside] > 0).mean()) if self.ring.any() else 1.0
        if unlike >= FILLED_SHARE:
            # The object fills its box: comparing the box's pixels with each other would tell nothing.
            logits = np.asarray(0.7 * contrast + 0.7 * self._ellipse(), np.float32)
        else:
            logits = box_evidence(contrast, self.features[..., :6], self.ring, ~self.outside)
        return self.cut(logits + self.clicks + self.remembered)

    def _surest(self, mask: BoolMask, logits: NDArray[np.float32]) -> BoolMask:
        """The half of a mask with the strongest logits, and the clicks on the object."""
        mask = mask & ~self.outside
        if not mask.any():
            return mask
        chosen = mask & (logits >= np.quantile(logits[mask], 1.0 - SURE_SHARE))
        return np.asarray((chosen | self.prompts.positive) & ~self.prompts.negative)

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

    def _ellipse(self) -> NDArray[np.float32]:
        """An ellipse in the box as logits: +1.5 at the centre, 0 at the border, down to -3."""
        assert self.prompts.box is not None
        x0, y0, x1, y1 = self.prompts.box
        ys, xs = np.mgrid[: self.size[0], : self.size[1]].astype(np.float32)
        across = (xs + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
        down = (ys + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
        radius = across**2 + down**2
        return np.asarray(np.clip(1.5 * (1.0 - radius), -3.0, 1.5), np.float32)
