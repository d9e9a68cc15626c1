"""Looks for an object on a frame where nothing of it is known any more: where is what looked like it before?

The papers have no such step. Tracked points that are lost stay lost, and a segmenter that is asked without them answers
anything. Here the frames on which a person showed the object are read as the concurrent methods read theirs (thesis,
Eq. 3.9 to 3.11). The place with the most evidence prompts the segmenter, and its mask counts only if it looks much more
like the object than anything that was not the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pipeline.memory.key_grid import KeyGrid
from pipeline.memory.shared import SharedMemory, read, share_logits
from pipeline.methods.base import Anchor
from pipeline.methods.common.decoding import Decoded
from pipeline.methods.common.expected_prompts import main_part, prompts_from
from pipeline.methods.common.video_state import VideoState, digest
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask

SEARCH_CELLS = 40
"""Cells along a frame's longer side. Reading `READ_FRAMES` frames then takes less time than decoding a mask."""
READ_FRAMES = 4
"""Remembered frames that are read: the nearest in time that show the object, and as many that do not."""
LIMIT_MIB = 32.0
"""Bound of the remembered frames of one video."""
TEMPERATURE = 0.035
"""Of the memory's softmax, as in `ConcurrentSettings`."""
STRONG = 0.6
"""Least support (see `Looks.support`) of a mask that is found again. On real clips with hand-made features, the most
similar other thing had 0.58, and other clips had at most 0.5."""
LOST_SCORE = 0.75
"""Greatest score of an empty mask where no person said that the object is not there: it may only look different."""
CONTRADICTION = -2.0
"""A mask without support is contradicted if the memory's logits on it are lower than this on average: almost all of it
looks like what was not the object. A true mask of an object that changed its looks has higher ones."""
TELLING = 0.95
"""If the object and everything else are more similar than this, the keys tell nothing apart, and contradict nothing."""
RECENT_INTERVAL, RECENT_FRAMES = 5, 4
"""One frame in so many that a pass goes through is remembered if it surely shows the object, and how many of them."""
WORTH_ASKING = 0.4
"""Least support of an expected place for which the segmenter is asked."""
AREA_RANGE = 0.2, 4.0
"""Least and greatest area of a mask that is found again, as a share of the object's usual area."""
LEAST_BACKGROUND = 0.5
"""Assumed for the similarity of the object and everything else where the object fills all remembered frames."""
N_POSITIVE, N_NEGATIVE = 3, 1
"""Points that ask the segmenter, as in `ConcurrentSettings`."""


@dataclass(frozen=True)
class Looks:
    """What an object looked like on some frames, and what everything else did.

    Attributes:
        keys: unit keys (C, N) of each frame's cells, by frame index, see `KeyGrid.keys`.
        values: (N,) float32 in [0, 1] by frame index, the share of each cell that is the object's; all 0 on a frame
            that does not show it.
    """

    keys: Mapping[int, torch.Tensor]
    values: Mapping[int, torch.Tensor]

    @property
    def is_known(self) -> bool:
        """Whether any frame shows the object."""
        return any(bool(value.any()) for value in self.values.values())

    @cached_property
    def usual_cells(self) -> float:
        """The object's median area in cells, on the frames that show it."""
        return float(np.median([float(value.sum()) for value in self.values.values() if bool(value.any())]))

    @cached_property
    def _object_keys(self) -> torch.Tensor:
        """(C, M): the cells that are mostly the object's."""
        shown = [frame for frame, value in self.values.items() if bool(value.any())]
        return torch.cat([self.keys[frame][:, _cells(self.values[frame])] for frame in shown], dim=1)

    @cached_property
    def background_similarity(self) -> float:
        """How similar the object's cells are to the most similar cell that has nothing of the object, on average."""
        others = [self.keys[frame][:, value <= 0.05] for frame, value in self.values.items()]
        background = torch.cat(others, dim=1)
        if not background.shape[1]:
            return LEAST_BACKGROUND
        return max(LEAST_BACKGROUND, float((self._object_keys.T @ background).amax(dim=1).mean()))

    def support(self, keys: torch.Tensor, shares: torch.Tensor) -> float:
        """How much more a mask looks like the object than anything else that was seen, in [0, 1].

        Each cell of the mask is compared with the most similar one of the object. 1 means equal; 0 means no more
        similar than the object is to what is not the object. So the bound does not depend on the kind of keys.

        Args:
            keys: unit keys (C, N) of the frame.
            shares: (N,) in [0, 1], the share of each cell that the mask covers.
        """
        if not bool(shares.any()) or not self.is_known:
            return 0.0
        with torch.inference_mode():
            alike = float((self._object_keys.T @ keys[:, _cells(shares)]).amax(dim=0).mean())
            level = self.background_similarity
            return float(np.clip((alike - level) / max(1.0 - level, 1e-6), 0.0, 1.0))


@dataclass(frozen=True)
class Reappearance:
    """Judges whether a lost object is to be seen on a frame again.

    Attributes:
        looks: of the object.
        keys: unit keys (C, N) of the frame.
        grid: of the keys.
    """

    looks: Looks
    keys: torch.Tensor
    grid: KeyGrid

    def is_worth_asking(self, expected: FloatMap) -> bool:
        """Whether the segmenter should be asked for the place where the object is expected, logits (h, w)."""
        part = main_part(expected[: self.grid.covered_hw[0], : self.grid.covered_hw[1]])
        if not self.looks.is_known or not part.any():
            return False
        is_large = part.mean() * self.grid.n_cells >= AREA_RANGE[0] * self.looks.usual_cells
        return bool(is_large) and self.support(part) >= WORTH_ASKING

    def support(self, mask: BoolMask) -> float:
        """See `Looks.support`; the mask (h, w) is in the segmenter's resolution."""
        return self.looks.support(self.keys, self.grid.low_res_shares(mask))

    def contradicts(self, mask: BoolMask) -> bool:
        """Whether a mask (h, w) surely shows something else: what was seen beside the object."""
        shares = self.grid.low_res_shares(mask)
        if not self.looks.is_known or self.looks.background_similarity > TELLING or not bool(shares.any()):
            return False
        if self.looks.support(self.keys, shares) > 0:
            return False
        cells = _cells(shares)
        found = read(self.keys[:, cells], self.looks.keys, [self.looks.values], TEMPERATURE)[0]
        return float(share_logits(found.numpy()).mean()) < CONTRADICTION

    def recognises(self, mask: BoolMask) -> bool:
        """Whether a mask (h, w) surely shows the object: its support is strong, and its area possible."""
        least, greatest = AREA_RANGE
        area_cells = float(self.grid.low_res_shares(mask).sum())
        possible = self.looks.is_known and least <= area_cells / self.looks.usual_cells <= greatest
        return possible and self.support(mask) >= STRONG


Ask = Callable[[ObjectPrompts], Decoded]
"""Asks the segmenter for the mask of a frame."""


class ObjectSearch:
    """Remembers the prompted frames of a video's objects, and finds lost objects. Not thread-safe."""

    def __init__(self, state: VideoState) -> None:
        self._state = state
        self._memory = SharedMemory(LIMIT_MIB)
        self._digests: dict[tuple[int, int], bytes] = {}
        self._recent: dict[int, dict[int, Looks]] = {}
        self._known: dict[int, Looks] = {}
        self._latest_keys: tuple[int, torch.Tensor] | None = None
        self._grid: KeyGrid | None = None

    @property
    def held_bytes(self) -> int:
        """Memory held, in bytes."""
        recent = [looks for by_frame in list(self._recent.values()) for looks in list(by_frame.values())]
        tensors = {id(each): each.nbytes for looks in recent for each in (*looks.keys.values(), *looks.values.values())}
        return self._memory.nbytes + sum(tensors.values())

    def remember(self, object_id: int, anchors: Sequence[Anchor]) -> None:
        """Remember an object's prompted frames, those where it is not to be seen as well; forget all other frames.

        Raises:
            FrameError: a frame cannot be read.
        """
        frames = {anchor.frame_index for anchor in anchors}
        self._memory.keep_only(object_id, frames)
        self._recent.pop(object_id, None)
        self._known.pop(object_id, None)
        for anchor in anchors:
            key, mask_digest = (object_id, anchor.frame_index), digest(anchor.mask)
            # What the bound dropped is not computed again in every round.
            if self._digests.get(key) == mask_digest:
                continue
            embedding = self._state.embedding(anchor.frame_index)
            value = self._grid_of(embedding).shares(anchor.mask)
            self._memory.store(anchor.frame_index, self._keys(anchor.frame_index, embedding), object_id, value)
            self._digests[key] = mask_digest
        self._digests = {k: each for k, each in self._digests.items() if k[0] != object_id or k[1] in frames}

    def forget(self, object_id: int) -> None:
        """Forget an object."""
        self._memory.forget(object_id)
        self._recent.pop(object_id, None)
        self._known.pop(object_id, None)
        self._digests = {key: each for key, each in self._digests.items() if key[0] != object_id}

    def remember_seen(self, object_id: int, frame_index: int, judge: Reappearance, mask: BoolMask) -> None:
        """Remember a frame of a pass if its mask (h, w) surely shows the object: so looks that change stay known."""
        if frame_index % RECENT_INTERVAL or frame_index in self._memory or not judge.recognises(mask):
            return
        self._known.pop(object_id, None)
        recent = self._recent.setdefault(object_id, {})
        recent.pop(frame_index, None)
        recent[frame_index] = Looks({frame_index: judge.keys}, {frame_index: judge.grid.low_res_shares(mask)})
        for oldest in list(recent)[:-RECENT_FRAMES]:
            del recent[oldest]

    def find(self, object_id: int, frame_index: int, embedding: Any, ask: Ask) -> tuple[Decoded | None, float]:
        """Look for an object on a frame. The segmenter is asked at most once, and only where it is worth it.

        Returns:
            What was found, with the smaller one of its score and its support as score; or None. And how surely the
            object is not on the frame, in [0, 1]: how little the most similar place supports it.
        """
        judge = self.judge(object_id, frame_index, embedding)
        looks, grid = judge.looks, judge.grid
        if not looks.is_known:
            return None, 1.0
        expected = grid.enlarged(share_logits(read(judge.keys, looks.keys, [looks.values], TEMPERATURE)[0].numpy()))
        if not judge.is_worth_asking(expected):
            return None, 1.0 - judge.support(main_part(expected))
        prompts = prompts_from(expected, grid, N_POSITIVE, N_NEGATIVE, self._state.frames.size_hw_px)
        found = ask(prompts)
        mask = np.asarray(found.low_res_logits > 0)
        support = judge.support(mask)
        if judge.recognises(mask):
            return replace(found, score=min(found.score, support)), 0.0
        return None, 1.0 - support

    def judge(self, object_id: int, frame_index: int, embedding: Any) -> Reappearance:
        """Judges masks of an object on a frame."""
        looks = self._looks(object_id, frame_index)
        return Reappearance(looks, self._keys(frame_index, embedding), self._grid_of(embedding))

    def _looks(self, object_id: int, frame_index: int) -> Looks:
        """Of the frames nearest in time; kept until other frames are the nearest, as its properties take time."""
        recent = self._recent.get(object_id, {})
        values = {frame: self._memory.value(object_id, frame) for frame in self._memory.frames_of(object_id)}
        values.update({frame: looks.values[frame] for frame, looks in recent.items()})
        frames = sorted(values, key=lambda frame: abs(frame - frame_index))
        shown = [frame for frame in frames if bool(values[frame].any())][:READ_FRAMES]
        empty = [frame for frame in frames if not bool(values[frame].any())][:READ_FRAMES]
        used = tuple(sorted([*shown, *empty]))
        known = self._known.get(object_id)
        if known is None or tuple(known.values) != used:
            keys = {f: recent[f].keys[f] if f in recent else self._memory.keys(f) for f in used}
            known = self._known[object_id] = Looks(keys, {frame: values[frame] for frame in used})
        return known

    def _keys(self, frame_index: int, embedding: Any) -> torch.Tensor:
        """Of a frame; those of the latest one are kept, which several objects ask for."""
        if frame_index in self._memory:
            return self._memory.keys(frame_index)
        if self._latest_keys is None or self._latest_keys[0] != frame_index:
            keys = self._grid_of(embedding).keys(self._state.segmenter.key_features(embedding)).cpu()
            self._latest_keys = frame_index, keys
        return self._latest_keys[1]

    def _grid_of(self, embedding: Any) -> KeyGrid:
        if self._grid is None:
            self._grid = KeyGrid.of(self._state.segmenter, embedding, self._state.frames.size_hw_px, SEARCH_CELLS)
        return self._grid


def _cells(shares: torch.Tensor) -> torch.Tensor:
    """(N,) bool, the cells that are mostly a mask's; of a small mask those it covers the most."""
    return shares >= min(0.5, float(shares.max()))
