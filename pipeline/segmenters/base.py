"""The seam between methods and segmenters: one heavy ``embed`` per frame, then light ``segment`` calls over objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask, FrameRGB

FloatMap = NDArray[np.float32]
"""(H, W) float32; as logits, positive means object."""


class Embedding(Protocol):
    """What a segmenter computes from a frame alone; the cache bounds the sum of ``nbytes``."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        ...


def _no_points() -> NDArray[np.float32]:
    return np.zeros((0, 2), np.float32)


def _no_signs() -> NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True)
class ObjectPrompts:
    """The prompts of one object on one frame.

    ``points_xy_px`` is (N, 2) float32 and ``positive`` (N,) bool; the box is x0, y0, x1, y1; all in pixels of the
    original frame. ``tracked`` says that trackers carried the prompts here: they guide the segmenter, but do not bind
    it as a person's prompts do.
    """

    points_xy_px: NDArray[np.float32] = field(default_factory=_no_points)
    positive: NDArray[np.bool_] = field(default_factory=_no_signs)
    box_xyxy_px: tuple[float, float, float, float] | None = None
    tracked: bool = False


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of several objects on one frame; the position in ``objects`` is the row of every answer."""

    objects: tuple[ObjectPrompts, ...]


@dataclass(frozen=True)
class Segmentation:
    """One frame segmented: ``mask_logits`` (O, H, W) float32 at the frame's size, ``predicted_iou`` (O,) in [0, 1]."""

    mask_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A frame whose mask a person vouches for: what memories are made of. ``mask`` is (H, W) bool at full size."""

    embedding: Any
    mask: BoolMask


class Segmenter(Protocol):
    """Turns prompts into masks. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """Names the segmenter and every setting its embeddings depend on; part of the embedding cache's key."""
        ...

    def embed(self, frame_rgb: FrameRGB) -> Embedding:
        """Everything that depends on the frame alone."""
        ...

    def memorise(self, references: Sequence[Reference]) -> Any:
        """What the masks of one object on its prompted frames teach; handed back to `segment` as ``memory``."""
        ...

    def segment(
        self,
        embedding: Any,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        memory: Sequence[Any] | None = None,
    ) -> Segmentation:
        """Segment every object of ``prompts``.

        Args:
            embedding: of this frame, from `embed`.
            prompts: one row per object.
            mask_input: per row the logits (H, W) of a weak prior, or None.
            memory: per row what `memorise` returned, or None.
        """
        ...
