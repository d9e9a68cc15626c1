"""A segmenter that writes down what it was asked, and answers with where the prior or earlier mask was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from pipeline.segmenters.base import (
    FloatMap,
    MemoryEntry,
    MemoryQuery,
    MemoryReadout,
    ObjectPrompts,
    PromptBatch,
    ReferenceFrame,
    Segmentation,
)
from pipeline.types import FrameRGB


@dataclass(frozen=True)
class Frame:
    image: FrameRGB

    @property
    def nbytes(self) -> int:
        return self.image.nbytes


@dataclass(frozen=True)
class Call:
    prompts: tuple[ObjectPrompts, ...]
    has_mask_input: bool
    has_mask_prior: bool
    readout: MemoryReadout | None
    multimask: bool


@dataclass
class RecordingSegmenter:
    """The object is what is redder than green. ``calls`` are the passes in order.

    Masks have half the frame's resolution, and the memory half of that.

    A ``restless`` one finds less of it with every pass.
    """

    uses_mask_prior: bool = False
    restless: bool = False
    calls: list[Call] = field(default_factory=list)
    learnt_from: list[int] = field(default_factory=list)
    name: str = "recording"

    def embed(self, frame_rgb: FrameRGB) -> Frame:
        return Frame(frame_rgb)

    def features(self, embedding: Frame) -> torch.Tensor:
        return torch.from_numpy(embedding.image[::4, ::4].astype(np.float32)).permute(2, 0, 1)

    def key_features(self, embedding: Frame) -> torch.Tensor:
        return self.features(embedding)

    def learn(self, references: Sequence[ReferenceFrame], previous: Any = None) -> int:  # noqa: ARG002
        self.learnt_from.append(len(references))
        return len(references)

    def adapt(self, appearance: Any, embedding: Frame, low_res_logits: FloatMap) -> Any:  # noqa: ARG002
        return appearance

    def segment(
        self,
        embedding: Frame,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Any] | None = None,  # noqa: ARG002
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,
    ) -> Segmentation:
        n_objects = len(prompts.objects)
        first_input = mask_input[0] if mask_input else None
        first_prior = mask_prior[0] if mask_prior else None
        memory = readout[0] if readout else None
        self.calls.append(Call(prompts.objects, first_input is not None, first_prior is not None, memory, multimask))
        red, green = (embedding.image[::2, ::2, channel].astype(np.float32) for channel in (0, 1))
        logits = np.repeat(np.repeat((red - green)[None, None] / 10, n_objects, 0), 3 if multimask else 1, 1)
        if self.restless:
            logits[..., : 20 + 3 * len(self.calls), :] = -1.0
        keys = torch.from_numpy(np.stack([red[::2, ::2].ravel(), green[::2, ::2].ravel()]))
        scores = np.tile(np.linspace(0.4, 0.6, logits.shape[1], dtype=np.float32), (n_objects, 1))
        return Segmentation(logits, scores, tuple(MemoryQuery(keys) for _ in prompts.objects))

    def memorise(self, embedding: Frame, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:  # noqa: ARG002
        mask = (low_res_logits[::2, ::2] > 0).astype(np.float32)
        return MemoryEntry(query.keys, torch.from_numpy(mask.reshape(1, -1)))

    def to_low_res(self, embedding: Frame, logits: FloatMap) -> FloatMap:  # noqa: ARG002
        return np.asarray(logits[::2, ::2], np.float32)

    def to_full_size(self, embedding: Frame, low_res_logits: FloatMap) -> FloatMap:
        height_px, width_px = embedding.image.shape[:2]
        return np.asarray(cv2.resize(low_res_logits, (width_px, height_px)), np.float32)
