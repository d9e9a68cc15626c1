"""Which frame to correct next: where a click is expected to mend the most, over the whole video.

Not the worst frame alone: a correction also mends the frames around it, up to the next prompted ones, so a long
uncertain stretch comes before a single bad frame, and the middle of a wide gap before the neighbour of a prompted
frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GOOD_SCORE = 0.97
"""The confidence that a frame is expected to have after a correction on it."""
REACH_FRAMES = 30.0
"""How fast the confidence that a correction gives falls with the distance: so far away a third of it is left. Of 5, 12
and 30 frames, 30 did best on clips with truth (docs/bench.md)."""
FAR_BONUS = 0.05
"""So much more a gain counts at a distance of `REACH_FRAMES` and more from all prompted frames: of frames that look
alike, those that nobody looked near are the less known."""
FARTHEST_FRAMES = 100
"""Farther away a correction is not expected to mend anything."""
FRAMES_APART = 5
"""Least distance of two suggested frames: what the first one mends shows only after the next round."""


@dataclass(frozen=True)
class Suggestion:
    """A frame to be corrected next.

    Attributes:
        frame_index: the frame.
        object_id: the object that gains the most there.
        x_px, y_px: where its mask is least certain: the place to look at first, in pixels of the frame.
        positive: whether that place is rather the object, so that a click to confirm it would be a positive one.
        gain: how much a correction there is expected to mend, in frames that go from all wrong to all right.
        score: the confidence of the mask there, in [0, 1].
    """

    frame_index: int
    object_id: int
    x_px: float
    y_px: float
    positive: bool
    gain: float
    score: float


@dataclass(frozen=True)
class Outlook:
    """What is known of one object over the video.

    Attributes:
        scores: (T,) float, the confidence of every frame's mask in [0, 1]; nan where there is none.
        prompted: (T,) bool, the frames that a person has prompted.
    """

    scores: NDArray[np.float64]
    prompted: NDArray[np.bool_]


def gains(outlook: Outlook) -> NDArray[np.float64]:
    """The expected gain of a correction on every frame, (T,) >= 0, in frames; 0 on prompted frames and without a mask.

    A correction on t gives a frame t' the confidence `GOOD_SCORE` exp(-|t - t'| / `REACH_FRAMES`), where that is more
    than it has: what is sure already gains nothing by a correction far away. It does not reach beyond the next prompted
    frame, for which a person vouches.
    """
    n_frames = len(outlook.scores)
    usable = ~np.isnan(outlook.scores) & ~outlook.prompted
    scores = np.where(usable, outlook.scores, np.inf)
    spans = np.cumsum(outlook.prompted)
    gain = np.maximum(GOOD_SCORE - scores, 0.0)
    for apart in range(1, min(n_frames, FARTHEST_FRAMES + 1)):
        score = GOOD_SCORE * np.exp(-apart / REACH_FRAMES)
        together = spans[apart:] == spans[:-apart]
        gain[:-apart] += together * np.maximum(score - scores[apart:], 0.0)
        gain[apart:] += together * np.maximum(score - scores[:-apart], 0.0)
    return np.asarray(np.where(usable, gain, 0.0))


def ranked(outlooks: Mapping[int, Outlook], n: int, frames_apart: int = FRAMES_APART) -> list[tuple[int, int, float]]:
    """Frame index, object id and gain of the ``n`` most useful corrections, the best first.

    No two frames are nearer to each other than ``frames_apart``. After each choice the gains are reckoned anew, as if
    that frame were prompted.
    """
    chosen: list[tuple[int, int, float]] = []
    outlooks = dict(outlooks)
    while outlooks and len(chosen) < n:
        by_object = {object_id: gains(outlook) for object_id, outlook in outlooks.items()}
        for gain in by_object.values():
            for frame_index, _, _ in chosen:
                gain[max(0, frame_index - frames_apart + 1) : frame_index + frames_apart] = 0.0
        total = np.sum([gain * _weight(outlooks[i]) for i, gain in by_object.items()], axis=0)
        frame_index = int(total.argmax())
        if total[frame_index] <= 0.0:
            break
        object_id = max(by_object, key=lambda i: float(by_object[i][frame_index]))
        chosen.append((frame_index, object_id, float(by_object[object_id][frame_index])))
        outlooks = {i: _as_if_prompted(each, frame_index) for i, each in outlooks.items()}
    return chosen


def _weight(outlook: Outlook) -> NDArray[np.float64]:
    """What gains count, (T,) from 1 to 1 + `FAR_BONUS`, by the distance from prompted frames."""
    frames, prompted = np.arange(len(outlook.scores)), np.flatnonzero(outlook.prompted)
    after = np.searchsorted(prompted, frames)
    bounds = np.concatenate([[-np.inf], prompted, [np.inf]])
    distance = np.minimum(frames - bounds[after], bounds[after + 1] - frames)
    return np.asarray(1.0 + FAR_BONUS * np.minimum(distance, REACH_FRAMES) / REACH_FRAMES)


def _as_if_prompted(outlook: Outlook, frame_index: int) -> Outlook:
    prompted = outlook.prompted.copy()
    prompted[frame_index] = True
    return Outlook(outlook.scores, prompted)
