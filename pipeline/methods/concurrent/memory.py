"""The memories of concurrent methods: one of prompted frames for the whole video, and one for each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pipeline.memory import diversity, shared
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.key_grid import KeyGrid
from pipeline.memory.policies import POLICY_CELLS, MemoryPolicy
from pipeline.memory.shared import SharedMemory
from pipeline.methods.common.search import Looks
from pipeline.methods.common.video_state import VideoState
from pipeline.segmenters.base import FloatMap
from pipeline.types import BoolMask


@dataclass(frozen=True)
class MemorySettings:
    """How the memory is kept and read; see `ConcurrentSettings`."""

    key_cells: int
    read_frames: int
    temperature: float
    limit_mib: float


@dataclass(frozen=True)
class MemoryItem:
    """One object on one frame: the frame's keys (C, N), which all objects share, and the object's value (N,)."""

    keys: torch.Tensor
    value: torch.Tensor


@dataclass
class PassMemory:
    """The temporary memory of one pass: its latest frames, and those a policy keeps (thesis, 3.1.4 and 5.4.2).

    Attributes:
        last_frames: how many of the latest frames are kept.
        interval_frames: u: one frame in every u is offered to the policy; 0 offers none.
        policy: decides which of these stay, and how many.
    """

    last_frames: int
    interval_frames: int
    policy: MemoryPolicy
    frames: dict[int, MemoryItem] = field(default_factory=dict)
    _first: dict[int, MemoryItem] = field(default_factory=dict)
    _last: list[int] = field(default_factory=list)
    _n_seen: int = 0

    @property
    def readable(self) -> Mapping[int, MemoryItem]:
        """All that is remembered, by frame."""
        return {**self._first, **self.frames}

    def begin(self, frame_index: int, remembered: MemoryItem) -> None:
        """Remember the frame from which the pass starts, until it ends. The policy does not learn of it here."""
        self._first = {frame_index: remembered}

    def add(self, frame_index: int, remembered: MemoryItem, compared: Callable[[], FrameKeys]) -> None:
        """Store the newest frame, and forget what is no longer to be kept.

        Args:
            frame_index: the frame.
            remembered: its keys and the object's value.
            compared: returns what policies compare; called only when the frame is offered.
        """
        self._n_seen += 1
        self._last = [*self._last, frame_index][-self.last_frames :] if self.last_frames else []
        if self.interval_frames and self._n_seen % self.interval_frames == 0:
            self.policy.offer(frame_index, compared())
        self.frames[frame_index] = remembered
        kept = {*self._last, *self.policy.kept}
        self.frames = {f: each for f, each in self.frames.items() if f in kept}

    def discard(self, frame_index: int) -> None:
        """Forget a frame, if it is remembered."""
        self.frames.pop(frame_index, None)
        self._first.pop(frame_index, None)
        self.policy.discard([frame_index])


@dataclass(frozen=True)
class ReadRequest:
    """What one object reads on a frame.

    Attributes:
        object_id: the object.
        mask: logits (h, w) of where the object is expected. Only cells around it are read: what looks like the object
            farther away is something else. None: the object may be anywhere.
        further: frames to read besides the prompted ones, by frame index.
        prompted: whether the object's prompted frames are read.
    """

    object_id: int
    mask: FloatMap | None = None
    further: Mapping[int, MemoryItem] = field(default_factory=dict)
    prompted: bool = True


class ConcurrentMemory:
    """The across-round memory of a video (IDPro, Eq. 7). Not thread-safe.

    Keys come from the image alone, so that all objects share them and one affinity per frame is enough. A value is the
    share of a cell that the object covers: AOT's identification with one channel per object, and without learning.
    """

    def __init__(self, state: VideoState, settings: MemorySettings) -> None:
        self._state, self._settings = state, settings
        self._prompted = SharedMemory(settings.limit_mib)
        self._grid: KeyGrid | None = None

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._prompted.nbytes

    def grid(self, embedding: Any) -> KeyGrid:
        """The grid of this video's frames, computed from the embedding of any frame."""
        if self._grid is None:
            size_hw_px = self._state.frames.size_hw_px
            self._grid = KeyGrid.of(self._state.segmenter, embedding, size_hw_px, self._settings.key_cells)
        return self._grid

    def keys(self, frame_index: int, embedding: Any) -> torch.Tensor:
        """The keys (C, N) of a frame."""
        if frame_index in self._prompted:
            return self._prompted.keys(frame_index)
        return self.grid(embedding).keys(self._state.segmenter.key_features(embedding))

    def coarse(self, keys: torch.Tensor) -> torch.Tensor:
        """Of the keys (C, N) of a frame those that memory policies compare, (C, M)."""
        return diversity.coarser(keys, self._known_grid.grid_hw, self._coarse_grid.grid_hw)

    def coarse_shares(self, mask: BoolMask) -> torch.Tensor:
        """The value (M,) of a mask (H, W) on the grid of `coarse`."""
        return self._coarse_grid.shares(mask)

    @property
    def _known_grid(self) -> KeyGrid:
        if self._grid is None:
            raise RuntimeError("expected a frame's keys before they are made coarser, but none of this video were made")
        return self._grid

    @cached_property
    def _coarse_grid(self) -> KeyGrid:
        grid = self._known_grid
        return replace(grid, grid_hw=diversity.coarse_grid_hw(grid.grid_hw, POLICY_CELLS))

    def value(self, embedding: Any, mask: BoolMask) -> torch.Tensor:
        """The value (N,) of a mask (H, W)."""
        return self.grid(embedding).shares(mask)

    def holds(self, object_id: int, frame_index: int) -> bool:
        """Whether the memory holds an object on a prompted frame."""
        return frame_index in self._prompted.frames_of(object_id)

    def store(self, frame_index: int, embedding: Any, object_id: int, mask: BoolMask) -> None:
        """Store the mask (H, W) of a prompted frame in the memory (IDPro, Eq. 7)."""
        keys, value = self.keys(frame_index, embedding), self.value(embedding, mask)
        self._prompted.store(frame_index, keys, object_id, value)

    def keep_only(self, object_id: int, frame_indices: Sequence[int]) -> None:
        """Forget an object on the frames that are not prompted any more."""
        self._prompted.keep_only(object_id, frame_indices)

    def forget(self, object_id: int) -> None:
        """Forget an object."""
        self._prompted.forget(object_id)

    def read(
        self, frame_index: int, embedding: Any, keys: torch.Tensor, requests: Sequence[ReadRequest]
    ) -> list[FloatMap]:
        """Logits (h, w) in the segmenter's resolution that the memory gives objects on a frame, one map per row.

        They are 0 outside the cells that an object reads, and everywhere if the memory has nothing of the object.

        Args:
            frame_index: the frame.
            embedding: of the frame.
            keys: of the frame, (C, N).
            requests: the objects, and what each of them may read.
        """
        keys_memory: dict[int, torch.Tensor] = {}
        rows: list[Mapping[int, torch.Tensor]] = []
        for each in requests:
            row: dict[int, torch.Tensor] = {}
            for frame in self._nearest(each, frame_index):
                row[frame], keys_memory[frame] = self._prompted.value(each.object_id, frame), self._prompted.keys(frame)
            for frame, remembered in each.further.items():
                row[frame], keys_memory[frame] = remembered.value, remembered.keys
            rows.append(row)
        grid = self.grid(embedding)
        where = np.stack([np.ones(grid.n_cells, np.bool_) if a.mask is None else grid.around(a.mask) for a in requests])
        cells = np.flatnonzero(where.any(axis=0))
        shares = shared.read(keys[:, torch.from_numpy(cells)], keys_memory, rows, self._settings.temperature)
        logits = np.zeros(where.shape, np.float32)
        logits[:, cells] = shared.share_logits(shares.numpy())
        return [grid.enlarged(each) for each in np.where(where, logits, np.float32(0))]

    def looks(self, frame_index: int, request: ReadRequest) -> Looks:
        """What an object looks like on the frames that `read` reads."""
        frames = self._nearest(request, frame_index)
        keys = {frame: self._prompted.keys(frame) for frame in frames}
        values = {frame: self._prompted.value(request.object_id, frame) for frame in frames}
        return Looks(
            {**keys, **{frame: each.keys for frame, each in request.further.items()}},
            {**values, **{frame: each.value for frame, each in request.further.items()}},
        )

    def _nearest(self, request: ReadRequest, frame_index: int) -> list[int]:
        frames = self._prompted.frames_of(request.object_id) if request.prompted else ()
        return sorted(frames, key=lambda frame: abs(frame - frame_index))[: self._settings.read_frames]
