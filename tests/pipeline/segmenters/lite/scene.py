"""One frame with an object and something beside it, and helpers that ask the segmenter."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from model_zoo.lite.network import load_lite
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.segmenters.lite.segmenter import LiteSegmenter
from pipeline.types import BoolMask, FrameRGB

torch.set_num_threads(1)  # as build_method does: small networks crawl when their threads fight for cores
SEGMENTER = LiteSegmenter(load_lite())


def scene() -> tuple[FrameRGB, BoolMask, BoolMask]:
    """A blue ellipse (the object) and an orange disc that touches it, on textured grey."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(0, 40, (240, 320, 1)).astype(np.float32), (0, 0), 1.5)[..., None] * 2
    image = np.full((240, 320, 3), 128.0) + noise
    ys, xs = np.mgrid[:240, :320]
    ellipse = ((xs - 130) / 60) ** 2 + ((ys - 120) / 40) ** 2 < 1
    disc = ((xs - 210) ** 2 + (ys - 120) ** 2 < 28**2) & ~ellipse
    image[ellipse] += (-70, -40, 80)
    image[disc] += (90, 20, -70)
    return np.clip(image, 0, 255).astype(np.uint8), ellipse, disc


IMAGE, OBJECT, NEIGHBOUR = scene()
EMBEDDING = SEGMENTER.embed(IMAGE)
BOX = (70.0, 80.0, 190.0, 160.0)


def iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def clicks(*points: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None) -> ObjectPrompts:
    xy = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    return ObjectPrompts(xy, np.array([point[2] for point in points], np.bool_), box)


def logits_of(mask: BoolMask, strength: float = 4.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.where(mask, strength, -strength).astype(np.float32)


def segment(prompts: ObjectPrompts, before: BoolMask | None = None) -> BoolMask:
    """The mask of a person's prompts, which may correct an earlier mask."""
    prior = None if before is None else [logits_of(before)]
    found = SEGMENTER.segment(EMBEDDING, PromptBatch((prompts,)), mask_prior=prior)
    return np.asarray(found.low_res_logits[0, 0] > 0)
