"""The masks of prompts on the frame of touching objects."""

from __future__ import annotations

import numpy as np
import torch

from model_zoo.lite.network import load_lite
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.segmenters.lite.segmenter import LiteSegmenter
from pipeline.types import BoolMask
from tests.pipeline.segmenters.touching import IMAGE

torch.set_num_threads(1)  # as build_method does: small networks crawl when their threads fight for cores
SEGMENTER = LiteSegmenter(load_lite())
EMBEDDING = SEGMENTER.embed(IMAGE)
BOX = (70.0, 80.0, 190.0, 160.0)


def logits_of(mask: BoolMask, strength: float = 4.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.where(mask, strength, -strength).astype(np.float32)


def segment(prompts: ObjectPrompts, before: BoolMask | None = None) -> BoolMask:
    """The mask of a person's prompts, which may correct an earlier mask."""
    prior = None if before is None else [logits_of(before)]
    found = SEGMENTER.segment(EMBEDDING, PromptBatch((prompts,)), mask_prior=prior)
    return np.asarray(found.low_res_logits[0, 0] > 0)
