"""A segmenter for tests that are about everything around it: it tells the bodies of the sample clip by their colour.

The front body is orange, the back one blue, the ground neither. So it needs no training, and a round takes a moment.
"""

# ruff: noqa: ARG002 - most of what a segmenter may be told is nothing to this one.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.parts import registry
from pipeline.parts.context import PartContext
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

NAME = "colour"
SHRINK = 2
"""Pixels of the frame per cell of the answer, along each axis."""
MEMORY_STEP = 8
LEAST_DIFFERENCE = 0.2
REACH_PX = 5
"""How far a click's word reaches around it."""


def use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the segmenter that settings name."""
    group = registry.entry_point_group(registry.SEGMENTER)
    offered = EntryPoint(NAME, f"{__name__}:{ColourSegmenter.__name__}", group)
    installed = registry.entry_points
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: [*installed(group=group), *([offered] if group == offered.group else [])],
    )
    monkeypatch.setenv("IVOS_SEGMENTER", NAME)


@dataclass(frozen=True)
class Difference:
    """Red less blue in [-1, 1], (h, w) float32, of a frame of a size in pixels."""

    values: FloatMap
    size_hw_px: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


class ColourSegmenter:
    """What has the colour of the prompted place, inside the box where there is one, and as the clicks say."""

    name = NAME
    uses_mask_prior = False

    def __init__(self, context: PartContext) -> None:
        pass

    def embed(self, frame_rgb: FrameRGB) -> Difference:
        smooth = cv2.GaussianBlur(frame_rgb, (0, 0), 1.5)[::SHRINK, ::SHRINK].astype(np.float32) / 255
        return Difference(smooth[..., 0] - smooth[..., 2], frame_rgb.shape[:2])

    def features(self, embedding: Difference) -> torch.Tensor:
        values = torch.from_numpy(embedding.values[::MEMORY_STEP, ::MEMORY_STEP].copy())
        return torch.stack([values, 1 - values])

    def key_features(self, embedding: Difference) -> torch.Tensor:
        return self.features(embedding)

    def learn(self, references: Sequence[ReferenceFrame], previous: Any = None) -> None:
        return None

    def adapt(self, appearance: Any, embedding: Difference, low_res_logits: FloatMap) -> None:
        return None

    def segment(
        self,
        embedding: Difference,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Any] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,
    ) -> Segmentation:
        earlier = mask_input or [None] * len(prompts.objects)
        maps = np.stack([_logits(embedding.values, *each) for each in zip(prompts.objects, earlier, strict=True)])
        sure = np.array([1 - 0.5 * np.mean(np.abs(each[each > -3]) < 1) if (each > 0).any() else 0.9 for each in maps])
        query = MemoryQuery(self.features(embedding).flatten(1))
        return Segmentation(maps[:, None], sure[:, None].astype(np.float32), (query,) * len(maps))

    def memorise(self, embedding: Difference, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:
        values = torch.from_numpy(low_res_logits[::MEMORY_STEP, ::MEMORY_STEP].reshape(1, -1).copy())
        return MemoryEntry(query.keys, values)

    def to_low_res(self, embedding: Difference, logits: FloatMap) -> FloatMap:
        return np.asarray(logits[::SHRINK, ::SHRINK], np.float32)

    def to_full_size(self, embedding: Difference, low_res_logits: FloatMap) -> FloatMap:
        return np.asarray(cv2.resize(low_res_logits, embedding.size_hw_px[::-1]), np.float32)


def _logits(difference: FloatMap, prompts: ObjectPrompts, earlier: FloatMap | None) -> FloatMap:
    """(h, w) float32 of one object."""
    last = np.array(difference.shape)[::-1, None] - 1
    columns, rows = np.clip(prompts.points_xy_px.T / SHRINK, 0, last).astype(int)
    inside = np.ones_like(difference, np.bool_)
    if prompts.box_xyxy_px is not None:
        x0, y0, x1, y1 = (round(side / SHRINK) for side in prompts.box_xyxy_px)
        inside[:] = False
        inside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = True
    if prompts.positive.any():
        shown = difference[rows, columns][prompts.positive]
    elif prompts.box_xyxy_px is not None:
        shown = difference[inside & (np.abs(difference) > LEAST_DIFFERENCE)]
    else:
        shown = difference[np.zeros_like(inside) if earlier is None else earlier > 0]
    if not shown.size:
        return np.full_like(difference, -4.0)
    towards = 1.0 if np.median(shown) > 0 else -1.0
    logits = np.where(inside, (towards * difference - LEAST_DIFFERENCE) * 20, -4.0).astype(np.float32)
    for row, column, positive in zip(rows, columns, prompts.positive, strict=True):
        if not prompts.tracked:
            cv2.circle(logits, (int(column), int(row)), REACH_PX // SHRINK, 4.0 if positive else -4.0, -1)
    return np.clip(logits, -4.0, 4.0)
