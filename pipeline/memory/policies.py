"""Memory policies: which frames a memory with a fixed number of slots keeps (thesis, 5.4.2).

A policy only decides; the method stores the entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch

from pipeline.memory import diversity
from pipeline.memory.diversity import FrameKeys

POLICY_CELLS = 27
"""Cells along a frame's longer side on which policies compare frames. The memory itself has twice as many, which would
make a comparison sixteen times as expensive."""

MAX_PINNED = 8
"""How many prompted frames are compared with others, the latest ones. This bounds a policy's memory and time. All
prompted frames stay in the method's memory."""


class MemoryPolicy(Protocol):
    """Decides which propagated frames stay in N slots; prompted frames stay anyway. Not thread-safe.

    In the thesis the one annotated frame fills the first of N slots. Here a person may prompt any number of frames,
    which could fill all slots. So the N slots are for propagated frames alone.
    """

    @property
    def kept(self) -> tuple[int, ...]:
        """Frames in the slots, the oldest entry first."""
        ...

    @property
    def log_det(self) -> float | None:
        """Logarithm of the Gram determinant of prompted and kept frames.

        None until all slots are taken: the determinants of fewer frames are not comparable (thesis, Fig. 5.5).
        """
        ...

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes: the keys of at most slots + `MAX_PINNED` frames, on the coarse grid."""
        ...

    def pin(self, frame_index: int, keys: FrameKeys) -> None:
        """Add a prompted frame, which stays until it is discarded."""
        ...

    def offer(self, frame_index: int, keys: FrameKeys) -> bool:
        """Whether a propagated frame should be stored; `kept` then lists the frames that stay.

        A frame that is kept already is judged again. A pinned frame is never stored again.
        """
        ...

    def discard(self, frame_indices: Iterable[int]) -> None:
        """Forget frames, prompted ones as well."""
        ...


class Slots:
    """The base class of all policies, see `MemoryPolicy`."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._held: dict[int, FrameKeys] = {}
        self._pinned: list[int] = []
        self._similarities: dict[tuple[int, int], float] = {}

    @property
    def kept(self) -> tuple[int, ...]:
        """See `MemoryPolicy`."""
        return tuple(frame_index for frame_index in self._held if frame_index not in self._pinned)

    @property
    def log_det(self) -> float | None:
        """See `MemoryPolicy`."""
        if not self.kept or len(self.kept) < self._slots:
            return None
        return float(diversity.log_determinant(self.gram()))

    @property
    def nbytes(self) -> int:
        """See `MemoryPolicy`."""
        tensors = [tensor for each in list(self._held.values()) for tensor in (each.keys, each.shares)]
        return sum({id(tensor): tensor.nbytes for tensor in tensors}.values())

    def gram(self) -> torch.Tensor:
        """Similarities (M, M) float64 of all frames held, in the order in which they came (Eq. 5.5).

        Each similarity is taken in the frame of reference of the later frame, which was the query then. So entries
        never change, and determinants can be compared over time.
        """
        frames = list(self._held)
        matrix = torch.eye(len(frames), dtype=torch.float64)
        for column, later in enumerate(frames):
            for row, earlier in enumerate(frames[:column]):
                pair = earlier, later
                if pair not in self._similarities:
                    self._similarities[pair] = diversity.similarity(self._held[later].keys, self._held[earlier].keys)
                matrix[row, column] = matrix[column, row] = self._similarities[pair]
        return matrix

    def pin(self, frame_index: int, keys: FrameKeys) -> None:
        """See `MemoryPolicy`."""
        self.discard([frame_index])
        self._held[frame_index] = keys
        self._pinned.append(frame_index)
        self.discard(self._pinned[:-MAX_PINNED])

    def discard(self, frame_indices: Iterable[int]) -> None:
        """See `MemoryPolicy`."""
        gone = {frame_index for frame_index in frame_indices if self._held.pop(frame_index, None) is not None}
        if gone:
            self._pinned = [frame_index for frame_index in self._pinned if frame_index not in gone]
            self._similarities = {k: value for k, value in self._similarities.items() if not gone & set(k)}


class FirstInFirstOut(Slots):
    """Every frame enters and the oldest one leaves, as in STM and its successors."""

    def offer(self, frame_index: int, keys: FrameKeys) -> bool:
        """See `MemoryPolicy`."""
        if self._slots < 1 or frame_index in self._pinned:
            return False
        self.discard([frame_index])
        self._held[frame_index] = keys
        self.discard(self.kept[: -self._slots])
        return True


class ReadMem(Slots):
    """See `MemoryPolicy`. Every offer costs the same, however long the video is.

    A frame is considered only if it shows the object. For that, the object must be more similar to that on a prompted
    frame than ``least_similarity`` (the lower similarity bound; 0.5 in the thesis, which compares whole frames, see
    `object_similarity`). While slots are free, every such frame enters (initialisation strategy 1; the method decides
    how often frames are offered). Afterwards a frame enters if the Gram determinant rises when it replaces another one;
    it replaces the one for which the determinant rises most. So the determinant of a full memory never falls while its
    prompted frames stay the same.
    """

    def __init__(self, slots: int, least_similarity: float = 0.5) -> None:
        super().__init__(slots)
        self._least_similarity = least_similarity

    def offer(self, frame_index: int, keys: FrameKeys) -> bool:
        """See `MemoryPolicy`."""
        if self._slots < 1 or frame_index in self._pinned:
            return False
        self.discard([frame_index])
        pinned = [self._held[each] for each in self._pinned]
        if pinned and max(diversity.object_similarity(keys, each) for each in pinned) <= self._least_similarity:
            return False
        full = len(self.kept) >= self._slots
        before = float(diversity.log_determinant(self.gram())) if full else 0.0
        self._held[frame_index] = keys
        if full:
            leaving = self._best_without(before)
            self.discard([leaving if leaving is not None else frame_index])
            return leaving is not None
        return True

    def _best_without(self, before: float) -> int | None:
        """The kept frame to replace for the greatest determinant; None if no choice raises it above ``before``."""
        similarities, frames = self.gram(), list(self._held)
        candidates = [frame for frame in frames[:-1] if frame not in self._pinned]
        others = [[row for row, frame in enumerate(frames) if frame != candidate] for candidate in candidates]
        rows = torch.tensor(others)
        found = diversity.log_determinant(similarities[rows[:, :, None], rows[:, None, :]]).tolist()
        best = max(range(len(found)), key=found.__getitem__)
        return candidates[best] if found[best] > before else None
