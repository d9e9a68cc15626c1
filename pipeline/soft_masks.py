"""Probabilities kept small: half the size, sixteen levels, compressed. A few KiB a frame instead of MiB."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_LEVELS = 16


@dataclass(frozen=True)
class SoftMask:
    """A map of probabilities as compressed bytes, for fusing with a later prediction of the same frame."""

    height_px: int
    width_px: int
    data: bytes

    @classmethod
    def pack(cls, logits: NDArray[np.float32]) -> SoftMask:
        """Keep the probabilities of logits (H, W) float32."""
        height_px, width_px = logits.shape
        small = cv2.resize(logits, _half(height_px, width_px), interpolation=cv2.INTER_AREA)
        probability = 1.0 / (1.0 + np.exp(-np.clip(small, -20.0, 20.0)))
        levels = np.rint(probability * _LEVELS).astype(np.uint8)
        return cls(height_px, width_px, zlib.compress(levels.tobytes(), 1))

    def small(self) -> NDArray[np.float32]:
        """(H/2, W/2) float32 in [0, 1], as it is kept."""
        width, height = _half(self.height_px, self.width_px)
        levels = np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(height, width)
        return np.asarray(levels / _LEVELS, np.float32)

    def probabilities(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1]."""
        full = cv2.resize(self.small(), (self.width_px, self.height_px))
        return np.asarray(full, np.float32)


def _half(height_px: int, width_px: int) -> tuple[int, int]:
    return max(1, width_px // 2), max(1, height_px // 2)
