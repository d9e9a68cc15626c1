"""Crops of composed frames with simulated prompts and carried masks, and what the memory knows of the other frame."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.lite.decoder import N_PLANES, Plane
from pipeline.masks import bounding_box
from pipeline.segmenters.lite.crops import crop_matrix, put_box, put_disc, warped
from pipeline.segmenters.lite.embedding import CELL_PX
from tools.train_lite.compose import Pair

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Matrix = NDArray[np.float64]

KINDS = {"box": 0.25, "box_clicks": 0.12, "click": 0.22, "propagated": 0.28, "carried": 0.09, "recalled": 0.04}
"""Shares of what is asked: by a box, box and clicks, clicks; with carried mask and evidence, either one alone."""
MORE_CLICKS = {"box_clicks": 1.0, "click": 0.25, "carried": 0.1, "propagated": 0.08}
"""How often samples of a kind get clicks anywhere, or more of them."""
CORRECTED = {"carried": 0.55, "propagated": 0.15}
"""How often samples of a kind get clicks in the errors of the carried mask."""
MIN_AREA_PX = 100
"""Objects of which a frame shows less are left out."""
MIN_CROP_AREA_PX = 30
"""The same for crops."""
REFERENCE_WIDENINGS = (1.6, 3.2)
"""How much more than the object remembered crops show, as in the segmenter."""


@dataclass(frozen=True)
class Reference:
    """A crop (R, R, 3) of the other frame, which the memory knows.

    Attributes:
        crop: RGB uint8.
        shares: (n, n), how much of each of the memory's cells is object.
        shown: (n, n), which cells show the frame.
    """

    crop: NDArray[np.uint8]
    shares: Floats
    shown: Bools


@dataclass
class Sample:
    """One crop.

    Attributes:
        crop: RGB (R, R, 3) uint8.
        planes: (N_PLANES, R, R) float32, without evidence and likeness.
        truth: (R, R).
        references: what the memory knows; empty where it is not asked.
    """

    crop: NDArray[np.uint8]
    planes: Floats
    truth: Bools
    references: list[Reference] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """An object on a frame and on the other one; ``remembered`` where the memory knows the other one."""

    frame_rgb: NDArray[np.uint8]
    mask: Bools
    other_rgb: NDArray[np.uint8]
    other_mask: Bools
    remembered: bool


class Sampler:
    """Draws samples from composed pairs."""

    def __init__(self, pairs: Path, seed: int) -> None:
        """Read all pairs.

        Raises:
            FileNotFoundError: there are none.
        """
        self.rng = np.random.default_rng(seed)
        self.pairs: list[Pair] = []
        for file in sorted(pairs.glob("pairs_*.pkl")):
            self.pairs += pickle.loads(file.read_bytes())
        if not self.pairs:
            raise FileNotFoundError(
                f"expected pairs_*.pkl in {pairs}, but there is none; run `python -m tools.train_lite data`"
            )

    def sample(self, side_px: int) -> Sample:
        """One sample of a crop of ``side_px``."""
        while True:
            kind = str(self.rng.choice(list(KINDS), p=list(KINDS.values())))
            target = self._target(kind)
            found = None if target is None else self._crop(kind, target, side_px)
            if found is not None:
                return found

    def batch(self, n: int, side_px: int) -> list[Sample]:
        """``n`` samples."""
        return [self.sample(side_px) for _ in range(n)]

    def _target(self, kind: str) -> Target | None:
        """An object for a kind of sample; now and then one that has left the frame. None if the pair has none."""
        rng = self.rng
        pair = self.pairs[rng.integers(len(self.pairs))]
        remembered = kind in ("propagated", "recalled")
        frame = int(rng.integers(2))
        grouped = rng.random() < (0.4 if kind == "click" else 0.55)
        here, there = (pair.object_ids(which, grouped=grouped) for which in (frame, 1 - frame))
        gone = remembered and rng.random() < 0.08
        counts = [np.bincount(labels.ravel(), minlength=256)[1:] for labels in (here, there)]
        enough = counts[0] == 0 if gone else counts[0] >= MIN_AREA_PX
        if remembered:
            enough &= counts[1] >= MIN_AREA_PX
        if not enough.any():
            return None
        object_id = 1 + int(rng.choice(np.nonzero(enough)[0]))
        masks = [np.asarray(labels == object_id, np.bool_) for labels in (here, there)]
        return Target(pair.frame_rgb(frame), masks[0], pair.frame_rgb(1 - frame), masks[1], remembered)

    def _crop(self, kind: str, target: Target, side_px: int) -> Sample | None:
        """A crop around an object with what it is asked by; None if too little of the object is in it."""
        mask = target.mask
        box = np.array(bounding_box(mask if mask.any() else target.other_mask))
        click = _point(mask, self.rng) if kind == "click" else None
        centre, shown_px = self._place(box, click, mask.shape[1])
        flip = self.rng.random() < 0.5
        matrix = crop_matrix((float(centre[0]), float(centre[1])), max(shown_px, 20), side_px, flip=flip)
        crop, valid = warped(target.frame_rgb, matrix, side_px)
        truth = np.asarray(cv2.warpAffine(mask.astype(np.float32), matrix, (side_px, side_px)) > 0.5, np.bool_)
        if mask.any() and truth.sum() < MIN_CROP_AREA_PX:
            return None
        planes: Floats = np.zeros((N_PLANES, side_px, side_px), np.float32)
        planes[Plane.VALID] = valid
        self._put_prompts(kind, planes, truth, box, click, matrix)
        if kind in ("propagated", "carried"):
            carried = self._carried(target, truth, matrix, side_px)
            if carried is not None:
                planes[Plane.PREVIOUS] = (2 * carried - 1) * valid
                if self.rng.random() < CORRECTED[kind]:
                    correct(planes, carried, truth, self.rng, keep=1.0)
        references = self._references(target, side_px, flip=flip) if target.remembered else []
        return Sample(crop, planes, truth, references)

    def _references(self, target: Target, side_px: int, *, flip: bool) -> list[Reference]:
        """One or both of the crops of the other frame that a memory knows."""
        x0, y0, x1, y1 = bounding_box(target.other_mask)
        n, found = side_px // CELL_PX, []
        for widening in REFERENCE_WIDENINGS[: 1 if self.rng.random() < 0.4 else 2]:
            shown_px = max(x1 - x0, y1 - y0) * widening * self.rng.uniform(0.9, 1.1)
            matrix = crop_matrix(((x0 + x1) / 2, (y0 + y1) / 2), max(shown_px, 20), side_px, flip=flip)
            crop, valid = warped(target.other_rgb, matrix, side_px)
            moved = cv2.warpAffine(target.other_mask.astype(np.float32), matrix, (side_px, side_px))
            shares, shown = (cv2.resize(each, (n, n), interpolation=cv2.INTER_AREA) for each in (moved, valid))
            found.append(Reference(crop, np.asarray(shares, np.float32), np.asarray(shown > 0.5, np.bool_)))
        return found

    def _place(self, box: Matrix, click_xy: tuple[float, float] | None, width: int) -> tuple[Matrix, float]:
        """The centre (2,) of a crop and how many pixels of a frame of ``width`` it shows.

        Without a click it lies around the box. With one, which says little of an object's size, it may show anything
        between a part of the object and the whole frame.
        """
        rng = self.rng
        size = max(box[2] - box[0], box[3] - box[1])
        middle = (box[:2] + box[2:]) / 2
        if click_xy is None:
            shown_px = size * (rng.uniform(1.15, 1.75) if rng.random() < 0.8 else rng.uniform(1.0, 2.4))
            return middle + rng.normal(0, 0.05, 2) * size, shown_px
        large = max(1.5 * size, 1.1 * width)
        spread = np.exp(rng.uniform(np.log(0.9 * size), np.log(large)))
        shown_px = spread if rng.random() < 0.6 else size * rng.uniform(1.1, 2)
        return (np.array(click_xy) if rng.random() < 0.6 else middle) + rng.normal(0, 0.06, 2) * shown_px, shown_px

    def _put_prompts(
        self,
        kind: str,
        planes: Floats,
        truth: Bools,
        box: Matrix,
        click_xy: tuple[float, float] | None,
        matrix: Matrix,
    ) -> None:
        """Draw box and clicks of one kind of sample; ``box`` and ``click_xy`` are in pixels of the frame."""
        rng = self.rng
        if kind.startswith("box") or (kind == "carried" and rng.random() < 0.2):
            self._put_box(planes, box, matrix)
        if click_xy is not None:
            u, v = matrix @ np.array([*click_xy, 1.0])
            put_disc(planes[Plane.POSITIVE], float(u), float(v))
        if truth.any() and rng.random() < MORE_CLICKS.get(kind, 0.0):
            self._put_clicks(planes, truth)

    def _put_box(self, planes: Floats, box: Matrix, matrix: Matrix) -> None:
        """A box; half of them are loose or shifted, as people draw them."""
        rng = self.rng
        draw = rng.random()
        size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        if draw < 0.45:
            box = box + rng.normal(0, 0.03, 4) * size
        elif draw < 0.6:
            box = box + rng.uniform(0, 0.15, 4) * size * [-1, -1, 1, 1]
        put_box(planes, box, matrix)

    def _put_clicks(self, planes: Floats, truth: Bools) -> None:
        """One to eight clicks on the object, and often some beside it."""
        rng = self.rng
        ys, xs = np.nonzero(depth(truth) >= 1.5)
        if len(ys):
            n = int(rng.choice([1, 2, 4, 8]))
            chosen = [int(rng.integers(len(ys)))]
            spread_out, nearest = rng.random() < 0.5, np.full(len(ys), 1e9)
            while len(chosen) < n:
                nearest = np.minimum(nearest, (xs - xs[chosen[-1]]) ** 2 + (ys - ys[chosen[-1]]) ** 2)
                chosen.append(int(np.argmax(nearest)) if spread_out else int(rng.integers(len(ys))))
            for i in chosen:
                put_disc(planes[Plane.POSITIVE], xs[i], ys[i])
        ys, xs = np.nonzero(~truth & (planes[Plane.VALID] > 0))
        if rng.random() < 0.6 and len(ys):
            for i in rng.integers(0, len(ys), int(rng.integers(1, 4))):
                put_disc(planes[Plane.NEGATIVE], xs[i], ys[i])

    def _carried(self, target: Target, truth: Bools, matrix: Matrix, side_px: int) -> Floats | None:
        """The mask of a neighbouring frame as it arrives here: the other frame's, moved; or this one's, spoilt."""
        rng = self.rng
        if target.other_mask.any() and (not truth.any() or rng.random() < 0.5):
            shift = np.zeros(2)
            if target.mask.any():
                a, b = (np.array(np.nonzero(m)).mean(1)[::-1] for m in (target.mask, target.other_mask))
                ys, _ = np.nonzero(target.mask)
                shift = (a - b) + rng.normal(0, 0.04, 2) * max(int(np.ptp(ys)), 10)
            moved = matrix.copy()
            moved[:, 2] += matrix[:, :2] @ shift
            carried = cv2.warpAffine(target.other_mask.astype(np.float32), moved, (side_px, side_px))
            return np.asarray(carried, np.float32)
        return spoilt(truth, rng).astype(np.float32) if truth.any() else None


def put_evidence(sample: Sample, readout: Floats, rng: np.random.Generator) -> None:
    """Draw what a memory says, (n, n) in [0, 1] of its cells; some of it weak, noisy or missing, as in a real one."""
    if rng.random() < 0.3:
        readout = np.asarray(cv2.GaussianBlur(readout, (0, 0), rng.uniform(0.5, 1.5)), np.float32)
    if rng.random() < 0.3:
        noise = cv2.resize(rng.normal(0, 0.25, (6, 6)).astype(np.float32), readout.shape[::-1])
        readout = np.clip(readout + np.asarray(noise, np.float32), 0, 1)
    side_px = sample.truth.shape[0]
    large = cv2.resize(readout, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    sample.planes[Plane.EVIDENCE] = (2 * large - 1) * sample.planes[Plane.VALID]


def depth(mask: Bools) -> Floats:
    """Distance of every pixel of a mask from what is outside, the frame's edge included."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1], np.float32)


def _point(mask: Bools, rng: np.random.Generator) -> tuple[float, float]:
    """A click in a mask: its deepest point, or any that is not near the border."""
    d = depth(mask)
    if rng.random() < 0.5:
        y, x = np.unravel_index(int(np.argmax(d)), d.shape)
    else:
        candidates = np.nonzero(d.ravel() >= min(2.0, 0.6 * float(d.max())))[0]
        y, x = np.unravel_index(int(rng.choice(candidates)), d.shape)
    return float(x), float(y)


def spoilt(mask: Bools, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A mask (R, R), not empty, as propagation delivers it: shifted, warped, grown or shrunk, with bites and lumps."""
    ys, xs = np.nonzero(mask)
    size = float(max(int(np.ptp(ys)), int(np.ptp(xs)), 8))
    found = (_shifted(mask, size, rng) > 0.5).astype(np.uint8)
    reach = int(rng.integers(1, max(2, int(0.06 * size) + 2)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    draw = rng.random()
    if draw < 0.3:
        found = np.asarray(cv2.erode(found, kernel), np.uint8)
    elif draw < 0.6:
        found = np.asarray(cv2.dilate(found, kernel), np.uint8)
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        i = int(rng.integers(len(xs)))
        centre = [int(v + rng.normal(0, 0.1 * size)) for v in (xs[i], ys[i])]
        radii = [int(v) + 1 for v in rng.uniform(0.06, 0.25, 2) * size]
        cv2.ellipse(found, centre, radii, rng.uniform(0, 180), 0, 360, int(rng.random() < 0.5), -1)
    return found


def _shifted(mask: Bools, size_px: float, rng: np.random.Generator) -> Floats:
    """A mask (R, R) of an object of ``size_px``, shifted and often warped, in [0, 1]."""
    side = mask.shape[0]
    ys, xs = np.nonzero(mask)
    middle = np.array([xs.mean(), ys.mean()])
    zoom, turn = np.exp(rng.normal(0, 0.06)), rng.normal(0, 0.06)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    offset = middle - linear @ middle + rng.normal(0, 0.04 * size_px, 2)
    moved = cv2.warpAffine(mask.astype(np.float32), np.hstack([linear, offset[:, None]]), (side, side))
    if rng.random() < 0.6:
        n = int(rng.integers(3, 8))
        dx, dy = (cv2.resize(rng.normal(0, 0.04 * size_px, (n, n)).astype(np.float32), (side, side)) for _ in range(2))
        x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
        moved = cv2.remap(moved, x + dx, y + dy, cv2.INTER_LINEAR)
    return np.asarray(moved, np.float32)


def correct(planes: Floats, probability: Floats, truth: Bools, rng: np.random.Generator, keep: float = 0.85) -> None:
    """Add one or two corrective clicks in the largest errors, and hand the prediction on as the previous mask.

    Args:
        planes: (N_PLANES, R, R), changed in place.
        probability: (R, R), of the prediction.
        truth: (R, R).
        rng: chooses.
        keep: how often the prediction is handed on.
    """
    found = probability > 0.5
    missing, extra = depth(truth & ~found), depth(~truth & found & (planes[Plane.VALID] > 0))
    sides = sorted(((missing, Plane.POSITIVE), (extra, Plane.NEGATIVE)), key=lambda each: -float(each[0].max()))
    for errors, plane in sides[: 1 if rng.random() < 0.75 else 2]:
        top = float(errors.max())
        if top < 1.5:
            break
        if rng.random() < 0.6:
            at = int(np.argmax(errors))
        else:
            at = int(rng.choice(np.nonzero(errors.ravel() >= 0.5 * top)[0]))
        y, x = np.unravel_index(at, errors.shape)
        put_disc(planes[plane], float(x), float(y))
    planes[Plane.PREVIOUS] = (2 * probability - 1) * planes[Plane.VALID] if rng.random() < keep else 0
