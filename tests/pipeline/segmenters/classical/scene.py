"""The masks of prompts on the frame of touching objects, and a frame with a disc."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.segmenters.classical import ClassicalSegmenter
from pipeline.types import BoolMask, FrameRGB
from tests.pipeline.segmenters.touching import IMAGE

torch.set_num_threads(1)  # as build_method does: small networks crawl when their threads fight for cores
SEGMENTER = ClassicalSegmenter()
EMBEDDING = SEGMENTER.embed(IMAGE)


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
