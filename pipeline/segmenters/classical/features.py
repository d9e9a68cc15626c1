"""Dense hand-made features of one frame: colour at several scales, and gradient-orientation histograms on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import FrameRGB

WORK_LONG_SIDE_PX = 428
STRIDE_PX = 4
FINE_FACTOR = 2

LAB_SCALE = np.array([50.0, 25.0, 25.0], np.float32)
_BLUR_SIGMAS_PX = (1.5, 4.0, 10.0)
_ORIENTATIONS = 8
_HISTOGRAM_SIGMAS_PX = (3.0, 6.0)
_SHIFT_PX = 6


@dataclass(frozen=True)
class ClassicalEmbedding:
    """Features of one frame at work size (h, w), its grid being (h, w) / `STRIDE_PX` rounded up.

    ``bgr_u8`` and ``lab_u8`` (h, w, 3) uint8 are the reduced frame in OpenCV's BGR and Lab; ``pixels`` (h, w, 15)
    float16 holds Lab, three blurs and the local deviation; ``grid`` (gh, gw, 80) float16 holds unit-length orientation
    histograms.
    """

    frame_size_hw_px: tuple[int, int]
    bgr_u8: NDArray[np.uint8]
    lab_u8: NDArray[np.uint8]
    pixels: NDArray[np.float16]
    grid: NDArray[np.float16]
    fine_lab_u8: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.bgr_u8.nbytes + self.lab_u8.nbytes + self.pixels.nbytes + self.grid.nbytes + self.fine_lab_u8.nbytes

    @property
    def work_size_hw_px(self) -> tuple[int, int]:
        """Height and width of the reduced frame."""
        return self.lab_u8.shape[0], self.lab_u8.shape[1]

    @property
    def scale_xy(self) -> NDArray[np.float32]:
        """Work pixels per original pixel along x and y."""
        (height_px, width_px), (h, w) = self.frame_size_hw_px, self.work_size_hw_px
        return np.array([w / width_px, h / height_px], np.float32)


def work_size_hw_px(frame_size_hw_px: tuple[int, int]) -> tuple[int, int]:
    """The size at which the segmenter works: the long side at most `WORK_LONG_SIDE_PX`, never enlarged."""
    scale = min(1.0, WORK_LONG_SIDE_PX / max(frame_size_hw_px))
    return max(8, round(frame_size_hw_px[0] * scale)), max(8, round(frame_size_hw_px[1] * scale))


def embed(frame_rgb: FrameRGB) -> ClassicalEmbedding:
    """Compute the features of one frame, (H, W, 3) RGB uint8."""
    height_px, width_px = frame_rgb.shape[:2]
    h, w = work_size_hw_px((height_px, width_px))
    bgr = cv2.cvtColor(cv2.resize(frame_rgb, (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    fine = None
    if max(height_px, width_px) > 1.5 * max(h, w):
        enlarged = cv2.resize(frame_rgb, (w * FINE_FACTOR, h * FINE_FACTOR), interpolation=cv2.INTER_AREA)
        fine = np.asarray(cv2.cvtColor(enlarged, cv2.COLOR_RGB2LAB), np.uint8)
    return embed_reduced(np.asarray(bgr, np.uint8), (height_px, width_px), fine)


def embed_reduced(
    bgr: NDArray[np.uint8], frame_size_hw_px: tuple[int, int], fine_lab_u8: NDArray[np.uint8] | None = None
) -> ClassicalEmbedding:
    """As `embed`, of a frame already at work size, (h, w, 3) BGR uint8."""
    lab = cv2.cvtColor(bgr.astype(np.float32) / 255.0, cv2.COLOR_BGR2LAB)
    scaled = np.asarray(lab / LAB_SCALE, np.float32)
    blurred = [cv2.GaussianBlur(scaled, (0, 0), sigma) for sigma in _BLUR_SIGMAS_PX]
    mean, mean_square = cv2.GaussianBlur(scaled, (0, 0), 3.0), cv2.GaussianBlur(scaled * scaled, (0, 0), 3.0)
    deviation = np.sqrt(np.maximum(mean_square - mean * mean, 0.0))
    lab_u8 = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB), np.uint8)
    return ClassicalEmbedding(
        frame_size_hw_px=frame_size_hw_px,
        bgr_u8=bgr,
        lab_u8=lab_u8,
        pixels=np.dstack([scaled, *blurred, 2.0 * deviation]).astype(np.float16),
        grid=_orientation_histograms(np.asarray(lab[..., 0], np.float32)),
        fine_lab_u8=lab_u8 if fine_lab_u8 is None else fine_lab_u8,
    )


def _orientation_histograms(lightness: NDArray[np.float32]) -> NDArray[np.float16]:
    """(gh, gw, 80): 8 orientations x 2 scales, at the cell and shifted up, down, left and right; unit length."""
    gx, gy = cv2.Sobel(lightness, cv2.CV_32F, 1, 0), cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    magnitude, angle = cv2.cartToPolar(gx, gy)
    position = angle * (_ORIENTATIONS / (2 * np.pi))
    low = np.floor(position)
    share = position - low
    low_bin = low.astype(np.int32) % _ORIENTATIONS
    bins = np.zeros((*lightness.shape, _ORIENTATIONS), np.float32)
    for k in range(_ORIENTATIONS):
        weight = (low_bin == k) * (1.0 - share) + ((low_bin + 1) % _ORIENTATIONS == k) * share
        bins[..., k] = magnitude * weight
    half = np.dstack(
        [cv2.resize(bins[..., k : k + 4], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for k in (0, 4)]
    )
    parts = []
    gh, gw = -(-lightness.shape[0] // STRIDE_PX), -(-lightness.shape[1] // STRIDE_PX)
    cell, shift = STRIDE_PX // 2, _SHIFT_PX // 2
    for sigma in _HISTOGRAM_SIGMAS_PX:
        smooth = np.dstack([cv2.GaussianBlur(half[..., k : k + 4], (0, 0), sigma / 2) for k in (0, 4)])
        padded = np.pad(smooth, ((shift, shift + cell), (shift, shift + cell), (0, 0)), mode="edge")
        for dy, dx in ((0, 0), (-shift, 0), (shift, 0), (0, -shift), (0, shift)):
            y0, x0 = shift + dy, shift + dx
            parts.append(padded[y0 : y0 + gh * cell : cell, x0 : x0 + gw * cell : cell])
    stacked = np.concatenate([part / (np.linalg.norm(part, axis=2, keepdims=True) + 8.0) for part in parts], axis=2)
    stacked /= np.linalg.norm(stacked, axis=2, keepdims=True) + 0.2
    return np.asarray(stacked, np.float16)
