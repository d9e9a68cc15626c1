"""Seconds of segmenter `lite` on one frame: prompts, corrections, and propagation of one and of five objects."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_zoo.lite.network import load_lite
from pipeline.evaluation.datasets import find_clips, read_truth
from pipeline.evaluation.results import machine
from pipeline.evaluation.simulated_prompts import exact_box, innermost
from pipeline.masks import saturated_logits
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, ReferenceFrame
from pipeline.segmenters.lite.embedding import LiteEmbedding
from pipeline.segmenters.lite.memory import Appearance
from pipeline.segmenters.lite.segmenter import LiteSegmenter
from pipeline.types import BoolMask

REPEATS = 7
MANY_OBJECTS = 5


def measured(data: Path, clip_name: str, threads: int) -> dict[str, Any]:
    """Median seconds of each kind of question about the second frame of a clip, and what they were measured on.

    Every question goes to a segmenter that knows no crop yet.

    Args:
        data: folder in the layout of DAVIS.
        clip_name: a clip with one object.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    (clip,) = find_clips(data, [clip_name])
    frames, mask, network = clip.frames, read_truth(clip).mask(0, 1), load_lite()
    first, second = (LiteSegmenter(network).embed(frames.frame(frame_index)) for frame_index in range(2))
    known = Followed(mask, LiteSegmenter(network).learn([ReferenceFrame(first, mask)]))
    x, y = innermost(mask)
    click = ObjectPrompts(np.array([[x + 0.5, y + 0.5]], np.float32), np.ones(1, np.bool_))
    box = ObjectPrompts(box_xyxy_px=exact_box(mask))
    picture = frames.frame(1)

    def prompted(prompts: ObjectPrompts, prior: FloatMap | None = None) -> object:
        return LiteSegmenter(network).segment(second, PromptBatch((prompts,)), mask_prior=[prior])

    calls: dict[str, Callable[[], object]] = {
        "embed": lambda: LiteSegmenter(network).embed(picture),
        "box": lambda: prompted(box),
        "corrective_click": lambda: prompted(click, known.logits),
        "lone_click": lambda: prompted(click),
        "propagation_1_object": lambda: known.propagate(LiteSegmenter(network), second, 1),
        f"propagation_{MANY_OBJECTS}_objects": lambda: known.propagate(LiteSegmenter(network), second, MANY_OBJECTS),
    }
    return {
        "machine": machine("cpu"),
        "clip": clip_name,
        "repeats": REPEATS,
        "seconds": {name: _median(call) for name, call in calls.items()},
    }


@dataclass(frozen=True)
class Followed:
    """An object before its propagation: its mask (H, W) on the frame before, and what it looks like."""

    mask: BoolMask
    appearance: Appearance

    @property
    def logits(self) -> FloatMap:
        """Of the mask, (H, W)."""
        return saturated_logits(self.mask)

    def propagate(self, segmenter: LiteSegmenter, embedding: LiteEmbedding, n_objects: int) -> object:
        """The two passes of a frame between prompted ones, for the object at so many places side by side."""
        width = self.mask.shape[1]
        places = [round(n * width / n_objects) for n in range(n_objects)]
        priors = [np.roll(self.logits, place, axis=1) for place in places]
        learnt = [self.appearance] * n_objects
        batch = PromptBatch(tuple(ObjectPrompts(box_xyxy_px=exact_box(prior > 0), tracked=True) for prior in priors))
        expected = segmenter.segment(embedding, batch, mask_prior=priors, appearance=learnt)
        where = [logits[0] for logits in expected.low_res_logits]
        return segmenter.segment(embedding, batch, mask_input=where, mask_prior=priors, appearance=learnt)


def _median(call: Callable[[], object]) -> float:
    call()
    return float(np.median(timeit.repeat(call, number=1, repeat=REPEATS)))
