"""How long a segmenter's memory keys are, and how many cells of the memory answer at which temperature (I-PT, Eq. 4).

A softmax over affinities of long keys takes the nearest cell alone; over those of short keys it takes all alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.evaluation.zivos.single_pass import OnlineClip
from pipeline.masks import bounding_box, saturated_logits
from pipeline.memory import crstm
from pipeline.segmenters.base import MemoryEntry, MemoryQuery, ObjectPrompts, PromptBatch, ReferenceFrame, Segmenter
from pipeline.segmenters.base import memory_temperature as temperature_of
from pipeline.video.frames import FrameError

TEMPERATURES = 1.0, 4.0, 16.0, 64.0
TOP_K = 20
"""Cells that take part, as in `IPtSettings`."""
FRAMES_PER_CLIP = 3


@dataclass
class KeyStatistics:
    """The figures of a segmenter's keys, clip by clip: one object of each, stored on one frame and asked on others.

    Attributes:
        segmenter: whose keys they are.
        squared_norms: the mean of |k|^2 over the cells of a query, one per query.
        effective_cells: by temperature, one per query: how many of `TOP_K` cells share the weight, see
            `crstm.effective_cells`.
    """

    segmenter: Segmenter
    squared_norms: list[float] = field(default_factory=list)
    effective_cells: dict[float, list[float]] = field(default_factory=dict)

    @property
    def temperature(self) -> float:
        """The one that the segmenter asks for."""
        return temperature_of(self.segmenter)

    def add(self, clip: OnlineClip) -> None:
        """Measure on a few frames of a clip that show its first object. Frames that cannot be read are left out."""
        object_id = min(clip.object_ids)
        shown = [index for index in range(len(clip.frames)) if clip.mask(index, object_id).any()]
        rows = np.linspace(0, len(shown) - 1, min(FRAMES_PER_CLIP, len(shown))).round().astype(int)
        first, *others = (shown[row] for row in rows)
        with suppress(FrameError):
            entry, appearance = self._stored(clip, first, object_id)
            for frame_index in others:
                with suppress(FrameError):
                    self._measure(entry, self._asked(clip, frame_index, object_id, appearance)[1])

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON; None where nothing was measured."""
        by_temperature = {each: self.effective_cells.get(each, []) for each in self._temperatures}
        return {
            "mean_squared_norm": fmean(self.squared_norms) if self.squared_norms else None,
            "temperature": self.temperature,
            "top_k": TOP_K,
            "effective_cells": {f"{name:g}": fmean(each) if each else None for name, each in by_temperature.items()},
            "queries": len(self.squared_norms),
        }

    @property
    def _temperatures(self) -> Sequence[float]:
        return sorted({*TEMPERATURES, self.temperature})

    def _stored(self, clip: OnlineClip, frame_index: int, object_id: int) -> tuple[MemoryEntry, Any]:
        mask = clip.mask(frame_index, object_id)
        embedding = self.segmenter.embed(clip.frames.frame(frame_index))
        appearance = self.segmenter.learn([ReferenceFrame(embedding, mask)])
        embedding, query = self._asked(clip, frame_index, object_id, appearance, embedding)
        logits = self.segmenter.to_low_res(embedding, saturated_logits(mask))
        return self.segmenter.memorise(embedding, query, logits), appearance

    def _asked(
        self, clip: OnlineClip, frame_index: int, object_id: int, appearance: Any, embedding: Any = None
    ) -> tuple[Any, MemoryQuery]:
        """The embedding of a frame, and the query of the object in its true box."""
        embedding = embedding or self.segmenter.embed(clip.frames.frame(frame_index))
        prompts = PromptBatch((ObjectPrompts(box_xyxy_px=bounding_box(clip.mask(frame_index, object_id))),))
        return embedding, self.segmenter.segment(embedding, prompts, appearance=[appearance]).queries[0]

    def _measure(self, entry: MemoryEntry, query: MemoryQuery) -> None:
        if not entry.keys.shape[1] or not query.keys.shape[1]:
            return
        self.squared_norms.append(float(query.keys.square().sum(dim=0).mean()))
        keys = entry.keys[: query.keys.shape[0]]
        for temperature in self._temperatures:
            found = crstm.effective_cells(keys, query.keys, TOP_K, temperature)
            self.effective_cells.setdefault(temperature, []).append(found)


def key_lines(document: Mapping[str, Any]) -> list[str]:
    """A document of `KeyStatistics` in words; no line if nothing was measured."""
    if document["mean_squared_norm"] is None:
        return []
    cells = ", ".join(f"{each:.1f} at {name}" for name, each in document["effective_cells"].items())
    return [
        f"memory keys: mean |k|^2 {document['mean_squared_norm']:.1f}, memory_temperature {document['temperature']:g}",
        f"effective cells of {document['top_k']}, by memory_temperature: {cells}",
    ]
