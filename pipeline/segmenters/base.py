"""The seam between methods and segmenters: one heavy ``embed`` per frame, then light ``segment`` calls over objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask, FrameRGB

if TYPE_CHECKING:
    import torch

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
class MemoryQuery:
    """What the memory is asked with. ``keys`` (C, N) float32: one column per cell of the segmenter's grid.

    A query may leave out trailing channels of the memory's keys; these are then not compared. ``cells`` tells the
    segmenter which cells these are; nobody else reads it.
    """

    keys: torch.Tensor
    cells: Any = None


@dataclass(frozen=True)
class MemoryReadout:
    """The memory's answer (I-PT, Eq. 5): ``values`` (V, N) float32 for the N cells of ``query``.

    ``alpha`` in [0, 1] is the share of the frame's own value when the two are mixed (Eq. 6).
    """

    query: MemoryQuery
    values: torch.Tensor
    alpha: float


@dataclass(frozen=True)
class MemoryEntry:
    """What one frame adds to an object's memory: ``keys`` (C, M) and ``values`` (V, M) float32 of M cells."""

    keys: torch.Tensor
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True)
class Segmentation:
    """One frame segmented: O objects, K candidate masks of each (K = 1 unless several were asked for).

    ``low_res_logits`` (O, K, h, w) float32 are in the segmenter's own resolution: one (h, w) map is what ``mask_input``
    takes, and `Segmenter.to_full_size` makes the mask of it. ``predicted_iou`` is (O, K) float32 in [0, 1].
    ``queries`` ask the memory, one per object.
    """

    low_res_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    queries: tuple[MemoryQuery, ...]


@dataclass(frozen=True)
class Reference:
    """A frame whose mask a person vouches for: what appearances are learnt from. ``mask`` is (H, W) bool."""

    embedding: Any
    mask: BoolMask


class Segmenter(Protocol):
    """Turns prompts into masks. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """Names the segmenter and every setting its embeddings depend on; part of the embedding cache's key."""
        ...

    @property
    def uses_carried_mask(self) -> bool:
        """Whether the first pass over a frame makes use of ``carried``; if not, nobody needs to compute the flow."""
        ...

    def embed(self, frame_rgb: FrameRGB) -> Embedding:
        """Everything that depends on the frame alone."""
        ...

    def features(self, embedding: Any) -> torch.Tensor:
        """The frame's semantic map (C, h', w') float32; it covers what `low_res_logits` cover."""
        ...

    def key_features(self, embedding: Any) -> torch.Tensor:
        """What a memory that all objects share compares (C, h', w') float32; it covers what `features` covers."""
        ...

    def learn(self, references: Sequence[Reference], previous: Any = None) -> Any:
        """What the masks of one object on its prompted frames teach, beyond the memory; None where nothing.

        Args:
            references: all prompted frames of the object.
            previous: what an earlier call for the same object returned; memory keys made with it stay comparable.
        """
        ...

    def adapt(self, appearance: Any, embedding: Any, low_res_logits: FloatMap) -> Any:
        """The appearance after one more frame of the object; ``appearance`` itself stays as it is.

        Args:
            appearance: what `learn` or `adapt` returned.
            embedding: of the frame.
            low_res_logits: (h, w), found by `segment`, so nobody vouches for it.
        """
        ...

    def segment(
        self,
        embedding: Any,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        carried: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Any] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,
    ) -> Segmentation:
        """Segment every object of ``prompts``; all sequences have one item per object.

        Args:
            embedding: of this frame, from `embed`.
            prompts: one row per object; a row may be without any point and box.
            mask_input: logits (h, w) in the segmenter's own resolution, from an earlier pass over this frame.
            carried: logits (h, w) where the object is expected before any pass: the neighbouring frame's mask carried
                along the flow, or the mask that this frame had before a person prompted it.
            appearance: what `learn` returned.
            readout: what the memory said to the query of an earlier pass.
            multimask: give several candidate masks of each object where the segmenter can tell them apart.
        """
        ...

    def memorise(self, embedding: Any, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:
        """What to remember of a frame whose mask is known.

        Args:
            embedding: of the frame.
            query: of a pass over that frame for the object.
            low_res_logits: (h, w), the final mask.
        """
        ...

    def to_low_res(self, embedding: Any, logits: FloatMap) -> FloatMap:
        """Bring logits (H, W) of the frame's size to the segmenter's own resolution (h, w)."""
        ...

    def to_full_size(self, embedding: Any, low_res_logits: FloatMap) -> FloatMap:
        """Bring logits (h, w) of the segmenter's own resolution to the frame's size (H, W)."""
        ...
