"""The memory bank of one object: entries of earlier frames that later frames read (I-PT, Eq. 2 and Sec. III-D2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from pipeline.memory import crstm
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.policies import MemoryPolicy
from pipeline.segmenters.base import MemoryEntry, MemoryQuery, MemoryReadout


@dataclass(frozen=True)
class _Stored:
    entry: MemoryEntry
    interaction: bool


class MemoryBank:
    """Memory entries by frame index, at most ``limit_mib`` MiB of them. Not thread-safe.

    A ``policy``, if there is one, decides which propagated frames stay, see `offer`. Over the limit the oldest entries
    are dropped first, those of interaction frames only when no other is left, and the newest never. Entries without
    cells, as of an empty mask, are not stored. All others must have the same numbers of channels and be on one device.
    """

    def __init__(self, limit_mib: float, policy: MemoryPolicy | None = None) -> None:
        if limit_mib <= 0:
            raise ValueError(f"a memory bank needs a positive bound in MiB, but got {limit_mib}")
        self._limit_bytes = int(limit_mib * 2**20)
        self.policy = policy
        self._stored: dict[int, _Stored] = {}
        self._joined: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes; more than the bound only while a single entry is."""
        return sum(each.entry.nbytes for each in self._stored.values())

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Frames in memory, the one stored longest ago first."""
        return tuple(self._stored)

    @property
    def interaction_frames(self) -> tuple[int, ...]:
        """Those of `frame_indices` that a person prompted."""
        return tuple(index for index, each in self._stored.items() if each.interaction)

    def pin(self, frame_index: int, keys: FrameKeys) -> None:
        """Tell the policy of an interaction frame."""
        if self.policy is not None:
            self.policy.pin(frame_index, keys)

    def offer(self, frame_index: int, keys: FrameKeys) -> bool:
        """Whether a frame should be stored, always without a policy. The frames that it replaces are forgotten.

        Args:
            frame_index: a propagated frame.
            keys: what the policy compares.
        """
        if self.policy is None:
            return True
        taken = self.policy.offer(frame_index, keys)
        kept = {*self.policy.kept, *self.interaction_frames}
        self._remove([index for index in self._stored if index not in kept])
        return taken

    def store(self, frame_index: int, entry: MemoryEntry, interaction: bool) -> None:
        """Store a frame's entry in place of an earlier one. An interaction frame stays one until it is forgotten.

        With an entry that has no cells the frame is forgotten: nothing of it can be read.
        """
        if not entry.keys.shape[1]:
            self.forget(frame_index)
            return
        known = self._stored.pop(frame_index, None)
        self._stored[frame_index] = _Stored(entry, interaction or (known is not None and known.interaction))
        self._joined = None
        excess = self.nbytes - self._limit_bytes
        dropped = [] if known is None else [frame_index]
        older = [index for index in self._stored if index != frame_index]
        # Sorting is stable: the order of storing remains within each kind.
        for index in sorted(older, key=lambda index: self._stored[index].interaction):
            if excess <= 0:
                break
            excess -= self._stored.pop(index).entry.nbytes
            dropped.append(index)
        if self.policy is not None:
            self.policy.discard(index for index in dropped if index != frame_index)
        if dropped:
            self._release()

    def clear(self, frame_indices: Iterable[int]) -> None:
        """Forget these frames except interaction frames, as before a round propagates over them (Sec. III-D2)."""
        kept = set(self.interaction_frames)
        self._remove(index for index in frame_indices if index not in kept)

    def forget(self, frame_index: int) -> None:
        """Forget a frame of any kind, if it is in memory."""
        self._remove([frame_index])

    def read(self, query: MemoryQuery, top_k: int, alpha: float, temperature: float = 1.0) -> MemoryReadout | None:
        """Read the memory for a query (Eq. 3 to 5); None if it is empty.

        Keys are compared in the channels that the query has: it may leave out trailing ones.

        Args:
            query: which cells of a frame ask.
            top_k: see `crstm.read`.
            alpha: the frame's own share, see `crstm.alpha`.
            temperature: see `crstm.read`.
        """
        if not self._stored:
            return None
        keys, values = self._join()
        found = crstm.read(keys[: query.keys.shape[0]], values, query.keys, top_k, temperature)
        return MemoryReadout(query, found, alpha)

    def _remove(self, frame_indices: Iterable[int]) -> None:
        leaving = list(frame_indices)
        if self.policy is not None:
            self.policy.discard(leaving)
        gone = [self._stored.pop(index, None) for index in leaving]
        if any(gone):
            self._joined = None
            self._release()

    def _join(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (C, M) and values (V, M) of all frames (Eq. 2), concatenated once between changes.

        The entries become views of them, so that no memory is used twice.
        """
        if self._joined is None:
            keys = torch.cat([each.entry.keys for each in self._stored.values()], dim=1)
            # One memory cell after the other: `crstm.read` gathers single cells.
            values = torch.cat([each.entry.values.T for each in self._stored.values()]).T
            start = 0
            for index, each in list(self._stored.items()):
                cells = slice(start, start + each.entry.keys.shape[1])
                self._stored[index] = _Stored(MemoryEntry(keys[:, cells], values[:, cells]), each.interaction)
                start = cells.stop
            self._joined = keys, values
        return self._joined

    def _release(self) -> None:
        """Copy entries that are views of joined tensors, which would otherwise keep removed entries in memory."""
        for index, each in list(self._stored.items()):
            entry = each.entry
            if any(tensor.untyped_storage().nbytes() > tensor.nbytes for tensor in (entry.keys, entry.values)):
                copied = MemoryEntry(entry.keys.clone(), entry.values.clone())
                self._stored[index] = _Stored(copied, each.interaction)
