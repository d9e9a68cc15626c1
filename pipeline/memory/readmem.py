"""READMem: a frame enters a full memory if that makes it more diverse (thesis, 5.4.2)."""

from __future__ import annotations

import torch

from pipeline.memory import diversity
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.policy import Slots


class ReadMem(Slots):
    """See `MemoryPolicy`. Every offer costs the same, however long the video is.

    A frame is considered only if it shows the object: the object must look like that on a prompted frame, with a
    similarity above ``least_similarity`` (the lower similarity bound; 0.5 in the thesis, which compares whole frames,
    see `object_similarity`). Until the slots are taken every such frame enters (initialisation strategy 1; how often
    frames are offered is the method's choice); afterwards one that, in the place of some other, raises the Gram
    determinant, in the place where it raises it most. The frame's similarities are taken in its own frame of reference,
    those between frames in memory were taken when the later of them came; so the determinant of a full memory never
    falls while its prompted frames stay the same.
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
        """The kept frame without which the others and the newest have the greatest determinant; None if not above."""
        similarities, frames = self.gram(), list(self._held)
        candidates = [frame for frame in frames[:-1] if frame not in self._pinned]
        others = [[row for row, frame in enumerate(frames) if frame != candidate] for candidate in candidates]
        rows = torch.tensor(others)
        found = diversity.log_determinant(similarities[rows[:, :, None], rows[:, None, :]]).tolist()
        best = max(range(len(found)), key=found.__getitem__)
        return candidates[best] if found[best] > before else None
