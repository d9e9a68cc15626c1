"""A rendered frame with two touching objects, and helpers, for the tests of every segmenter."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.segmenters.base import ObjectPrompts
from pipeline.types import BoolMask, FrameRGB


def scene() -> tuple[FrameRGB, BoolMask, BoolMask]:
    """A blue ellipse (object) that touches an orange disc (not object) on textured grey."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(0, 40, (240, 320, 1)).astype(np.float32), (0, 0), 1.5)[..., None] * 2
    image = np.full((240, 320, 3), 128.0) + noise
    ys, xs = np.mgrid[:240, :320]
    ellipse = ((xs - 130) / 60) ** 2 + ((ys - 120) / 40) ** 2 < 1
    disc = (xs - 210) ** 2 + (ys - 120) ** 2 < 28**2
    image[ellipse] += (-70, -40, 80)
    image[disc & ~ellipse] += (90, 20, -70)
    return np.clip(image, 0, 255).astype(np.uint8), ellipse, disc & ~ellipse


IMAGE, OBJECT, NEIGHBOUR = scene()


def iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / (first | second).sum())


def clicks(*points: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None) -> ObjectPrompts:
    xy = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    return ObjectPrompts(xy, np.array([point[2] for point in points], np.bool_), box)
