"""From prompts to masks: which crops of a frame the network sees, one after another.

Each function here is a generator. It yields what it asks the network, is sent an answer to each question, and returns
logits of the work picture's size and the expected IoU. So the crops of several objects run in one batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.lite.decoder import Plane
from model_zoo.lite.network import Features
from pipeline.masks import bounding_box, probabilities
from pipeline.segmenters.base import FloatMap, MemoryQuery
from pipeline.segmenters.lite.colours import settled
from pipeline.segmenters.lite.crops import OUTSIDE_LOGIT, Box, Crop
from pipeline.segmenters.lite.memory import CropCells
from pipeline.types import BoolMask

CROP_PX = 256
"""Side of the crops."""
BOX_LOOKS = ((192, 1.8), (CROP_PX, 1.5))
"""Crops of a box, one after the other: their side, and how much more than the box they show."""
CLICK_SCALES = (0.7, 0.5, 0.35, 0.25, 0.17)
"""Crops around a click, as shares of the picture's width: an object of any size fills one of them well."""
EDGE_PENALTY, SPECK_PENALTY, SMALLER_PENALTY = 0.6, 0.3, 0.02
"""What the choice among them subtracts from the expected IoU: for the share of the crop's edge that the mask covers,
for a mask below `SPECK_SHARE` of the crop, and for each smaller scale."""
SPECK_SHARE = 0.02
FEW_CLICKS = 4
"""So many points may be single clicks."""
MASK_WIDENING = 1.5
"""How much more than a mask a crop around it shows."""
CARRIED_WIDENING = 1.6
"""The same for a mask carried from a neighbouring frame, which the object may have left."""
CORRECTION_PASSES = 2
"""Passes over a frame whose mask a person corrects."""
LEAST_BOX_PX = 16.0
"""Boxes of masks are widened to at least this, so that a few pixels do not fill a crop."""


@dataclass(frozen=True)
class Question:
    """A crop to run the network on: the decoder if ``wants_mask``, and the trunk unless ``features`` are known."""

    crop: Crop
    features: Features | None = None
    wants_mask: bool = True


@dataclass(frozen=True)
class Reply:
    """The trunk's features of a crop; where a mask was wanted its logits (R, R) and the expected IoU."""

    features: Features
    logits: FloatMap
    iou: float


@dataclass(frozen=True)
class Answer:
    """Logits (h, w) of the work picture, the IoU expected of the mask, and the query of the memory, if there is one."""

    logits: FloatMap
    iou: float
    query: MemoryQuery | None = None


Steps = Generator[list[Question], Sequence[Reply], Answer]


@dataclass(frozen=True)
class WorkPrompts:
    """Prompts in pixels of the work picture: points (N, 2), their signs (N,), and a box or None."""

    points_xy: NDArray[np.float32]
    positive: NDArray[np.bool_]
    box: Box | None

    @property
    def positive_xy(self) -> NDArray[np.float32]:
        """The positive points (P, 2)."""
        return self.points_xy[self.positive]

    @property
    def first(self) -> WorkPrompts:
        """The first positive point alone."""
        return WorkPrompts(self.positive_xy[:1], np.ones(1, np.bool_), None)

    def draw(self, crop: Crop) -> None:
        """Draw points and box into a crop."""
        crop.put_points(self.points_xy, self.positive)
        if self.box is not None:
            crop.put_box(self.box)


def from_box(picture: NDArray[np.uint8], prompts: WorkPrompts, previous: FloatMap | None) -> Steps:
    """The mask of a box, with or without points; ``previous`` holds logits (h, w) of an earlier mask or is None.

    The first look is a wide one: what lies around the box is not the object. The second one sees its answer.
    """
    assert prompts.box is not None
    reach = _joined(prompts.box, prompts.positive_xy)
    answer, before = Answer(nothing((picture.shape[0], picture.shape[1])), 0.0), previous
    for side, widening in BOX_LOOKS:
        crop = Crop.around(picture, reach, widening, side)
        prompts.draw(crop)
        if before is not None:
            crop.put_previous(probabilities(before))
        (reply,) = yield [Question(crop)]
        answer = Answer(crop.to_frame(reply.logits, picture.shape[:2]), reply.iou)
        if (answer.logits > 0).any():
            # Points already say what a box alone leaves to colours.
            before = answer.logits if len(prompts.points_xy) else settled(picture, answer.logits)
    return Answer(settled(picture, answer.logits), answer.iou)


def from_clicks(picture: NDArray[np.uint8], prompts: WorkPrompts) -> Steps:
    """The mask of clicks on an object of unknown size: the best of several scales, and a second look at it.

    A few clicks came one after the other: the first one says what is meant, the others correct that. Many are the
    points of a stroke.
    """
    shown = prompts.first if len(prompts.points_xy) <= FEW_CLICKS else prompts
    middle = shown.positive_xy.mean(0)
    spread = float(np.ptp(shown.positive_xy, axis=0).max()) * 1.1
    sizes = sorted({max(scale * picture.shape[1], spread) for scale in CLICK_SCALES}, reverse=True)
    crops = [Crop.of(picture, (float(middle[0]), float(middle[1])), each, CROP_PX) for each in sizes]
    for crop in crops:
        shown.draw(crop)
    replies = yield [Question(crop) for crop in crops]
    merits = [_merit(crop, reply.logits, reply.iou) for crop, reply in zip(crops, replies, strict=True)]
    best = int(np.argmax(np.array(merits) - SMALLER_PENALTY * np.arange(len(merits))))
    logits = crops[best].to_frame(replies[best].logits, picture.shape[:2])
    mask = _with_points(logits > 0, shown.positive_xy)
    if not mask.any():
        return Answer(logits, replies[best].iou)
    kept = np.where(mask, logits, np.minimum(logits, -2.0)).astype(np.float32)
    return (yield from corrected(picture, prompts, kept))


def corrected(picture: NDArray[np.uint8], prompts: WorkPrompts, previous: FloatMap) -> Steps:
    """An earlier mask, logits (h, w), corrected by clicks: the network sees it, and then its own answer once more.

    So an object of which the earlier mask shows a half can grow beyond the first crop.
    """
    answer = Answer(previous, 0.0)
    for _ in range(CORRECTION_PASSES):
        mask = answer.logits > 0
        if not mask.any():
            break
        crop = Crop.around(picture, _joined(box_of(mask), prompts.positive_xy), MASK_WIDENING, CROP_PX)
        prompts.draw(crop)
        crop.put_previous(probabilities(answer.logits))
        (reply,) = yield [Question(crop)]
        answer = Answer(crop.to_frame(reply.logits, picture.shape[:2]), reply.iou)
    return answer


def carried_crop(picture: NDArray[np.uint8], previous: FloatMap) -> Crop:
    """The crop around a mask that is expected on a frame, logits (h, w) with a positive pixel."""
    return Crop.around(picture, box_of(previous > 0), CARRIED_WIDENING, CROP_PX)


def carried(
    cells: CropCells, previous: FloatMap, evidence: NDArray[np.float32] | None, prompts: WorkPrompts | None
) -> Steps:
    """The mask of an object expected at ``previous``, with what the memory says of the cells there.

    Args:
        cells: of `carried_crop`.
        previous: logits (h, w).
        evidence: (N,) in [0, 1] of the crop's cells, or None.
        prompts: of a person on this frame, or None.
    """
    crop = cells.crop
    crop.put_previous(probabilities(previous))
    if evidence is not None:
        cells.put(evidence)
    if prompts is not None:
        prompts.draw(crop)
    (reply,) = yield [Question(crop, cells.features)]
    return Answer(crop.to_frame(reply.logits, (previous.shape[0], previous.shape[1])), reply.iou)


def _with_points(mask: BoolMask, points_xy: NDArray[np.float32]) -> BoolMask:
    """The parts of a mask on which points lie; the whole mask if there are none."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    height, width = mask.shape
    at = np.clip(points_xy.astype(int), 0, (width - 1, height - 1))
    kept = set(labels[at[:, 1], at[:, 0]].tolist()) - {0}
    return np.isin(labels, list(kept)) if kept else mask


def nothing(size_hw: tuple[int, int]) -> FloatMap:
    """Logits of an empty mask."""
    return np.full(size_hw, OUTSIDE_LOGIT, np.float32)


def _merit(crop: Crop, logits: FloatMap, iou: float) -> float:
    """How good a scale is: the expected IoU, less where the mask runs out of the crop or is a speck in it."""
    mask = logits > 0
    valid = crop.planes[Plane.VALID] > 0
    rows, columns = np.nonzero(valid.any(1))[0], np.nonzero(valid.any(0))[0]
    if not len(rows):
        return -1.0
    sides = mask[rows[0]], mask[rows[-1]], mask[:, columns[0]], mask[:, columns[-1]]
    at_edge = float(np.concatenate(sides).mean())
    return iou - EDGE_PENALTY * at_edge - (SPECK_PENALTY if mask.mean() < SPECK_SHARE else 0.0)


def box_of(mask: BoolMask) -> Box:
    """The box of a mask that is not empty, of at least `LEAST_BOX_PX`."""
    x0, y0, x1, y1 = (float(v) for v in bounding_box(mask))
    pad_x, pad_y = (max(0.0, (LEAST_BOX_PX - size) / 2) for size in (x1 - x0, y1 - y0))
    return x0 - pad_x, y0 - pad_y, x1 + pad_x, y1 + pad_y


def _joined(box: Box, points_xy: NDArray[np.float32]) -> Box:
    """The smallest box around a box and points."""
    if not len(points_xy):
        return box
    (left, top), (right, bottom) = points_xy.min(0).tolist(), points_xy.max(0).tolist()
    return min(box[0], left), min(box[1], top), max(box[2], right), max(box[3], bottom)
