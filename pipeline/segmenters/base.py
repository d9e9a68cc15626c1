"""The interface between methods and segmenters: a slow ``embed`` per frame, then fast ``segment`` calls per object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask, FrameRGB

if TYPE_CHECKING:
    import torch

    from pipeline.uncertainty import UncertaintyThresholds

FloatMap = NDArray[np.float32]
"""(H, W) float32; as logits, positive means object."""


class Embedding(Protocol):
    """What a segmenter computes from a frame alone. The embedding cache limits the sum of ``nbytes``."""

    @property
    def nbytes(self) -> int:
        """Memory used, in bytes."""
        ...


def _no_points() -> NDArray[np.float32]:
    return np.zeros((0, 2), np.float32)


def _no_labels() -> NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True)
class ObjectPrompts:
    """The prompts of one object on one frame.

    ``points_xy_px`` is (N, 2) float32 and ``positive`` (N,) bool; the box is x0, y0, x1, y1; all in pixels of the
    original frame. ``tracked`` means that trackers moved the prompts here from another frame. Tracked prompts are
    hints: a mask may contradict them. It may not contradict the prompts of a person.
    """

    points_xy_px: NDArray[np.float32] = field(default_factory=_no_points)
    positive: NDArray[np.bool_] = field(default_factory=_no_labels)
    box_xyxy_px: tuple[float, float, float, float] | None = None
    tracked: bool = False


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of several objects on one frame. The position in ``objects`` is the object's row in every result."""

    objects: tuple[ObjectPrompts, ...]


@dataclass(frozen=True)
class MemoryQuery:
    """A query to the memory. ``keys`` (C, N) float32: one column per cell of the segmenter's grid.

    A query may have fewer channels than the memory's keys; the memory then compares only the first C channels.
    ``cells`` is private to the segmenter: it holds which cells of the frame the columns belong to. ``prompted`` says
    that the frame's mask comes from a person's prompts, and not from propagation.
    """

    keys: torch.Tensor
    cells: Any = None
    prompted: bool = False


@dataclass(frozen=True)
class MemoryReadout:
    """What was read from the memory (I-PT, Eq. 5): ``values`` (V, N) float32 for the N cells of ``query``.

    ``alpha`` in [0, 1] is the weight of the frame's own value when the two are mixed (Eq. 6).
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
        """Memory used, in bytes."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True)
class Segmentation:
    """The segmentation of one frame: O objects with K candidate masks each (K = 1 unless ``multimask`` was set).

    ``low_res_logits`` (O, K, h, w) float32 are in the segmenter's own resolution: one (h, w) map is what ``mask_input``
    takes, and `Segmenter.to_full_size` brings it to the frame's size. ``predicted_iou`` is (O, K) float32 in [0, 1].
    ``queries`` has one memory query per object.
    """

    low_res_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    queries: tuple[MemoryQuery, ...]


@dataclass(frozen=True)
class ReferenceFrame:
    """A prompted frame and its mask, from which `Segmenter.learn` learns. ``mask`` is (H, W) bool."""

    embedding: Any
    mask: BoolMask


@runtime_checkable
class CalibratedSegmenter(Protocol):
    """A segmenter for which `ivos calibrate` has found the thresholds of method lazy."""

    @property
    def uncertainty_thresholds(self) -> UncertaintyThresholds:
        """What its masks' uncertainty means."""
        ...


class Segmenter(Protocol):
    """Turns prompts into masks. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """Names the segmenter and every setting its embeddings depend on; part of the embedding cache's key."""
        ...

    @property
    def uses_mask_prior(self) -> bool:
        """Whether the first pass over a frame reads ``mask_prior``; if not, no optical flow needs to be computed."""
        ...

    def embed(self, frame_rgb: FrameRGB) -> Embedding:
        """Compute everything that depends on the frame alone."""
        ...

    def features(self, embedding: Any) -> torch.Tensor:
        """The frame's semantic map (C, h', w') float32; it covers the same area as `low_res_logits`."""
        ...

    def key_features(self, embedding: Any) -> torch.Tensor:
        """The keys of a memory that all objects share, (C, h, w) float32: the area of `features`, at any resolution."""
        ...

    def learn(self, references: Sequence[ReferenceFrame], previous: Any = None) -> Any:
        """Train an appearance model of one object on its prompted frames; None if the segmenter has no such model.

        Args:
            references: all prompted frames of the object.
            previous: the model that an earlier call for this object returned. Memory keys stay comparable with it.
        """
        ...

    def adapt(self, appearance: Any, embedding: Any, low_res_logits: FloatMap) -> Any:
        """Return the appearance model updated with one more frame; ``appearance`` itself does not change.

        Args:
            appearance: the model that `learn` or `adapt` returned.
            embedding: of the frame.
            low_res_logits: (h, w), the mask that `segment` found; no person has checked it.
        """
        ...

    def segment(
        self,
        embedding: Any,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Any] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,
    ) -> Segmentation:
        """Segment every object of ``prompts``; all sequences have one item per object.

        Args:
            embedding: of this frame, from `embed`.
            prompts: one row per object; a row may be without any point and box.
            mask_input: logits (h, w) in the segmenter's own resolution, from an earlier pass over this frame.
            mask_prior: logits (h, w) of the mask expected before the first pass: the neighbouring frame's mask warped
                along the optical flow, or the mask that this frame had before a person prompted it.
            appearance: the models that `learn` or `adapt` returned.
            readout: what was read from the memory for the query of an earlier pass.
            multimask: return several candidate masks per object if the segmenter has them.
        """
        ...

    def memorise(self, embedding: Any, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:
        """Make the memory entry of a frame whose mask is known.

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


def memory_temperature(segmenter: Segmenter) -> float:
    """What affinities of a segmenter's memory keys are to be divided by before the softmax (I-PT, Eq. 4), > 0.

    A segmenter whose keys need something other than 1 says so in a property of this name.
    """
    return float(getattr(segmenter, "memory_temperature", 1.0))


def useful_refinements(segmenter: Segmenter, wanted: int) -> int:
    """How many of ``wanted`` further passes of a segmenter over its own result are worth their time (SAM-PT, 3.2).

    All of them, as with SAM. A segmenter whose further passes change nothing says ``refines_itself = False``.
    """
    return wanted if getattr(segmenter, "refines_itself", True) else 0
