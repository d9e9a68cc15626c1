"""The mask of one frame from a box, alone or with clicks: everything around the box is background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.appearance import AppearanceModel
from pipeline.segmenters.classical.box_cues import (
    box_logits,
    click_example_logits,
    click_example_weight,
    example_logits,
)
from pipeline.segmenters.classical.features import ClassicalEmbedding, Region
from pipeline.segmenters.classical.prompts import (
    ABSENT_LOGIT,
    COLOUR_CHANNELS,
    MaskAndLogits,
    PromptSolver,
    WorkPrompts,
)
from pipeline.types import BoolMask

RING_SHARE = 0.3
"""Width of the surroundings of a box, as a share of its longer side."""
WIDENING_PX = 12
"""A positive click outside the box widens it to this far beyond the click."""
FILLED_SHARE = 0.95
"""If this share of a box differs from its surroundings, the object fills the box."""
FILLED_CONTRAST_WEIGHT = 0.7
"""Weight, in a filled box, of the network that separates the box from its surroundings."""
FILLED_ELLIPSE_WEIGHT = 0.7
"""Weight of the ellipse in a filled box."""
ELLIPSE_LOGIT = 1.5
"""Logit at the centre of the ellipse in a box; it falls to 0 at the ellipse's border."""
ELLIPSE_MIN_LOGIT = -3.0
"""Least logit outside the ellipse."""
EXAMPLE_SHARE = 0.5
"""Share of the first mask, with the highest logits, that serves as examples of the object."""
FINAL_GRAB_CUT_WEIGHT = 0.5
"""Logit, positive or negative, that the last GrabCut gives."""
MASK_PRIOR_LOGIT = 4.0
"""Logit deep inside an earlier mask that agrees with all prompts."""
MASK_PRIOR_DEPTH = 0.1
"""Depth at which it is reached, in square roots of the mask's area."""


def segment_box(
    embedding: ClassicalEmbedding,
    prompts: WorkPrompts,
    mask_prior: NDArray[np.float32] | None,
    appearance: AppearanceModel | None,
    device: str,
) -> MaskAndLogits:
    """Mask and logits, both (h, w), that obey a person's box and clicks.

    Only the box and its surroundings are solved: nothing farther away can be object, and small objects take less time.

    Args:
        embedding: of this frame.
        prompts: with a box.
        mask_prior: (h, w) logits of an earlier mask, or None.
        appearance: trained on other prompted frames, or None.
        device: where the networks train.
    """
    assert prompts.box is not None
    size = embedding.work_size_hw_px
    points = prompts.positive_xy
    limits = np.array([prompts.box, (*points.min(axis=0), *(points.max(axis=0) + 1))] if len(points) else [prompts.box])
    (x0, y0), (x1, y1) = limits[:, :2].min(axis=0).tolist(), limits[:, 2:].max(axis=0).tolist()
    widened = (x0 - WIDENING_PX, y0 - WIDENING_PX, x1 + WIDENING_PX, y1 + WIDENING_PX)
    region = Region.around(widened, RING_SHARE, size)
    solver = _BoxSolver(embedding.cropped(region), prompts.cropped(region), appearance, device)
    if mask_prior is not None:
        solver.add_mask_prior(mask_prior[region.slices], int((mask_prior > 0).sum()))
    mask, logits = np.zeros(size, np.bool_), np.full(size, ABSENT_LOGIT, np.float32)
    mask[region.slices], logits[region.slices] = solver.segment()
    return mask, logits


class _BoxSolver(PromptSolver):
    """The part of a frame that a box and its surroundings cover."""

    def __init__(
        self, embedding: ClassicalEmbedding, prompts: WorkPrompts, appearance: AppearanceModel | None, device: str
    ) -> None:
        super().__init__(embedding, prompts, appearance, device)
        assert prompts.box is not None
        self.box = prompts.box
        self.excluded = self._outside_box()
        self.area: BoolMask = np.zeros(self.size, np.bool_)
        self.area[Region.around(self.box, RING_SHARE, self.size).slices] = True
        self.ring = self.area & self.excluded
        self.negative_clicks = np.minimum(self.clicks, 0.0)

    def training_area(self, mask: BoolMask) -> BoolMask:  # noqa: ARG002 - the box determines it
        """Pixels (h, w) among which a network learns: those in the box and around it."""
        return self.area

    def segment(self) -> MaskAndLogits:
        """Compare the box with examples of the object: the clicks, and while they are few a first mask's surest part.

        Without a ring, as when the box covers the whole frame, the first mask is the answer.
        """
        click_weight = click_example_weight(self.prompts) if self.ring.any() else 0.0
        logits: NDArray[np.float32] = np.zeros(self.size, np.float32)
        background, inside = self.ring | self.prompts.negative, ~self.excluded
        if click_weight < 1.0:
            mask, first_logits = self.refine(self._first_mask(), self._ellipse())
            objects = self._surest_pixels(mask, first_logits)
            if not self.ring.any() or not objects.any():
                return mask, first_logits
            found = example_logits(self.features, self.prompts, objects, background, inside)
            logits = np.asarray((1.0 - click_weight) * found, np.float32)
        if click_weight > 0.0:
            logits = logits + click_weight * click_example_logits(self.features, self.prompts, background, inside)
        logits = np.asarray(logits + self.negative_clicks + self.prior_logits, np.float32)
        mask = self.cut(logits)
        grab = self.grab_cut(mask, self.area)
        logits = np.asarray(logits + FINAL_GRAB_CUT_WEIGHT * np.where(grab, 1.0, -1.0), np.float32)
        return self.cut(logits), logits

    def add_mask_prior(self, mask_prior: NDArray[np.float32], area_px: int) -> None:
        """Add an earlier mask to the prior logits, as far as it agrees with the box and the clicks.

        Args:
            mask_prior: (h, w) its logits in this part of the frame.
            area_px: its area in the whole frame.
        """
        mask = mask_prior > 0
        if not mask.any():
            return
        ys, xs = np.nonzero(mask)
        x0, y0, x1, y1 = self.box
        ax, ay, bx, by = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        common = max(0, min(x1, bx) - max(x0, ax)) * max(0, min(y1, by) - max(y0, ay))
        agreement = common / ((x1 - x0) * (y1 - y0) + (bx - ax) * (by - ay) - common) * mask.sum() / area_px
        for points, positive in ((self.prompts.positive_xy, True), (self.prompts.negative_xy, False)):
            if len(points):
                agreement *= float((mask[points[:, 1], points[:, 0]] == positive).mean())
        inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
        certainty = np.clip((inside - outside) / (MASK_PRIOR_DEPTH * np.sqrt(mask.sum())), -1.0, 1.0)
        self.prior_logits = (self.prior_logits + MASK_PRIOR_LOGIT * agreement**2 * certainty).astype(np.float32)

    def _first_mask(self) -> BoolMask:
        """Colour inside the box against colour around it."""
        network = self.train_network(~self.excluded, self.area, channels=COLOUR_CHANNELS)
        contrast = self.network_logits(network, self.area, channels=COLOUR_CHANNELS)
        different = float((contrast[~self.excluded] > 0).mean()) if self.ring.any() else 1.0
        if different >= FILLED_SHARE:
            # The object fills its box, so comparing the box's pixels with each other would not help.
            logits = np.asarray(FILLED_CONTRAST_WEIGHT * contrast + FILLED_ELLIPSE_WEIGHT * self._ellipse(), np.float32)
        else:
            logits = box_logits(contrast, self.features[..., :6], self.ring, ~self.excluded)
        return self.cut(logits + self.clicks + self.prior_logits)

    def _surest_pixels(self, mask: BoolMask, logits: NDArray[np.float32]) -> BoolMask:
        """`EXAMPLE_SHARE` of a mask, with the highest logits, and the clicks on the object."""
        mask = mask & ~self.excluded
        if not mask.any():
            return mask
        chosen = mask & (logits >= np.quantile(logits[mask], 1.0 - EXAMPLE_SHARE))
        return np.asarray((chosen | self.prompts.positive) & ~self.prompts.negative)

    def _outside_box(self) -> BoolMask:
        """Pixels (h, w) that the mask may not have: those outside the box, which positive clicks out there widen."""
        x0, y0, x1, y1 = self.box
        for x, y in self.prompts.positive_xy:
            if not (x0 <= x < x1 and y0 <= y < y1):
                x0, y0 = min(x0, x - WIDENING_PX), min(y0, y - WIDENING_PX)
                x1, y1 = max(x1, x + WIDENING_PX), max(y1, y + WIDENING_PX)
        outside = np.ones(self.size, np.bool_)
        outside[max(0, y0) : y1, max(0, x0) : x1] = False
        return outside

    def _ellipse(self) -> NDArray[np.float32]:
        """(h, w) logits of an ellipse that touches the sides of the box."""
        x0, y0, x1, y1 = self.box
        ys, xs = np.mgrid[: self.size[0], : self.size[1]].astype(np.float32)
        across = (xs + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
        down = (ys + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
        radius = across**2 + down**2
        return np.asarray(np.clip(ELLIPSE_LOGIT * (1.0 - radius), ELLIPSE_MIN_LOGIT, ELLIPSE_LOGIT), np.float32)
