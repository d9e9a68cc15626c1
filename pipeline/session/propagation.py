"""How a round goes through a video: one object after the other, or all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from pipeline.methods.base import ConcurrentVideo, PerObjectVideo
from pipeline.session.concurrent import Together
from pipeline.session.mask_store import Board
from pipeline.session.per_object import OneByOne
from pipeline.session.ranges import Reach
from pipeline.types import FrameResult


class Rounds(Protocol):
    """Segments what waits on a board. One thread at a time."""

    @property
    def reach(self) -> Reach:
        """Which frames a change of prompts puts in question."""
        ...

    def run(self, cancelled: Callable[[], bool]) -> Iterator[FrameResult]:
        """Segment everything that waits, prompted frames first; ``cancelled`` is asked between frames."""
        ...


def rounds_for(board: Board, video: PerObjectVideo | ConcurrentVideo) -> Rounds:
    """The way that fits the method."""
    return Together(board, video) if isinstance(video, ConcurrentVideo) else OneByOne(board, video)
