"""What prompted frames teach about one object: cell memory and pixel network, read together on a new frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.classical.features import STRIDE_PX, ClassicalEmbedding
from pipeline.segmenters.classical.memory import KeyMemory, Projection, keys
from pipeline.segmenters.classical.pixel_model import PixelModel
from pipeline.types import BoolMask

TRAINING_PIXELS = 6000
TRAINING_STEPS = 400
NEAR_PX = 25


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


@dataclass(frozen=True)
class Appearance:
    """The memory of one object in this segmenter. ``area_share`` is the object's mean share of the frame."""

    projection: Projection
    cells: KeyMemory | None
    model: PixelModel | None
    area_share: float

    @classmethod
    def learn(
        cls, frames: Sequence[tuple[ClassicalEmbedding, BoolMask]], *, device: str, steps: int = TRAINING_STEPS
    ) -> Appearance:
        """Learn from frames given as (embedding, work-size mask)."""
        rng = np.random.default_rng(0)
        projection = Projection.fit([embedding for embedding, _ in frames])
        projected = [projection(embedding) for embedding, _ in frames]
        triples = [(e, m, p) for (e, m), p in zip(frames, projected, strict=True)]
        cells = KeyMemory.build(triples, rng)
        features, labels = [], []
        for embedding, mask, grid in triples:
            rows = training_rows(mask, rng, TRAINING_PIXELS if len(frames) == 1 else TRAINING_PIXELS * 2 // len(frames))
            whole = pixel_features(embedding, grid, Region.whole(mask.shape))
            features.append(whole.reshape(-1, whole.shape[2])[rows])
            labels.append(mask.ravel()[rows])
        y = np.concatenate(labels)
        model = None
        if y.any() and not y.all():
            model = PixelModel.train(np.concatenate(features), y, steps=steps, device=device)
        shares = [float(mask.mean()) for _, mask in frames if mask.any()]
        return cls(projection, cells, model, float(np.mean(shares)) if shares else 0.0)

    def read(
        self, embedding: ClassicalEmbedding, region: Region, centre_xy: tuple[float, float] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits of the cell memory and of the pixel network over a region, each (rows, columns) float32.

        Args:
            embedding: of the frame to read.
            region: the part of interest.
            centre_xy: where the object's centre is expected, in cells; None searches without position.
        """
        rows, columns = region.y1 - region.y0, region.x1 - region.x0
        if self.cells is None or self.model is None:
            nothing = np.full((rows, columns), -3.0, np.float32)
            return nothing, nothing
        projected = self.projection(embedding)
        gh, gw = projected.shape[:2]
        where = np.zeros((gh, gw), np.bool_)
        grid_y = slice(region.y0 // STRIDE_PX, min(gh, -(-region.y1 // STRIDE_PX) + 1))
        grid_x = slice(region.x0 // STRIDE_PX, min(gw, -(-region.x1 // STRIDE_PX) + 1))
        where[grid_y, grid_x] = True
        read = self.cells.read(keys(embedding, projected), centre_xy, where)[grid_y, grid_x]
        cell_logits = cv2.resize(
            read, (read.shape[1] * STRIDE_PX, read.shape[0] * STRIDE_PX), interpolation=cv2.INTER_LINEAR
        )[:rows, :columns]
        features = pixel_features(embedding, projected, region)
        pixel_logits = self.model.logits(features.reshape(-1, features.shape[2])).reshape(rows, columns)
        return np.asarray(cell_logits, np.float32), pixel_logits
