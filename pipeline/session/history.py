"""Earlier rounds of one object, so that a change of mind brings their masks back without computing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.session.frame_mask import Known
from pipeline.types import Prompt, RunLengthMask

PromptsByFrame: TypeAlias = dict[int, tuple[Prompt, ...]]

MAX_MOMENTS = 32
HISTORY_MIB = 32.0
"""Bound of what one object's history holds beside the masks of today."""


@dataclass(frozen=True)
class Moment:
    """An object between two rounds; fields as in `ObjectState`."""

    prompts: Mapping[int, tuple[Prompt, ...]]
    known: Mapping[int, Known]
    stale: frozenset[int]
    before_prompts: Mapping[int, RunLengthMask]
    round_index: int

    def is_part_of(self, prompts: PromptsByFrame) -> bool:
        """Whether every prompt of this moment is among the given ones."""
        return all(not Counter(given) - Counter(prompts.get(frame, ())) for frame, given in self.prompts.items())

    @property
    def n_prompts(self) -> int:
        """How many prompts there were."""
        return sum(len(given) for given in self.prompts.values())


class History:
    """The latest moments of one object, bounded in number and bytes; the oldest go first."""

    def __init__(self, limit_mib: float = HISTORY_MIB) -> None:
        self._limit_bytes = int(limit_mib * 2**20)
        self._moments: list[Moment] = []
        self.held_bytes = 0
        """Masks held beside those of the latest `remember`'s present, in bytes."""

    def remember(self, moment: Moment, present: Mapping[int, Known]) -> None:
        """Keep a moment, in place of an earlier one with the same prompts; ``present`` are the masks of today."""
        if not moment.prompts:
            return
        self._moments = [known for known in self._moments if known.prompts != moment.prompts] + [moment]
        del self._moments[:-MAX_MOMENTS]
        while (held_bytes := self._bytes_beside(present)) > self._limit_bytes:
            del self._moments[0]
        self.held_bytes = held_bytes

    def nearest(self, prompts: PromptsByFrame) -> Moment | None:
        """The moment from which the fewest more prompts lead to these; the newest one of several."""
        fitting = [moment for moment in self._moments if moment.is_part_of(prompts)]
        return max(reversed(fitting), key=lambda moment: moment.n_prompts, default=None)

    def _bytes_beside(self, present: Mapping[int, Known]) -> int:
        today = {id(known) for known in present.values()}
        earlier = {id(known): known for moment in self._moments for known in moment.known.values()}
        return sum(known.held_bytes for key, known in earlier.items() if key not in today)
