"""The simulated annotator of `ivos bench`: sees the true masks, chooses the frames of each round, and prompts there.

Source: I-PT, III-B and IV-B (papers/000 of the project): a box with an error of a few pixels, positive points on a grid
inside the object, negative points at random outside; round 1 on any frame, later rounds on the worst one. Several
frames in one round are IDPro's new setting (V-B, papers/002).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.datasets import Truth
from pipeline.evaluation.simulated_prompts import (
    ClickStrategy,
    correcting_clicks,
    correcting_strokes,
    first_click,
    first_strokes,
    grid_points,
    noisy_box,
    random_points,
)
from pipeline.types import BoolMask, BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt


class Start(str, Enum):
    """The prompts of a run.

    ``mask``: round 1 is the truth of frame 0, later rounds are as in ``prompts``. ``masks``: every round is the truth
    of its frame, the first one of frame 0; this measures how far a correction spreads, whatever the segmenter makes of
    prompts. ``prompts``: a box and points in every round. ``clicks``: clicks only, one per object in round 1, then on
    the errors. ``scribbles``: strokes of a brush through the objects in round 1, then through the errors.
    """

    MASK = "mask"
    MASKS = "masks"
    PROMPTS = "prompts"
    CLICKS = "clicks"
    SCRIBBLES = "scribbles"

    @property
    def gives_first_frame(self) -> bool:
        """Whether the true masks of frame 0 are given in round 1; the frame is not scored then."""
        return self in (Start.MASK, Start.MASKS)


class NextFrame(str, Enum):
    """Which frame rounds 2 and later prompt."""

    WORST = "worst"
    RANDOM = "random"
    SUGGESTED = "suggested"


@dataclass(frozen=True)
class AnnotatorSettings:
    """What the annotator does.

    ``first_frame`` None is the best frame, see `best_frame`. A round prompts ``frames_per_round`` frames; in later
    rounds these are at least ``frames_apart`` from each other where the clip is long enough. ``seed`` fixes all random
    numbers. ``n_starts`` independent runs begin on different frames, as the three initial prompts of each clip in I-PT,
    IV-A.
    """

    start: Start = Start.PROMPTS
    next_frame: NextFrame = NextFrame.WORST
    first_frame: int | None = None
    frames_per_round: int = 1
    frames_apart: int = 5
    n_positive: int = 8
    n_negative: int = 1
    box_noise_px: float = 4.0
    click_strategy: ClickStrategy = ClickStrategy.A3
    max_clicks: int = 3
    scribble_width_px: float = 3.0
    seed: int = 0
    n_starts: int = 1


class Annotator:
    """Gives the prompts for one clip, round by round; remembers which frames it has prompted.

    The same settings, start, clip name and masks give the same prompts, whatever clips ran before.
    """

    def __init__(self, truth: Truth, clip_name: str, settings: AnnotatorSettings, start: int = 0) -> None:
        """Nothing is prompted yet.

        Args:
            truth: the true masks of the clip.
            clip_name: its name.
            settings: what the annotator does.
            start: which of the ``n_starts`` runs, from 0; each has its own first frame and its own random numbers.
        """
        self._truth, self._settings, self._start = truth, settings, start
        self._areas_px = truth.areas_px()
        self._rng = np.random.default_rng([settings.seed, zlib.crc32(clip_name.encode()), *([start] if start else [])])
        self._prompted: list[int] = []

    def first_frames(self) -> tuple[int, ...]:
        """The frames of round 1: this start's first frame, then others over the clip, see `spread_frames`.

        A run that starts from a mask has only frame 0 here.
        """
        if self._settings.start.gives_first_frame:
            return (0,)
        first = start_frames(self._areas_px, self._settings)[self._start]
        return spread_frames(first, np.asarray(self._areas_px.any(axis=1)), self._settings.frames_per_round)

    def next_frames(self, jf_per_frame: NDArray[np.float64], suggested: Sequence[int] = ()) -> tuple[int, ...]:
        """The frames of a later round.

        Only frames that show an object are prompted, and of these first the ones that were not prompted before (I-PT:
        the interaction frames vary in each round). `AnnotatorSettings.next_frame` chooses among them: the frame with
        the lowest J&F (the earlier of equal ones), a random one, or the first suggested one (a random one where none
        of them was suggested). In a clip too short for ``frames_apart`` the frames of a round are closer together. A
        clip with too few frames gives fewer.

        Args:
            jf_per_frame: J&F of every frame, the mean over objects, (T,).
            suggested: frames that the session suggests to correct, the most useful first.
        """
        chosen: list[int] = []
        for _ in range(self._settings.frames_per_round):
            candidates = self._candidates(chosen)
            if not candidates.any():
                break
            usable = [frame_index for frame_index in suggested if candidates[frame_index]]
            if self._settings.next_frame is NextFrame.SUGGESTED and usable:
                chosen.append(usable[0])
            elif self._settings.next_frame is not NextFrame.WORST:
                chosen.append(int(self._rng.choice(np.flatnonzero(candidates))))
            else:
                chosen.append(int(np.argmin(np.where(candidates, jf_per_frame, np.inf))))
        return tuple(chosen)

    def _candidates(self, chosen: Sequence[int]) -> NDArray[np.bool_]:
        """Frames, (T,) bool, from which the next one of the round is chosen; ``chosen`` are those it has."""
        frames = np.arange(len(self._areas_px))
        with_object = self._areas_px.any(axis=1)
        fresh = with_object & ~np.isin(frames, self._prompted)
        wanted = self._settings.frames_apart
        distances = np.abs(frames[:, None] - np.array(chosen, np.int64)).min(axis=1, initial=wanted)
        for allowed in (fresh, with_object):
            for frames_apart in range(wanted, 0, -1):
                candidates = np.asarray(allowed & (distances >= frames_apart))
                if candidates.any():
                    return candidates
        return np.zeros(len(frames), np.bool_)

    def prompts(
        self, frame_indices: Sequence[int], masks: Mapping[int, Mapping[int, BoolMask]] | None = None
    ) -> list[Prompt]:
        """The prompts of a round on its frames.

        An object that is not on a frame gets no box, points or mask there. Where its current mask is not empty, it gets
        negative clicks or strokes.

        Args:
            frame_indices: from `first_frames` or `next_frames`.
            masks: by frame the current mask of every object, (H, W) bool each; None in round 1.
        """
        self._prompted += frame_indices
        prompts: list[Prompt] = []
        for frame_index in frame_indices:
            for object_id in self._truth.object_ids:
                mask = None if masks is None else masks[frame_index][object_id]
                prompts += self._on_frame(frame_index, object_id, mask)
        return prompts

    def _on_frame(self, frame_index: int, object_id: int, mask: BoolMask | None) -> list[Prompt]:
        truth = self._truth.mask(frame_index, object_id)
        if self._settings.start is Start.CLICKS:
            return self._clicks(frame_index, object_id, truth, mask)
        if self._settings.start is Start.SCRIBBLES:
            return self._scribbles(frame_index, object_id, truth, mask)
        if self._settings.start.gives_first_frame and mask is None:
            return [MaskPrompt(object_id, frame_index, RunLengthMask.encode(truth))] if truth.any() else []
        if self._settings.start is Start.MASKS:
            return [MaskPrompt(object_id, frame_index, RunLengthMask.encode(truth))]
        return self._box_and_points(frame_index, object_id, truth)

    def _box_and_points(self, frame_index: int, object_id: int, truth: BoolMask) -> list[Prompt]:
        if not truth.any():
            return []
        box = noisy_box(truth, self._settings.box_noise_px, self._rng)
        inside = grid_points(truth, self._settings.n_positive)
        outside = random_points(~truth, self._settings.n_negative, self._rng)
        return [
            BoxPrompt(object_id, frame_index, box),
            *(PointPrompt(object_id, frame_index, x, y) for x, y in inside),
            *(PointPrompt(object_id, frame_index, x, y, positive=False) for x, y in outside),
        ]

    def _clicks(self, frame_index: int, object_id: int, truth: BoolMask, mask: BoolMask | None) -> list[Prompt]:
        strategy = self._settings.click_strategy
        if mask is None:
            clicks = first_click(truth, strategy)
        else:
            clicks = correcting_clicks(mask, truth, strategy, self._settings.max_clicks)
        return [PointPrompt(object_id, frame_index, c.x_px, c.y_px, c.positive) for c in clicks]

    def _scribbles(self, frame_index: int, object_id: int, truth: BoolMask, mask: BoolMask | None) -> list[Prompt]:
        strokes = first_strokes(truth) if mask is None else correcting_strokes(mask, truth)
        width_px = self._settings.scribble_width_px
        return [ScribblePrompt(object_id, frame_index, s.path_xy_px, width_px, s.positive) for s in strokes]


def best_frame(areas_px: NDArray[np.int64]) -> int:
    """The frame that shows the most objects; of several the one with the largest total area, then the first one.

    Args:
        areas_px: pixels of every object on every frame, (T, O).
    """
    n_present = (areas_px > 0).sum(axis=1)
    return int(np.argmax(np.where(n_present == n_present.max(), areas_px.sum(axis=1), -1)))


def start_frames(areas_px: NDArray[np.int64], settings: AnnotatorSettings) -> tuple[int, ...]:
    """The first frame of every start: ``first_frame`` of the settings or the best one, then others over the clip.

    A clip that shows objects on too few frames gives fewer.

    Args:
        areas_px: pixels of every object on every frame, (T, O).
        settings: of the annotator.
    """
    first = best_frame(areas_px) if settings.first_frame is None else settings.first_frame
    return spread_frames(first, np.asarray(areas_px.any(axis=1)), settings.n_starts)


def spread_frames(first: int, usable: NDArray[np.bool_], n_frames: int) -> tuple[int, ...]:
    """``first`` and up to ``n_frames`` - 1 more usable frames, spread over the clip.

    Each next frame minimises the sum of all frames' distances to their nearest chosen frame; of equal ones the earlier
    frame is taken.

    Args:
        first: a frame of the clip.
        usable: which frames may be chosen, (T,) bool.
        n_frames: at least 1.
    """
    frames = np.arange(len(usable))
    apart = np.abs(frames[:, None] - frames)
    chosen = [first]
    for _ in range(n_frames - 1):
        candidates = np.flatnonzero(usable & ~np.isin(frames, chosen))
        if not len(candidates):
            break
        nearest = apart[chosen].min(axis=0)
        chosen.append(int(candidates[np.minimum(apart[candidates], nearest).sum(axis=1).argmin()]))
    return tuple(chosen)
