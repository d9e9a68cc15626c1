"""One pass over a clip, frame by frame, with a simulated annotator who is called and clicks (thesis, 6.6.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import boundary_accuracy, region_similarity
from pipeline.evaluation.timing import Stopwatch, TimedFrames, timed_method
from pipeline.evaluation.zivos.annotator import (
    Corrections,
    InitialPrompt,
    Schedule,
    SinglePassAnnotator,
    TrueMasks,
    random_schedule,
)
from pipeline.evaluation.zivos.metrics import Workload
from pipeline.methods.base import Method
from pipeline.streaming.session import ClickMeans, OnlineFrame, OnlineSession
from pipeline.types import BoolMask, FrameResult, FrameRGB
from pipeline.video.frames import FrameError, FrameSource

NAN = float("nan")


class OnlineClip(TrueMasks, Protocol):
    """A clip with ground truth, of any length; `datasets.LongClip` is one."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def frames(self) -> FrameSource:
        """Its frames."""
        ...


@dataclass(frozen=True)
class ObjectScore:
    """The scores of one object; arrays are (T,), from the frame it was given on, ``first_frame``, to the last.

    Attributes:
        object_id: in the clip.
        first_frame: the frame on which it was given.
        scored: frames that count; not the first one where the true mask was given there.
        present: frames that show the object.
        found_iou: IoU of the mask that the method found, before a correction.
        iou: IoU of the final mask.
        f: boundary accuracy of the final mask.
        uncertainty: the method's, of the mask it found; nan where it has none.
        one_minus_confidence: 1 - the session's confidence in the mask found; nan where there is none.
        calls: frames on which the annotator was called.
        answered: those of them that show the object, and so got a click.
    """

    object_id: int
    first_frame: int
    scored: NDArray[np.bool_]
    present: NDArray[np.bool_]
    found_iou: NDArray[np.float64]
    iou: NDArray[np.float64]
    f: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    one_minus_confidence: NDArray[np.float64]
    calls: tuple[int, ...]
    answered: tuple[int, ...]

    @property
    def workload(self) -> Workload:
        """The annotator's part."""
        return Workload(self.first_frame, self.first_frame + len(self.iou), self.calls)


@dataclass(frozen=True)
class PassScore:
    """A finished pass. ``seconds`` are the method's wall time, ``part_seconds`` by `timing.PARTS`."""

    name: str
    n_frames: int
    objects: tuple[ObjectScore, ...]
    seconds: float
    part_seconds: Mapping[str, float]
    n_unreadable: int = 0


@dataclass
class _ObjectRecord:
    """The figures of one object so far, frame by frame; see `ObjectScore`."""

    first_frame: int
    present: list[bool] = field(default_factory=list)
    found_iou: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)
    one_minus_confidence: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    def add_frame(self, found: FrameResult | None, final: FrameResult | None, truth: BoolMask) -> None:
        """Score one more frame: the method's own mask, and the one after the annotator's click."""
        mask = _mask(final, truth.shape)
        iou = region_similarity(mask, truth)
        unchanged = found is final or (found is not None and final is not None and found.mask == final.mask)
        self.present.append(bool(truth.any()))
        self.iou.append(iou)
        self.found_iou.append(iou if unchanged else region_similarity(_mask(found, truth.shape), truth))
        self.f.append(boundary_accuracy(mask, truth))
        self.uncertainty.append(NAN if found is None or found.uncertainty is None else found.uncertainty)
        self.one_minus_confidence.append(NAN if found is None else 1.0 - found.score)

    def score(self, object_id: int, initial_prompt: InitialPrompt) -> ObjectScore:
        """The scores, once the pass is over."""
        scored = np.ones(len(self.iou), np.bool_)
        scored[0] = initial_prompt is not InitialPrompt.MASK
        return ObjectScore(
            object_id=object_id,
            first_frame=self.first_frame,
            scored=scored,
            present=np.array(self.present, np.bool_),
            found_iou=np.array(self.found_iou),
            iou=np.array(self.iou),
            f=np.array(self.f),
            uncertainty=np.array(self.uncertainty),
            one_minus_confidence=np.array(self.one_minus_confidence),
            calls=tuple(self.calls),
            answered=tuple(self.answered),
        )


def run_pass(
    clip: OnlineClip,
    method: Method,
    initial_prompt: InitialPrompt,
    corrections: Corrections = Corrections.REQUESTED,
    schedule: Schedule | None = None,
    on_frame: Callable[[int], None] = lambda _n_frames: None,
    *,
    click_means: ClickMeans = ClickMeans.WHERE,
) -> PassScore:
    """Run one pass, and score every frame at once: only figures are kept, so that a clip may have any length.

    A frame without a result has an empty mask. On the frame on which an object is given, nobody is called for it.

    Args:
        clip: with its truth.
        method: shared by all passes; it is timed from outside.
        initial_prompt: how objects are given.
        corrections: when the annotator corrects.
        schedule: for random corrections, from `same_number_at_random` or `corrections_at_random`.
        on_frame: called with the number of frames done, for a progress bar.
        click_means: what a click means, see `OnlineSession`.

    Raises:
        ValueError: the method cannot work online.
    """
    annotator = SinglePassAnnotator(clip, initial_prompt, corrections, schedule)
    current = _RunningPass(clip, method, annotator, click_means=click_means)
    n_frames = len(clip.frames)
    for frame_index in range(n_frames):
        current.step(frame_index)
        on_frame(frame_index + 1)
    objects = tuple(current.records[i].score(i, initial_prompt) for i in sorted(current.records))
    part_seconds = current.stopwatch.seconds
    return PassScore(clip.name, n_frames, objects, current.seconds, part_seconds, current.n_unreadable)


def same_number_at_random(score: PassScore, *, seed: int) -> Schedule:
    """As many corrections for each object as a pass had calls, on random frames that show it.

    Calls on frames without the object count too: the annotator's work is the same, and every click of the random pass
    has an object to land on.
    """
    before = {each.object_id: np.zeros(each.first_frame, np.bool_) for each in score.objects}
    present = {each.object_id: np.concatenate([before[each.object_id], each.present]) for each in score.objects}
    counts = {each.object_id: len(each.calls) for each in score.objects}
    return random_schedule(present, counts, seed=f"{seed}/{score.name}")


def corrections_at_random(clip: OnlineClip, n_corrections: int, *, seed: int) -> Schedule:
    """So many corrections for each object, on random frames that show it."""
    frame_indices = range(len(clip.frames))
    present = {i: np.array([clip.mask(t, i).any() for t in frame_indices], np.bool_) for i in clip.object_ids}
    return random_schedule(present, dict.fromkeys(clip.object_ids, n_corrections), seed=f"{seed}/{clip.name}")


class _RunningPass:
    """A pass that has not ended yet."""

    def __init__(
        self, clip: OnlineClip, method: Method, annotator: SinglePassAnnotator, *, click_means: ClickMeans
    ) -> None:
        self.stopwatch = Stopwatch()
        self.seconds, self.n_unreadable = 0.0, 0
        self.records: dict[int, _ObjectRecord] = {}
        self._clip, self._annotator = clip, annotator
        self._frames = TimedFrames(clip.frames, self.stopwatch)
        self._session = OnlineSession(timed_method(method, self.stopwatch), click_means=click_means)

    def step(self, frame_index: int) -> None:
        """Feed one frame, let the annotator correct it, score it. Only the method's work is timed."""
        with self._timed():
            image = _read(self._frames, frame_index)
        self.n_unreadable += image is None
        prompts = self._annotator.initial_prompts(frame_index) if image is not None else []
        with self._timed():
            found = final = self._session.feed(image, prompts)
        given = {prompt.object_id for prompt in prompts}
        called = self._called(frame_index, found, given) if image is not None else ()
        clicks = self._annotator.clicks(frame_index, called)
        if clicks:
            with self._timed():
                final = self._session.correct(clicks)
        self.records.update({object_id: _ObjectRecord(frame_index) for object_id in given})
        answered = {click.object_id for click in clicks}
        found_results, final_results = _by_object(found), _by_object(final)
        for object_id, record in self.records.items():
            record.calls += [frame_index] if object_id in called else []
            record.answered += [frame_index] if object_id in answered else []
            truth = self._clip.mask(frame_index, object_id)
            record.add_frame(found_results.get(object_id), final_results.get(object_id), truth)

    def _called(self, frame_index: int, found: OnlineFrame, given: set[int]) -> tuple[int, ...]:
        """The objects for which the annotator is called, of those that were given on an earlier frame."""
        requested = [request.object_id for request in found.requests]
        looked_at = self._annotator.objects_to_correct(frame_index, requested)
        return tuple(i for i in looked_at if i in self.records and i not in given)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started_s = time.perf_counter()
        with self.stopwatch.part("other"):
            yield
        self.seconds += time.perf_counter() - started_s


def _read(frames: FrameSource, frame_index: int) -> FrameRGB | None:
    try:
        return frames.frame(frame_index)
    except FrameError:
        return None


def _by_object(frame: OnlineFrame) -> dict[int, FrameResult]:
    return {result.object_id: result for result in frame.results}


def _mask(result: FrameResult | None, shape_hw: tuple[int, ...]) -> BoolMask:
    return np.zeros(shape_hw, np.bool_) if result is None else result.mask.decode()
