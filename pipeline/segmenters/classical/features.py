"""Hand-made features of one frame: colours at several scales, and gradient-orientation histograms on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.masks import bounding_box
from pipeline.types import BoolMask, FrameRGB

WORK_LONG_SIDE_PX = 428
"""Longer side of the reduced frame on which everything is computed."""
STRIDE_PX = 4
"""Side of a grid cell, in work pixels."""
FINE_FACTOR = 2
"""The border of a mask is refined at this many times the work size."""
MIN_FINE_REDUCTION = 1.5
"""The fine image is made only of frames larger than this many times the work size."""
LAB_SCALE = (50.0, 25.0, 25.0)
"""Lab units of L, a and b that make one unit of scaled colour."""
BLUR_SIGMAS_PX = (1.5, 4.0, 10.0)
"""Gaussian blurs of the colours, from fine to coarse."""
DEVIATION_SIGMA_PX = 3.0
"""Gaussian window of the local standard deviation of the colours."""
DEVIATION_WEIGHT = 2.0
"""Factor on the local standard deviation."""
ORIENTATION_BINS = 8
"""Bins of a gradient-orientation histogram, over 360 degrees."""
HISTOGRAM_SIGMAS_PX = (3.0, 6.0)
"""Gaussian windows of the histograms, one per scale."""
HISTOGRAM_SHIFT_PX = 6
"""Distance from a cell of the four further histograms above, below, left and right of it."""
HISTOGRAM_NORM_FLOOR = 8.0
"""Added to a histogram's length before division, so that flat regions keep short vectors."""
CELL_NORM_FLOOR = 0.2
"""Added to the length of a cell's ten histograms together before division."""
PRINCIPAL_COMPONENTS = 20
"""Channels that are kept of the 80 of the histograms."""
MIN_REGION_PAD_PX = 16.0
"""Least width by which a box is widened to a region."""
MIN_REGION_SIDE_PX = 8
"""Least side of a region and of a reduced frame."""
RESCALE_MARGIN = 0.5
"""Surroundings shown with a rescaled object, as a share of its longer side."""


@dataclass(frozen=True)
class ClassicalEmbedding:
    """Features of one frame at work size (h, w). The grid has a cell for every `STRIDE_PX` pixels, rounded up.

    ``bgr_u8`` and ``lab_u8`` (h, w, 3) uint8 are the reduced frame in OpenCV's BGR and Lab. ``colours`` (h, w, 15)
    float16 holds scaled Lab, three blurs of it, and its local standard deviation. ``orientations`` (gh, gw, 80) float16
    holds orientation histograms of about unit length. ``fine_lab_u8`` is Lab at `FINE_FACTOR` times the work size, or
    ``lab_u8`` for small frames.
    """

    frame_size_hw_px: tuple[int, int]
    bgr_u8: NDArray[np.uint8]
    lab_u8: NDArray[np.uint8]
    colours: NDArray[np.float16]
    orientations: NDArray[np.float16]
    fine_lab_u8: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Memory used, in bytes."""
        arrays = (self.bgr_u8, self.lab_u8, self.colours, self.orientations, self.fine_lab_u8)
        return sum(array.nbytes for array in arrays)

    @property
    def work_size_hw_px(self) -> tuple[int, int]:
        """Height and width of the reduced frame."""
        return self.lab_u8.shape[0], self.lab_u8.shape[1]

    @property
    def scale_xy(self) -> NDArray[np.float32]:
        """Work pixels per original pixel along x and y."""
        (height_px, width_px), (h, w) = self.frame_size_hw_px, self.work_size_hw_px
        return np.array([w / width_px, h / height_px], np.float32)

    def cropped(self, region: Region) -> ClassicalEmbedding:
        """The features of a region of the frame, without the fine image."""
        cells = (
            slice(region.y0 // STRIDE_PX, -(-region.y1 // STRIDE_PX)),
            slice(region.x0 // STRIDE_PX, -(-region.x1 // STRIDE_PX)),
        )
        return ClassicalEmbedding(
            frame_size_hw_px=self.frame_size_hw_px,
            bgr_u8=np.ascontiguousarray(self.bgr_u8[region.slices]),
            lab_u8=np.ascontiguousarray(self.lab_u8[region.slices]),
            colours=self.colours[region.slices],
            orientations=self.orientations[cells],
            fine_lab_u8=np.ascontiguousarray(self.lab_u8[region.slices]),
        )


@dataclass(frozen=True)
class Region:
    """A rectangle of the work-size frame whose corner lies on the grid: rows y0:y1, columns x0:x1."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index work-size maps."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @classmethod
    def around(
        cls, box_xyxy_px: tuple[float, float, float, float], margin: float, size_hw_px: tuple[int, int]
    ) -> Region:
        """Widen a box on each side by ``margin`` of its longer side, at least `MIN_REGION_PAD_PX`, within the frame."""
        x0, y0, x1, y1 = box_xyxy_px
        pad = max(MIN_REGION_PAD_PX, margin * max(x1 - x0, y1 - y0))
        h, w = size_hw_px
        top, left = max(0, int(y0 - pad)) // STRIDE_PX * STRIDE_PX, max(0, int(x0 - pad)) // STRIDE_PX * STRIDE_PX
        bottom, right = min(h, int(np.ceil(y1 + pad))), min(w, int(np.ceil(x1 + pad)))
        side = MIN_REGION_SIDE_PX
        return cls(
            min(top, h - side), min(left, w - side), max(bottom, min(h, top + side)), max(right, min(w, left + side))
        )

    @classmethod
    def whole(cls, size_hw_px: tuple[int, ...]) -> Region:
        """The whole frame."""
        return cls(0, 0, size_hw_px[0], size_hw_px[1])


@dataclass(frozen=True)
class Projection:
    """Principal components of the orientation histograms of the reference frames: centre (80,), axes (80, 20)."""

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, embeddings: Sequence[ClassicalEmbedding]) -> Projection:
        """Fit to all cells of some frames."""
        cells = np.concatenate([e.orientations.reshape(-1, e.orientations.shape[2]) for e in embeddings])
        cells = cells.astype(np.float32)
        centre = cells.mean(axis=0)
        cells -= centre
        _, vectors = np.linalg.eigh(cells.T @ cells)
        return cls(centre, np.ascontiguousarray(vectors[:, ::-1][:, :PRINCIPAL_COMPONENTS], dtype=np.float32))

    def __call__(self, embedding: ClassicalEmbedding) -> NDArray[np.float32]:
        """Project the histograms of a frame: (gh, gw, 20) float32."""
        return np.asarray((embedding.orientations.astype(np.float32) - self.centre) @ self.axes, np.float32)


def work_size_hw_px(frame_size_hw_px: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the reduced frame: the longer side at most `WORK_LONG_SIDE_PX`, never enlarged."""
    scale = min(1.0, WORK_LONG_SIDE_PX / max(frame_size_hw_px))
    height_px, width_px = (max(MIN_REGION_SIDE_PX, round(side_px * scale)) for side_px in frame_size_hw_px)
    return height_px, width_px


def embed(frame_rgb: FrameRGB) -> ClassicalEmbedding:
    """Compute the features of one frame, (H, W, 3) RGB uint8."""
    height_px, width_px = frame_rgb.shape[:2]
    h, w = work_size_hw_px((height_px, width_px))
    bgr = cv2.cvtColor(cv2.resize(frame_rgb, (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    fine = None
    if max(height_px, width_px) > MIN_FINE_REDUCTION * max(h, w):
        enlarged = cv2.resize(frame_rgb, (w * FINE_FACTOR, h * FINE_FACTOR), interpolation=cv2.INTER_AREA)
        fine = np.asarray(cv2.cvtColor(enlarged, cv2.COLOR_RGB2LAB), np.uint8)
    return embed_work_size(np.asarray(bgr, np.uint8), (height_px, width_px), fine)


def embed_work_size(
    bgr: NDArray[np.uint8], frame_size_hw_px: tuple[int, int], fine_lab_u8: NDArray[np.uint8] | None = None
) -> ClassicalEmbedding:
    """Compute the features of a frame that is already at work size, (h, w, 3) BGR uint8."""
    lab = cv2.cvtColor(bgr.astype(np.float32) / 255.0, cv2.COLOR_BGR2LAB)
    scaled = np.asarray(lab / np.array(LAB_SCALE, np.float32), np.float32)
    blurred = [cv2.GaussianBlur(scaled, (0, 0), sigma) for sigma in BLUR_SIGMAS_PX]
    mean = cv2.GaussianBlur(scaled, (0, 0), DEVIATION_SIGMA_PX)
    mean_square = cv2.GaussianBlur(scaled * scaled, (0, 0), DEVIATION_SIGMA_PX)
    deviation = np.sqrt(np.maximum(mean_square - mean * mean, 0.0))
    lab_u8 = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB), np.uint8)
    return ClassicalEmbedding(
        frame_size_hw_px=frame_size_hw_px,
        bgr_u8=bgr,
        lab_u8=lab_u8,
        colours=np.dstack([scaled, *blurred, DEVIATION_WEIGHT * deviation]).astype(np.float16),
        orientations=_orientation_histograms(np.asarray(lab[..., 0], np.float32)),
        fine_lab_u8=lab_u8 if fine_lab_u8 is None else fine_lab_u8,
    )


def pixel_features(
    embedding: ClassicalEmbedding, projected: NDArray[np.float32], region: Region
) -> NDArray[np.float32]:
    """Features of every pixel of a region, (rows, columns, 35) float32.

    Args:
        embedding: of the frame.
        projected: (gh, gw, 20) the frame's projected histograms; they are interpolated between cells.
        region: the part of the frame.
    """
    gh, gw = projected.shape[:2]
    grid_y = slice(region.y0 // STRIDE_PX, min(gh, -(-region.y1 // STRIDE_PX) + 1))
    grid_x = slice(region.x0 // STRIDE_PX, min(gw, -(-region.x1 // STRIDE_PX) + 1))
    part = np.ascontiguousarray(projected[grid_y, grid_x])
    rows, columns = region.y1 - region.y0, region.x1 - region.x0
    # Cell k describes pixel k * stride, so this map places it there exactly.
    transform = np.array([[1 / STRIDE_PX, 0, 0], [0, 1 / STRIDE_PX, 0]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    upsampled = [
        cv2.warpAffine(part[..., k : k + 4], transform, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        for k in range(0, part.shape[2], 4)
    ]
    return np.dstack([embedding.colours[region.slices].astype(np.float32), *upsampled])


def pixel_features_at(
    embedding: ClassicalEmbedding, projected: NDArray[np.float32], indices: NDArray[np.intp]
) -> NDArray[np.float32]:
    """What `pixel_features` of the whole frame holds at N flat indices, (N, 35) float32."""
    ys, xs = np.divmod(indices, embedding.work_size_hw_px[1])
    map_x, map_y = ((v[:, None] / STRIDE_PX).astype(np.float32) for v in (xs, ys))
    parts = [
        # OpenCV's remap takes at most 32767 rows.
        cv2.remap(projected[..., k : k + 4], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        for k in range(0, projected.shape[2], 4)
    ]
    return np.concatenate([embedding.colours[ys, xs].astype(np.float32), *parts], axis=1)


def rescaled(embedding: ClassicalEmbedding, mask: BoolMask, factor: float) -> tuple[ClassicalEmbedding, BoolMask]:
    """The object and its surroundings as they look at another distance: embedding and mask, enlarged by ``factor``."""
    region = Region.around(bounding_box(mask), RESCALE_MARGIN, embedding.work_size_hw_px)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    h, w = region.y1 - region.y0, region.x1 - region.x0
    size = max(MIN_REGION_SIDE_PX, round(w * factor)), max(MIN_REGION_SIDE_PX, round(h * factor))
    bgr = cv2.resize(embedding.bgr_u8[region.slices], size, interpolation=interpolation)
    share = cv2.resize(mask[region.slices].astype(np.float32), size, interpolation=interpolation)
    return embed_work_size(np.asarray(bgr, np.uint8), embedding.frame_size_hw_px), np.asarray(share > 0.5)


def _orientation_histograms(lightness: NDArray[np.float32]) -> NDArray[np.float16]:
    """(gh, gw, 80): 8 orientations x 2 scales, at the cell and shifted up, down, left and right; unit length."""
    bins = _orientation_bins(lightness)
    half = np.dstack(
        [cv2.resize(bins[..., k : k + 4], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for k in (0, 4)]
    )
    parts = []
    gh, gw = -(-lightness.shape[0] // STRIDE_PX), -(-lightness.shape[1] // STRIDE_PX)
    cell, shift = STRIDE_PX // 2, HISTOGRAM_SHIFT_PX // 2
    for sigma in HISTOGRAM_SIGMAS_PX:
        smooth = np.dstack([cv2.GaussianBlur(half[..., k : k + 4], (0, 0), sigma / 2) for k in (0, 4)])
        padded = np.pad(smooth, ((shift, shift + cell), (shift, shift + cell), (0, 0)), mode="edge")
        for dy, dx in ((0, 0), (-shift, 0), (shift, 0), (0, -shift), (0, shift)):
            y0, x0 = shift + dy, shift + dx
            parts.append(padded[y0 : y0 + gh * cell : cell, x0 : x0 + gw * cell : cell])
    stacked = np.concatenate(
        [part / (np.linalg.norm(part, axis=2, keepdims=True) + HISTOGRAM_NORM_FLOOR) for part in parts], axis=2
    )
    stacked /= np.linalg.norm(stacked, axis=2, keepdims=True) + CELL_NORM_FLOOR
    return np.asarray(stacked, np.float16)


def _orientation_bins(lightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, 8): each pixel's gradient magnitude, shared between the two bins next to its orientation."""
    gx, gy = cv2.Sobel(lightness, cv2.CV_32F, 1, 0), cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    magnitude, angle = cv2.cartToPolar(gx, gy)
    position = angle * (ORIENTATION_BINS / (2 * np.pi))
    low = np.floor(position)
    share = position - low
    low_bin = low.astype(np.int32) % ORIENTATION_BINS
    bins = np.zeros((*lightness.shape, ORIENTATION_BINS), np.float32)
    for k in range(ORIENTATION_BINS):
        weight = (low_bin == k) * (1.0 - share) + ((low_bin + 1) % ORIENTATION_BINS == k) * share
        bins[..., k] = magnitude * weight
    return bins
