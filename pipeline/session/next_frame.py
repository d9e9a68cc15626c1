"""Which frame to correct next: where a click is expected to improve the most, over the whole video.

That is not simply the worst frame. A correction also improves the frames around it, up to the next prompted ones. So a
long uncertain stretch comes before a single bad frame, and the middle of a wide gap before a neighbour of a prompted
frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.session.mask_store import MaskStore
from pipeline.session.object_state import ObjectState
from pipeline.uncertainty import entropy_map, most_uncertain, pseudo_correction

GOOD_SCORE = 0.97
"""The confidence that a frame is expected to have after a correction on it."""
REACH_FRAMES = 30.0
"""How fast the effect of a correction falls with the distance: at this distance a third (1/e) of it is left. Of 5, 12
and 30 frames, 30 did best on clips whose true masks are known (docs/results.md)."""
FAR_BONUS = 0.05
"""A gain is weighted up by this share at a distance of `REACH_FRAMES` or more from all prompted frames. Of frames with
similar gains, this prefers those far from all prompted frames."""
FARTHEST_FRAMES = 100
"""A correction is not expected to improve anything farther away than this."""
FRAMES_APART = 5
"""Least distance of two suggested frames: what the first one improves shows only after the next round."""


@dataclass(frozen=True)
class Suggestion:
    """A frame to be corrected next.

    Attributes:
        frame_index: the frame.
        object_id: the object that gains the most there.
        x_px, y_px: where its mask is least certain: the place to look at first, in pixels of the frame.
        positive: whether that place probably is the object, so that a confirming click would be a positive one.
        gain: how much a correction there is expected to improve, in frames that go from all wrong to all right.
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
class ObjectScores:
    """The confidence of one object's masks over the video.

    Attributes:
        scores: (T,) float, the confidence of every frame's mask in [0, 1]; nan where there is none.
        prompted: (T,) bool, the frames that a person has prompted.
    """

    scores: NDArray[np.float64]
    prompted: NDArray[np.bool_]

    @classmethod
    def of(cls, state: ObjectState, n_frames: int) -> ObjectScores:
        """The scores of an object in a video of ``n_frames`` frames."""
        scores, prompted = np.full(n_frames, np.nan), np.zeros(n_frames, np.bool_)
        for frame_index, mask in state.masks.items():
            scores[frame_index] = mask.score
        prompted[sorted(state.prompts)] = True
        return cls(scores, prompted)


def suggestions(store: MaskStore, n: int) -> tuple[Suggestion, ...]:
    """At most ``n`` frames to correct, the best first; objects without prompts have none."""
    with store.lock:
        states = [state for state in store.objects.values() if state.prompts]
        chosen = ranked({state.object_id: ObjectScores.of(state, len(store.frames)) for state in states}, n)
        return tuple(place_to_look(store, *each) for each in chosen)


def place_to_look(store: MaskStore, frame_index: int, object_id: int, gain: float) -> Suggestion:
    """The place to look at on a frame, as a suggestion; the object must have a mask there."""
    mask = store.objects[object_id].masks[frame_index]
    if mask.soft is None:
        height_px, width_px = store.frames.size_hw_px
        inside = pseudo_correction(np.zeros((height_px, width_px), np.float32), mask.raw.decode())
        x_px, y_px = inside or (width_px / 2, height_px / 2)
        return Suggestion(frame_index, object_id, x_px, y_px, inside is not None, gain, mask.score)
    present = [each.soft for each in store.on_frame(frame_index).values()]
    entropy = entropy_map(np.stack([soft.probabilities() for soft in present if soft is not None]))
    probability = mask.soft.probabilities()
    x_px, y_px = most_uncertain(entropy, np.asarray(probability > 0.5))
    positive = bool(probability[int(y_px), int(x_px)] > 0.5)
    return Suggestion(frame_index, object_id, x_px, y_px, positive, gain, mask.score)


def gains(known: ObjectScores) -> NDArray[np.float64]:
    """The expected gain of a correction on every frame, (T,) >= 0, in frames; 0 on prompted frames and without a mask.

    A correction on frame t gives a frame t' the confidence `GOOD_SCORE` exp(-|t - t'| / `REACH_FRAMES`), where that is
    more than it has. So frames that are certain gain nothing from a correction far away. The effect ends at the next
    prompted frame, which a person already checked.
    """
    n_frames = len(known.scores)
    usable = ~np.isnan(known.scores) & ~known.prompted
    scores = np.where(usable, known.scores, np.inf)
    spans = np.cumsum(known.prompted)
    gain = np.maximum(GOOD_SCORE - scores, 0.0)
    for distance in range(1, min(n_frames, FARTHEST_FRAMES + 1)):
        score = GOOD_SCORE * np.exp(-distance / REACH_FRAMES)
        same_span = spans[distance:] == spans[:-distance]
        gain[:-distance] += same_span * np.maximum(score - scores[distance:], 0.0)
        gain[distance:] += same_span * np.maximum(score - scores[:-distance], 0.0)
    return np.asarray(np.where(usable, gain, 0.0))


def ranked(
    by_object: Mapping[int, ObjectScores], n: int, frames_apart: int = FRAMES_APART
) -> list[tuple[int, int, float]]:
    """Frame index, object id and gain of the ``n`` most useful corrections, the best first.

    After each choice the gains are computed anew, as if that frame were prompted.

    Args:
        by_object: scores and prompted frames, by object id.
        n: at most this many.
        frames_apart: least distance between two chosen frames.
    """
    chosen: list[tuple[int, int, float]] = []
    known = dict(by_object)
    while known and len(chosen) < n:
        gain_of = {object_id: gains(each) for object_id, each in known.items()}
        for gain in gain_of.values():
            for frame_index, _, _ in chosen:
                gain[max(0, frame_index - frames_apart + 1) : frame_index + frames_apart] = 0.0
        total = np.sum([gain * _weight(known[i]) for i, gain in gain_of.items()], axis=0)
        frame_index = int(total.argmax())
        if total[frame_index] <= 0.0:
            break
        object_id = max(gain_of, key=lambda i: float(gain_of[i][frame_index]))
        chosen.append((frame_index, object_id, float(gain_of[object_id][frame_index])))
        known = {i: _as_if_prompted(each, frame_index) for i, each in known.items()}
    return chosen


def _weight(known: ObjectScores) -> NDArray[np.float64]:
    """The weight of a gain, (T,) from 1 to 1 + `FAR_BONUS`, by the distance from prompted frames."""
    frames, prompted = np.arange(len(known.scores)), np.flatnonzero(known.prompted)
    after = np.searchsorted(prompted, frames)
    bounds = np.concatenate([[-np.inf], prompted, [np.inf]])
    distance = np.minimum(frames - bounds[after], bounds[after + 1] - frames)
    return np.asarray(1.0 + FAR_BONUS * np.minimum(distance, REACH_FRAMES) / REACH_FRAMES)


def _as_if_prompted(known: ObjectScores, frame_index: int) -> ObjectScores:
    prompted = known.prompted.copy()
    prompted[frame_index] = True
    return ObjectScores(known.scores, prompted)
