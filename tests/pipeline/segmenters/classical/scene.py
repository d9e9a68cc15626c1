"""Rendered frames: one with two touching objects and the masks of prompts on it, and one with a disc."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.segmenters.classical import ClassicalSegmenter
from pipeline.types import BoolMask, FrameRGB

torch.set_num_threads(1)  # as build_method does: small networks crawl when their threads fight for cores
SEGMENTER = ClassicalSegmenter()


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
EMBEDDING = SEGMENTER.embed(IMAGE)


def iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / (first | second).sum())


def clicks(*points: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None) -> ObjectPrompts:
    xy = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    return ObjectPrompts(xy, np.array([point[2] for point in points], np.bool_), box)


def segment(prompts: ObjectPrompts, prior: BoolMask | None = None) -> BoolMask:
    given_prior = None if prior is None else np.where(prior, 4.0, -4.0).astype(np.float32)
    found = SEGMENTER.segment(EMBEDDING, PromptBatch((prompts,)), mask_prior=[given_prior])
    assert found.low_res_logits.shape == (1, 1, 240, 320)
    assert found.low_res_logits.dtype == np.float32
    assert 0.0 <= found.predicted_iou[0, 0] <= 1.0
    return np.asarray(SEGMENTER.to_full_size(EMBEDDING, found.low_res_logits[0, 0]) > 0)


BOX = (68.0, 78.0, 192.0, 162.0)


def disc_frame(colour: tuple[int, int, int], size_hw_px: tuple[int, int] = (480, 854)) -> tuple[FrameRGB, BoolMask]:
    """A disc of one colour on noisy grey."""
    height_px, width_px = size_hw_px
    noise = np.random.default_rng(1).normal(0, 12, (height_px, width_px, 3))
    image = np.full((height_px, width_px, 3), 120.0) + noise
    ys, xs = np.mgrid[:height_px, :width_px]
    disc = (xs - width_px * 0.4) ** 2 + (ys - height_px * 0.5) ** 2 < (0.2 * height_px) ** 2
    image[disc] += np.array(colour) - 120.0
    return np.clip(image, 0, 255).astype(np.uint8), np.asarray(disc)
