"""What stays in memory of the frames of a video whose length nobody knows: a few bytes per frame and object."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from math import isnan, nan

from pipeline.batch.run_folder import LOWEST_SCORES
from pipeline.batch.summary import FrameScore, ObjectSummary

_SCORE_DIGITS = 4


class FrameRanges:
    """Frames, given in ascending order, as inclusive ranges."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int]] = []
        self.n_frames = 0

    def add(self, frame_index: int) -> None:
        """Add a frame after all others."""
        self.n_frames += 1
        if self.found and self.found[-1][1] == frame_index - 1:
            self.found[-1] = self.found[-1][0], frame_index
        else:
            self.found.append((frame_index, frame_index))

    def n_from(self, first: int) -> int:
        """How many frames there are from one on."""
        return sum(end - max(start, first) + 1 for start, end in self.found if end >= first)


class ObjectScores:
    """One object's scores by frame; a frame may be given again."""

    def __init__(self) -> None:
        self._scores = array("f")
        self._visible = array("b")
        self._prompted: set[int] = set()

    def set(self, frame_index: int, score: float, *, visible: bool, prompted: bool) -> None:
        """Note a mask's score in [0, 1]; frames up to there that were never given have none."""
        missing = frame_index + 1 - len(self._scores)
        self._scores.extend([nan] * missing)
        self._visible.extend([0] * missing)
        self._scores[frame_index], self._visible[frame_index] = score, visible
        if prompted:
            self._prompted.add(frame_index)

    def is_gapless(self, done: FrameRanges) -> bool:
        """Whether there is a score on all frames that are done from the first one with a score on."""
        known = [frame_index for frame_index, score in enumerate(self._scores) if not isnan(score)]
        return bool(known) and len(known) == done.n_from(known[0])

    def summary(self, object_id: int, name: str, n_frames: int) -> ObjectSummary:
        """The object's part of the summary of a video of ``n_frames`` frames."""
        scores = [None if isnan(score) else round(score, _SCORE_DIGITS) for score in self._scores]
        known = [(score, frame_index) for frame_index, score in enumerate(scores) if score is not None]
        lowest = self._lowest(known)
        return ObjectSummary(
            object_id=object_id,
            name=name,
            prompted_frames=sorted(self._prompted),
            frames_with_mask=sum(self._visible),
            mean_score=round(sum(score for score, _ in known) / len(known), _SCORE_DIGITS) if known else None,
            lowest_scores=[FrameScore(frame_index=frame_index, score=score) for score, frame_index in lowest],
            scores=[*scores, *[None] * (n_frames - len(scores))],
        )

    def _lowest(self, known: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
        return sorted(entry for entry in known if entry[1] not in self._prompted)[:LOWEST_SCORES]
