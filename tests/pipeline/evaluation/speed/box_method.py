"""A method that answers every frame with the prompted box; its encoder and decoder take a known time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.masks import saturated_logits
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, Segmentation
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class BoxSegmenter:
    """Sleeps instead of computing."""

    embed_s: float
    segment_s: float
    name: str = "box"

    def embed(self, frame_rgb: FrameRGB) -> Any:
        time.sleep(self.embed_s)
        return np.zeros(frame_rgb.shape[:2], np.float32)

    def segment(self, embedding: Any, prompts: PromptBatch) -> Segmentation:
        time.sleep(self.segment_s)
        logits = np.full((len(prompts.objects), 1, *embedding.shape), -1.0, np.float32)
        for row, each in enumerate(prompts.objects):
            if each.box_xyxy_px is not None:
                x0, y0, x1, y1 = (round(edge) for edge in each.box_xyxy_px)
                logits[row, 0, y0:y1, x0:x1] = 1.0
        return Segmentation(logits, np.ones((len(prompts.objects), 1), np.float32), ())

    def to_full_size(self, embedding: Any, low_res_logits: FloatMap) -> FloatMap:  # noqa: ARG002
        return low_res_logits


@dataclass(frozen=True)
class BoxMethod:
    """See `pipeline.methods.base.Method`."""

    segmenter: BoxSegmenter
    embeddings: EmbeddingCache[Any] = field(default_factory=lambda: EmbeddingCache(64))
    video_keys: Iterator[int] = field(default_factory=itertools.count)

    def open(self, frames: FrameSource) -> BoxVideo:
        return BoxVideo(self, frames, next(self.video_keys))


@dataclass
class BoxVideo:
    """See `pipeline.methods.base.PerObjectVideo`."""

    method: BoxMethod
    frames: FrameSource
    key: int
    clicks_only = False
    fusion_score_power = 0.0
    held_bytes = 0

    def begin_round(self, task: ObjectRound) -> None:
        pass

    def forget(self, object_id: int) -> None:
        pass

    def segment_prompted(
        self,
        frame_index: int,
        prompts: ObjectPrompts,
        *,
        prior: FloatMap | None,  # noqa: ARG002
        memory: None,  # noqa: ARG002
    ) -> Estimate:
        found = self.method.segmenter.segment(self._embedding(frame_index), PromptBatch((prompts,)))
        return Estimate(frame_index, found.low_res_logits[0, 0], 1.0)

    def propagate(self, anchor: Anchor, frame_indices: range, memory: None) -> Iterator[Estimate]:  # noqa: ARG002
        for frame_index in frame_indices:
            self.method.segmenter.segment(self._embedding(frame_index), PromptBatch((anchor.prompts,)))
            yield Estimate(frame_index, saturated_logits(anchor.mask), 1.0)

    def _embedding(self, frame_index: int) -> Any:
        key = self.key, frame_index
        return self.method.embeddings.get_or_make(
            key, lambda: self.method.segmenter.embed(self.frames.frame(frame_index))
        )
