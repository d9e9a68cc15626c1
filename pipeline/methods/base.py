"""The seam between sessions and methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from pipeline.video import FrameSource


@dataclass(frozen=True)
class Anchor:
    """A frame of one object whose mask is known: ``mask`` is (H, W) bool at the frame's size."""

    frame_index: int
    mask: BoolMask


@dataclass(frozen=True)
class Estimate:
    """A method's opinion on one object in one frame: ``logits`` (H, W) float32, ``score`` in [0, 1]."""

    frame_index: int
    logits: NDArray[np.float32]
    score: float


class OpenVideo(Protocol):
    """A method at work on one video. One thread at a time."""

    def learn(self, anchors: Sequence[Anchor]) -> Any:
        """What the prompted frames of one object teach; handed back as ``memory``."""
        ...

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: Any
    ) -> Estimate:
        """The mask of one frame from a person's prompts.

        Args:
            frame_index: the prompted frame.
            prompts: clicks and box on it.
            prior: logits (H, W) of the mask the frame had before anyone prompted it, or None.
            memory: of the object's other prompted frames, or None.

        Raises:
            FrameError: the frame cannot be read.
        """
        ...

    def propagate(self, anchor: Anchor, frame_indices: range, memory: Any) -> Iterator[Estimate]:
        """Follow the object from an anchor through neighbouring frames, in order; an unreadable frame is left out."""
        ...


class Method(Protocol):
    """A composition of segmenter and trackers. Shared by all sessions of a process."""

    def open(self, frames: FrameSource) -> OpenVideo:
        """Start work on a video."""
        ...
