"""One clip of `ivos bench`: rounds of a simulated annotator on a `Session`, with their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.annotator import Annotator, AnnotatorSettings
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Truth
from pipeline.evaluation.metrics import boundary_accuracy, region_similarity
from pipeline.evaluation.timing import Stopwatch, TimedFrames, timed_method
from pipeline.export.clip import ExportedClip
from pipeline.methods.base import Method
from pipeline.session.session import Session
from pipeline.types import BoolMask, Prompt, RunLengthMask

N_SUGGESTIONS = 10
"""The simulated annotator considers so many suggested frames before it takes one at random."""


@dataclass(frozen=True)
class Correction:
    """Whether a later round's prompts made their own frames better, and whether that spread.

    ``prompted_jf_before`` and ``prompted_jf_after`` are mean J&F of the prompted frames. ``spread_jf`` is the mean
    change of J&F of the other frames that the round segmented, in [-1, 1]; None where there were none.
    """

    prompted_jf_before: float
    prompted_jf_after: float
    spread_jf: float | None

    @classmethod
    def of(
        cls,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        prompted: Sequence[int],
        segmented: Collection[int],
    ) -> Correction | None:
        """From J&F of every frame (T,) before and after the round; None where it prompted no frame."""
        if not len(prompted):
            return None
        others = sorted(set(segmented) - set(prompted))
        spread = float((after[others] - before[others]).mean()) if others else None
        return cls(float(before[list(prompted)].mean()), float(after[list(prompted)].mean()), spread)


@dataclass(frozen=True)
class RoundScore:
    """One round of one clip.

    ``frame_indices`` were prompted. ``j`` and ``f`` are means over the scored frames, by object id. ``seconds`` are
    those of the annotator and the method. ``n_segmented`` counts the frames for which the round gave a mask.
    ``correction`` is None in round 1.
    """

    round: int
    frame_indices: tuple[int, ...]
    n_prompts: int
    seconds: float
    n_segmented: int
    j: Mapping[int, float]
    f: Mapping[int, float]
    correction: Correction | None = None


@dataclass(frozen=True)
class ClipScore:
    """A finished clip.

    ``part_seconds`` are by `timing.PARTS`; ``jf_per_frame`` (T,) is of the last round, nan where a frame is not scored.
    ``raw_j`` and ``raw_f`` are J and F of the last round by object id, before overlaps were resolved; empty in clips of
    one object.
    """

    name: str
    n_frames: int
    size_hw_px: tuple[int, int]
    object_ids: tuple[int, ...]
    rounds: tuple[RoundScore, ...]
    part_seconds: Mapping[str, float]
    jf_per_frame: NDArray[np.float64]
    raw_j: Mapping[int, float]
    raw_f: Mapping[int, float]
    masks: Mapping[int, Mapping[int, RunLengthMask]] = field(repr=False, default_factory=dict)

    def exported(self, clip: ClipFiles) -> ExportedClip:
        """The final masks for the exporters."""
        names = tuple(path.name for path in clip.image_paths)
        return ExportedClip(self.name, names, (self.size_hw_px,) * self.n_frames, self.masks)


class MaskScores:
    """The current masks of all objects with their J and F; only frames that changed are scored again.

    A frame without a result has an empty mask. Where masks overlap, the object with the highest id gets the pixel, as
    in the palette PNGs that DAVIS scores; a session has resolved overlaps before.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._empty = RunLengthMask.encode(np.zeros(truth.labels.shape[1:], np.bool_))
        n_frames = len(truth.labels)
        self._given: dict[tuple[int, int], RunLengthMask] = {}
        self._masks: dict[tuple[int, int], RunLengthMask] = {}
        self.j = {object_id: np.zeros(n_frames) for object_id in truth.object_ids}
        self.f = {object_id: np.zeros(n_frames) for object_id in truth.object_ids}
        self.update({})

    def update(self, masks: Mapping[int, Mapping[int, RunLengthMask]]) -> None:
        """Take the current masks by object id and frame index."""
        for frame_index in range(len(self._truth.labels)):
            given = {i: masks.get(i, {}).get(frame_index, self._empty) for i in self._truth.object_ids}
            if any(mask != self._given.get((i, frame_index)) for i, mask in given.items()):
                self._given.update({(i, frame_index): mask for i, mask in given.items()})
                self._score(frame_index, given)

    def mask(self, object_id: int, frame_index: int) -> BoolMask:
        """The current mask, (H, W) bool."""
        return self._masks[object_id, frame_index].decode()

    def masks_on(self, frame_indices: Iterable[int]) -> dict[int, dict[int, BoolMask]]:
        """By frame the current masks of all objects, (H, W) bool each."""
        return {frame: {i: self.mask(i, frame) for i in self._truth.object_ids} for frame in frame_indices}

    def means(self, scored: slice) -> tuple[dict[int, float], dict[int, float]]:
        """J and F by object id, means over some frames."""
        j = {i: float(self.j[i][scored].mean()) for i in self._truth.object_ids}
        f = {i: float(self.f[i][scored].mean()) for i in self._truth.object_ids}
        return j, f

    def masks(self, object_id: int) -> dict[int, RunLengthMask]:
        """The current masks of an object that are not empty, by frame index."""
        return {frame: mask for (i, frame), mask in self._masks.items() if i == object_id and mask != self._empty}

    def jf_per_frame(self) -> NDArray[np.float64]:
        """J&F of every frame, the mean over objects, (T,)."""
        return np.asarray(np.mean([(self.j[i] + self.f[i]) / 2 for i in self._truth.object_ids], axis=0))

    def _score(self, frame_index: int, given: Mapping[int, RunLengthMask]) -> None:
        taken = np.zeros(self._truth.labels.shape[1:], np.bool_)
        for object_id in sorted(given, reverse=True):
            mask = given[object_id].decode() & ~taken
            taken |= mask
            self._masks[object_id, frame_index] = RunLengthMask.encode(mask)
            truth = self._truth.mask(frame_index, object_id)
            self.j[object_id][frame_index] = region_similarity(mask, truth)
            self.f[object_id][frame_index] = boundary_accuracy(mask, truth)


def check_first_frame(clip: ClipFiles, truth: Truth, settings: AnnotatorSettings) -> None:
    """Check that round 1 of every start can prompt its frame.

    Raises:
        DatasetError: the frame is outside the clip or shows no object, or there are too few frames for all starts.
    """
    n_usable = int(truth.areas_px().any(axis=1).sum())
    if n_usable < settings.n_starts:
        raise DatasetError(
            f"clip {clip.name} shows objects on {n_usable} frames, too few for {settings.n_starts} starts; give fewer "
            "--starts, or leave the clip out with --sequences"
        )
    frame_index = 0 if settings.start.gives_first_frame else settings.first_frame
    if frame_index is None:
        return
    if not 0 <= frame_index < len(truth.labels):
        raise DatasetError(
            f"clip {clip.name} has frames 0 to {len(truth.labels) - 1}, but round 1 was asked for on frame "
            f"{frame_index}; give another --first-frame"
        )
    if not truth.labels[frame_index].any():
        raise DatasetError(
            f"clip {clip.name} shows no object on frame {frame_index}, where round 1 was asked for; "
            "give another --first-frame, or leave the clip out with --sequences"
        )


def run_clip(
    clip: ClipFiles,
    truth: Truth,
    method: Method,
    settings: AnnotatorSettings,
    n_rounds: int,
    on_frame: Callable[[int, int], None] = lambda _round, _n_frames: None,
    start: int = 0,
) -> ClipScore:
    """Run all rounds of one start on one clip.

    Where the true mask of frame 0 is given, frame 0 is not scored, as in DAVIS' semi-supervised track; else all are.

    Args:
        clip: its files.
        truth: its masks, from `datasets.read_truth`.
        method: shared by all clips; it is timed from outside.
        settings: of the annotator.
        n_rounds: at least 1.
        on_frame: called with the round and its number of frames so far, for a progress bar.
        start: which of the ``n_starts`` of the settings, from 0.

    Raises:
        DatasetError: round 1 cannot be on the frame that the settings ask for.
        FrameError: no frame can be read.
    """
    check_first_frame(clip, truth, settings)
    stopwatch = Stopwatch()
    annotator = Annotator(truth, clip.name, settings, start)
    scores = MaskScores(truth)
    scored = slice(1 if settings.start.gives_first_frame else 0, None)
    session: Session | None = None
    given: list[Prompt] = []
    rounds: list[RoundScore] = []
    for number in range(1, n_rounds + 1):
        frame_indices = annotator.first_frames() if number == 1 else _next_frames(annotator, scores, session)
        current = None if number == 1 else scores.masks_on(frame_indices)
        started_s = time.perf_counter()
        new = annotator.prompts(frame_indices, current)
        given += new
        with stopwatch.part("other"):
            if session is None:
                session = Session(TimedFrames(clip.frames, stopwatch), timed_method(method, stopwatch))
            segmented: set[int] = set()
            for result in session.run_round(given, object_ids=truth.object_ids):
                segmented.add(result.frame_index)
                on_frame(number, len(segmented))
        seconds = time.perf_counter() - started_s
        before = scores.jf_per_frame()
        scores.update({i: {result.frame_index: result.mask for result in session.results(i)} for i in truth.object_ids})
        j, f = scores.means(scored)
        later = number > 1
        correction = Correction.of(before, scores.jf_per_frame(), frame_indices, segmented) if later else None
        rounds.append(RoundScore(number, frame_indices, len(new), seconds, len(segmented), j, f, correction))
    assert session is not None
    raw_j, raw_f = _raw_scores(session, truth, scored)
    jf_per_frame = scores.jf_per_frame()
    jf_per_frame[: scored.start] = np.nan
    return ClipScore(
        name=clip.name,
        n_frames=len(truth.labels),
        size_hw_px=clip.size_hw_px,
        object_ids=truth.object_ids,
        rounds=tuple(rounds),
        part_seconds=stopwatch.seconds,
        jf_per_frame=jf_per_frame,
        raw_j=raw_j,
        raw_f=raw_f,
        masks={i: scores.masks(i) for i in truth.object_ids},
    )


def _next_frames(annotator: Annotator, scores: MaskScores, session: Session | None) -> tuple[int, ...]:
    suggested = () if session is None else session.suggestions(N_SUGGESTIONS)
    return annotator.next_frames(scores.jf_per_frame(), [suggestion.frame_index for suggestion in suggested])


def _raw_scores(session: Session, truth: Truth, scored: slice) -> tuple[dict[int, float], dict[int, float]]:
    """Mean J and F by object id of the masks before overlaps were resolved; empty where there is one object."""
    j: dict[int, float] = {}
    f: dict[int, float] = {}
    for object_id in truth.object_ids if len(truth.object_ids) > 1 else ():
        raw = {result.frame_index: result.mask for result in session.raw_results(object_id)}
        pairs = [
            (raw[t].decode() if t in raw else np.zeros(truth.labels.shape[1:], np.bool_), truth.mask(t, object_id))
            for t in range(len(truth.labels))[scored]
        ]
        j[object_id] = float(np.mean([region_similarity(mask, true) for mask, true in pairs]))
        f[object_id] = float(np.mean([boundary_accuracy(mask, true) for mask, true in pairs]))
    return j, f
