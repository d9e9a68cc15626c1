"""A memory for all objects of a video: one key per cell, a value per cell and object (thesis, 3.1.7; IDPro, III-C)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

READOUT_LIMIT = 3.0
"""The memory's logits stay within this."""


class SharedMemory:
    """Keys by frame, values by object and frame, at most ``limit_mib`` MiB. Not thread-safe.

    Over the limit the oldest frames are dropped first, the newest never.
    """

    def __init__(self, limit_mib: float) -> None:
        if limit_mib <= 0:
            raise ValueError(f"a memory needs a positive bound in MiB, but got {limit_mib}")
        self._limit_bytes = int(limit_mib * 2**20)
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, dict[int, torch.Tensor]] = {}

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes; more than the bound only while a single frame is."""
        values = [value for by_frame in list(self._values.values()) for value in list(by_frame.values())]
        return sum(each.nbytes for each in [*list(self._keys.values()), *values])

    def frames_of(self, object_id: int) -> tuple[int, ...]:
        """Frames on which an object is stored, in order."""
        return tuple(sorted(self._values.get(object_id, {})))

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self._keys

    def keys(self, frame_index: int) -> torch.Tensor:
        """The keys (C, N) of a frame.

        Raises:
            KeyError: it is not in memory.
        """
        return self._keys[frame_index]

    def value(self, object_id: int, frame_index: int) -> torch.Tensor:
        """The value (N,) of an object on a frame where it is known.

        Raises:
            KeyError: it is not known there.
        """
        return self._values[object_id][frame_index]

    def store(self, frame_index: int, keys: torch.Tensor, object_id: int, value: torch.Tensor) -> None:
        """Store an object on a frame, in place of an earlier value (IDPro, Eq. 7).

        Args:
            frame_index: the frame.
            keys: (C, N) float32, the same for every object.
            object_id: the object.
            value: (N,) float32 in [0, 1], the share of each cell that is the object's.
        """
        known = self._keys.pop(frame_index, None)
        self._keys[frame_index] = keys if known is None else known
        self._values.setdefault(object_id, {})[frame_index] = value
        for oldest in list(self._keys)[:-1]:
            if self.nbytes <= self._limit_bytes:
                break
            self._drop_frame(oldest)

    def keep_only(self, object_id: int, frame_indices: Collection[int]) -> None:
        """Forget an object on all other frames; keys that no object needs any more go with it."""
        for frame_index in set(self._values.get(object_id, {})) - set(frame_indices):
            del self._values[object_id][frame_index]
            if not any(frame_index in by_frame for by_frame in self._values.values()):
                del self._keys[frame_index]

    def forget(self, object_id: int) -> None:
        """Forget an object."""
        self.keep_only(object_id, ())
        self._values.pop(object_id, None)

    def _drop_frame(self, frame_index: int) -> None:
        del self._keys[frame_index]
        for by_frame in self._values.values():
            by_frame.pop(frame_index, None)


BALANCE = 0.7
"""Exponent that balances the object's cells against the others: 1 weighs them as if they were equally many, 0 not at
all."""
LEAST_TEMPERATURE = 0.03
TINY = 1e-36
"""Added to the weights of both sides, so that a cell unlike everything in memory gets a share of a half."""


def affinity(keys_memory: torch.Tensor, keys_query: torch.Tensor) -> torch.Tensor:
    """Cosine similarity (M, N) of every memory cell (C, M) and every cell of the frame (C, N); thesis, Eq. 3.9."""
    return keys_memory.T @ keys_query


def read(
    keys_query: torch.Tensor,
    keys_memory: Mapping[int, torch.Tensor],
    values: Sequence[Mapping[int, torch.Tensor]],
    temperature: float,
) -> torch.Tensor:
    """Read the memory for several objects with a single affinity (thesis, Eq. 3.9 to 3.11).

    The softmax of each object runs over the frames on which it is stored. Affinities are bounded, so all objects share
    their exponentials, which are normalised afterwards. Cells of the object and of the rest are balanced with exponent
    `BALANCE`: in a plain softmax the many cells of the background outvote a small object.

    Args:
        keys_query: (C, N) unit keys of the frame.
        keys_memory: unit keys (C, M) by memory frame.
        values: per object, (M,) in [0, 1] by memory frame.
        temperature: of the softmax; at least `LEAST_TEMPERATURE`, so that nothing underflows.

    Returns:
        (W, N) float32 in [0, 1], the objects' shares of the cells; a half for an object that is known on no frame.
    """
    frames = sorted(keys_memory)
    if not frames:
        return torch.full((len(values), keys_query.shape[1]), 0.5)
    with torch.inference_mode():
        likeness = affinity(torch.cat([keys_memory[frame] for frame in frames], dim=1), keys_query).cpu()
        weights = likeness.sub_(1.0).div_(max(temperature, LEAST_TEMPERATURE)).exp_()
        n_cells = len(weights) // len(frames)
        sums = weights.view(len(frames), n_cells, -1).sum(dim=1)
        known = torch.tensor([[float(frame in each) for frame in frames] for each in values])
        nothing = torch.zeros(n_cells)
        stacked = torch.stack([torch.cat([each.get(frame, nothing) for frame in frames]) for each in values])
        of_object = stacked @ weights
        of_others = (known @ sums - of_object).clamp_min_(0.0)
        n_object = stacked.sum(dim=1, keepdim=True).clamp_min_(1.0)
        n_others = (known.sum(dim=1, keepdim=True) * n_cells - n_object).clamp_min_(1.0)
        of_object *= (n_others / n_object) ** BALANCE
        return (of_object + TINY) / (of_object + of_others + 2 * TINY)


def share_logits(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares in [0, 1] as logits, float32 within plus or minus `READOUT_LIMIT`."""
    limited = np.clip(shares, 1e-3, 1.0 - 1e-3)
    return np.asarray(np.clip(np.log(limited / (1.0 - limited)), -READOUT_LIMIT, READOUT_LIMIT), np.float32)
