"""What prompted frames teach about one object: a network that tells its pixels from the others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding, embed_reduced
from pipeline.segmenters.classical.memory import Projection
from pipeline.segmenters.classical.pixel_model import PixelModel
from pipeline.types import BoolMask

TRAINING_PIXELS = 6000
TRAINING_STEPS = 400
NEAR_PX = 25
SCALES = (0.67, 1.5)
"""The prompted object is also shown to the network from farther off and from nearer by."""
JITTER_LAB = (0.1, 0.05, 0.05)
RECENT_FRAMES = 6
RECENT_PIXELS = 500
ADAPTATION_STEPS = 12
SURE_INSIDE_PX = 2.0
SURE_OUTSIDE_PX = 4.0
FAR_PX, FARTHEST_PX = 20.0, 90.0
HARD_PIXELS = 100
"""Of the pixels far from the mask those that the network takes most for the object: a distractor, before they meet."""
AREA_RATE = 0.1


@dataclass(frozen=True)
class Region:
    """A rectangle of the work-size frame, aligned to the grid: rows y0:y1, columns x0:x1."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing work-size maps."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @classmethod
    def around(
        cls, box_xyxy_px: tuple[float, float, float, float], margin: float, size_hw_px: tuple[int, int]
    ) -> Region:
        """The box widened on each side by ``margin`` of its longer side (at least 16 px), cut to the frame."""
        x0, y0, x1, y1 = box_xyxy_px
        pad = max(16.0, margin * max(x1 - x0, y1 - y0))
        h, w = size_hw_px
        top, left = max(0, int(y0 - pad)) // STRIDE_PX * STRIDE_PX, max(0, int(x0 - pad)) // STRIDE_PX * STRIDE_PX
        bottom, right = min(h, int(np.ceil(y1 + pad))), min(w, int(np.ceil(x1 + pad)))
        return cls(min(top, h - 8), min(left, w - 8), max(bottom, min(h, top + 8)), max(right, min(w, left + 8)))

    @classmethod
    def whole(cls, size_hw_px: tuple[int, ...]) -> Region:
        """The whole frame."""
        return cls(0, 0, size_hw_px[0], size_hw_px[1])


def pixel_features(
    embedding: ClassicalEmbedding, projected: NDArray[np.float32], region: Region
) -> NDArray[np.float32]:
    """(rows, columns, 35) float32 of a region: colour, local deviation, and the projected grid interpolated."""
    gh, gw = projected.shape[:2]
    grid_y = slice(region.y0 // STRIDE_PX, min(gh, -(-region.y1 // STRIDE_PX) + 1))
    grid_x = slice(region.x0 // STRIDE_PX, min(gw, -(-region.x1 // STRIDE_PX) + 1))
    part = np.ascontiguousarray(projected[grid_y, grid_x])
    rows, columns = region.y1 - region.y0, region.x1 - region.x0
    # Cell k describes pixel k * stride, so this map places it there exactly.
    place = np.array([[1 / STRIDE_PX, 0, 0], [0, 1 / STRIDE_PX, 0]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    upsampled = [
        cv2.warpAffine(part[..., k : k + 4], place, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        for k in range(0, part.shape[2], 4)
    ]
    return np.dstack([embedding.pixels[region.slices].astype(np.float32), *upsampled])


def training_rows(mask: BoolMask, rng: np.random.Generator, n_pixels: int = TRAINING_PIXELS) -> NDArray[np.intp]:
    """Flat indices of pixels to learn from: half on the object, 30 % within `NEAR_PX` of it, 20 % farther off."""
    reach = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    groups = ((mask, 0.5), (~mask & (reach <= NEAR_PX), 0.3), (reach > NEAR_PX, 0.2))
    picked = []
    for group, share in groups:
        candidates = np.flatnonzero(group)
        if len(candidates):
            picked.append(rng.choice(candidates, int(n_pixels * share), replace=len(candidates) < n_pixels * share))
    return np.concatenate(picked)


def recent_rows(mask: BoolMask, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of pixels whose label is safe although nobody vouches for the mask: none close to its border.

    Returns:
        Pixels of and around the object, and pixels so far from it that what resembles it there must be something else.
    """
    reach = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    picked = []
    for group, limit in (
        (depth > SURE_INSIDE_PX, RECENT_PIXELS // 2),
        ((reach > SURE_OUTSIDE_PX) & (reach < NEAR_PX), RECENT_PIXELS * 3 // 10),
        ((reach > FAR_PX) & (reach < FARTHEST_PX), 10 * HARD_PIXELS),
    ):
        candidates = np.flatnonzero(group)
        picked.append(candidates if len(candidates) <= limit else rng.choice(candidates, limit, replace=False))
    if not len(picked[0]) or not len(picked[1]):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    return np.concatenate(picked[:2]), picked[2]


def features_at(
    embedding: ClassicalEmbedding, projected: NDArray[np.float32], rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """(N, 35) float32: what `pixel_features` of the whole frame holds at N flat indices."""
    ys, xs = np.divmod(rows, embedding.work_size_hw_px[1])
    map_x, map_y = ((v[:, None] / STRIDE_PX).astype(np.float32) for v in (xs, ys))
    parts = [
        # OpenCV's remap takes at most 32767 rows.
        cv2.remap(projected[..., k : k + 4], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        for k in range(0, projected.shape[2], 4)
    ]
    return np.concatenate([embedding.pixels[ys, xs].astype(np.float32), *parts], axis=1)


def rescaled(embedding: ClassicalEmbedding, mask: BoolMask, factor: float) -> tuple[ClassicalEmbedding, BoolMask]:
    """The surroundings of the object as they would look from another distance."""
    region = Region.around(bounding_box(mask), 0.5, embedding.work_size_hw_px)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    h, w = region.y1 - region.y0, region.x1 - region.x0
    size = max(8, round(w * factor)), max(8, round(h * factor))
    bgr = cv2.resize(embedding.bgr_u8[region.slices], size, interpolation=interpolation)
    share = cv2.resize(mask[region.slices].astype(np.float32), size, interpolation=interpolation)
    return embed_reduced(np.asarray(bgr, np.uint8), embedding.frame_size_hw_px), np.asarray(share > 0.5)


def light_changes(n_features: int) -> NDArray[np.float32]:
    """(3, n_features): how pixel features move when lightness or a chroma changes, in Lab and its blurs alike."""
    directions = np.zeros((3, n_features), np.float32)
    for channel, amount in enumerate(JITTER_LAB):
        directions[channel, channel:12:3] = amount
    return directions


Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Features (N, C) and labels (N,) of pixels to learn from."""


@dataclass(frozen=True)
class Appearance:
    """What the prompted frames of one object taught.

    ``area_share`` is the object's usual share of the frame. ``prompted`` and ``recent`` are what `adapt` learns from.
    """

    projection: Projection
    model: PixelModel | None
    area_share: float
    prompted: Pixels
    recent: tuple[Pixels, ...] = ()
    n_adaptations: int = 0

    @classmethod
    def learn(
        cls,
        frames: Sequence[tuple[ClassicalEmbedding, BoolMask]],
        *,
        device: str,
        projection: Projection | None = None,
        steps: int = TRAINING_STEPS,
    ) -> Appearance:
        """Learn from frames given as (embedding, work-size mask); ``projection`` is kept if there is one."""
        rng = np.random.default_rng(0)
        projection = projection or Projection.fit([embedding for embedding, _ in frames])
        triples = [(embedding, mask, projection(embedding)) for embedding, mask in frames]
        scaled = [rescaled(e, m, factor) for e, m in frames if m.any() for factor in SCALES]
        n_pixels = TRAINING_PIXELS if len(frames) == 1 else TRAINING_PIXELS * 2 // len(frames)
        features, labels = [], []
        for k, (embedding, mask) in enumerate([*frames, *scaled]):
            rows = training_rows(mask, rng, n_pixels if k < len(frames) else n_pixels // 3)
            grid = triples[k][2] if k < len(frames) else projection(embedding)
            features.append(features_at(embedding, grid, rows))
            labels.append(mask.ravel()[rows])
        x, y = np.concatenate(features), np.concatenate(labels)
        model = None
        if y.any() and not y.all():
            model = PixelModel.train(x, y, steps=steps, device=device, jitter=light_changes(x.shape[1]))
        shares = [float(mask.mean()) for _, mask in frames if mask.any()]
        return cls(projection, model, float(np.mean(shares)) if shares else 0.0, (x, y))

    def adapt(self, embedding: ClassicalEmbedding, mask: BoolMask) -> Appearance:
        """This appearance after one more frame, with a work-size mask that nobody vouches for.

        The network learns a little from pixels well inside and well outside that mask and those of a few frames
        before it, always together with the prompted pixels (after OnAVOS, Voigtlaender & Leibe 2017).
        """
        if self.model is None or not mask.any():
            return self
        area_share = (1 - AREA_RATE) * self.area_share + AREA_RATE * float(mask.mean())
        rows, far = recent_rows(mask, np.random.default_rng(self.n_adaptations))
        if not len(rows):
            return replace(self, area_share=area_share)
        projected = self.projection(embedding)
        features, far_features = features_at(embedding, projected, rows), features_at(embedding, projected, far)
        mistaken = np.argsort(-self.model.logits(far_features), kind="stable")[:HARD_PIXELS]
        features = np.concatenate([features, far_features[mistaken]])
        newest = features, np.concatenate([mask.ravel()[rows], np.zeros(len(mistaken), np.bool_)])
        recent = (*self.recent[-(RECENT_FRAMES - 1) :], newest)
        x, y = (np.concatenate(parts) for parts in zip(self.prompted, *recent, strict=True))
        model = self.model.adapted(x, y, steps=ADAPTATION_STEPS, seed=self.n_adaptations)
        return replace(self, area_share=area_share, model=model, recent=recent, n_adaptations=self.n_adaptations + 1)

    def read(
        self, embedding: ClassicalEmbedding, region: Region, projected: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Logits of the pixel network over a region, (rows, columns) float32.

        Args:
            embedding: of the frame to read.
            region: the part of interest.
            projected: (gh, gw, 20), the embedding's projected grid, if the caller has it.
        """
        rows, columns = region.y1 - region.y0, region.x1 - region.x0
        if self.model is None:
            return np.full((rows, columns), -3.0, np.float32)
        grid = self.projection(embedding) if projected is None else projected
        features = pixel_features(embedding, grid, region)
        return self.model.logits(features.reshape(-1, features.shape[2])).reshape(rows, columns)
