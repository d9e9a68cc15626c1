"""The ziVOS protocol: one pass over a clip, frame by frame, with a person who is called and clicks (thesis, 6.6.2)."""

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
from pipeline.evaluation.zivos.annotator import Agent, Corrections, GivenBy, Schedule, TrueMasks, random_schedule
from pipeline.evaluation.zivos.metrics import Workload
from pipeline.methods.base import Method
from pipeline.streaming.session import ClickMeans, OnlineFrame, OnlineSession
from pipeline.types import BoolMask, FrameResult, FrameRGB
from pipeline.video.frames import FrameError, FrameSource

NAN = float("nan")


class OnlineClip(TrueMasks, Protocol):
    """A clip with ground truth, of any length; `long_clip.LongClip` is one."""

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
    """One object on its way; arrays are (T,) from the frame it was given on, ``first_frame``, to the end.

    Attributes:
        object_id: in the clip.
        first_frame: where it was given.
        scored: frames that count; not the first where the true mask was given there.
        present: frames that show the object.
        found_iou: IoU of what the method found by itself, before a correction.
        iou: IoU of the final mask.
        f: boundary accuracy of the final mask.
        uncertainty: the method's, of what it found by itself; nan where it says none.
        doubt: 1 - the confidence that the session gives what was found; nan where it knows none.
        calls: frames at which the person was called.
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
    doubt: NDArray[np.float64]
    calls: tuple[int, ...]
    answered: tuple[int, ...]

    @property
    def workload(self) -> Workload:
        """The person's part."""
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
class _Notes:
    """What is written down of one object, frame by frame."""

    first_frame: int
    present: list[bool] = field(default_factory=list)
    found_iou: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)
    doubt: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    def take(self, found: FrameResult | None, final: FrameResult | None, truth: BoolMask) -> None:
        """Write down one more frame: what was found, and what it was after the person's click."""
        mask = _mask(final, truth.shape)
        iou = region_similarity(mask, truth)
        unchanged = found is final or (found is not None and final is not None and found.mask == final.mask)
        self.present.append(bool(truth.any()))
        self.iou.append(iou)
        self.found_iou.append(iou if unchanged else region_similarity(_mask(found, truth.shape), truth))
        self.f.append(boundary_accuracy(mask, truth))
        self.uncertainty.append(NAN if found is None or found.uncertainty is None else found.uncertainty)
        self.doubt.append(NAN if found is None else 1.0 - found.score)

    def finished(self, object_id: int, given_by: GivenBy) -> ObjectScore:
        scored = np.ones(len(self.iou), np.bool_)
        scored[0] = given_by is not GivenBy.MASK
        return ObjectScore(
            object_id=object_id,
            first_frame=self.first_frame,
            scored=scored,
            present=np.array(self.present, np.bool_),
            found_iou=np.array(self.found_iou),
            iou=np.array(self.iou),
            f=np.array(self.f),
            uncertainty=np.array(self.uncertainty),
            doubt=np.array(self.doubt),
            calls=tuple(self.calls),
            answered=tuple(self.answered),
        )


def run_pass(
    clip: OnlineClip,
    method: Method,
    given_by: GivenBy,
    corrections: Corrections = Corrections.REQUESTED,
    schedule: Schedule | None = None,
    on_frame: Callable[[int], None] = lambda _n_frames: None,
    *,
    click_means: ClickMeans = ClickMeans.WHERE,
) -> PassScore:
    """Run one pass and score it on the way, so that nothing but figures grows with its length.

    A frame without a result has an empty mask. On the frame an object is given on nobody is called for it.

    Args:
        clip: with its truth.
        method: shared by all passes; it is timed from outside.
        given_by: how objects are given.
        corrections: when the person clicks.
        schedule: for random corrections, from `same_calls_at_random`.
        on_frame: called with the number of frames done, for a progress bar.
        click_means: what a click says, see `OnlineSession`.

    Raises:
        ValueError: the method cannot work online.
    """
    agent = Agent(clip, given_by, corrections, schedule)
    one = _Pass(clip, method, agent, click_means=click_means)
    n_frames = len(clip.frames)
    for frame_index in range(n_frames):
        one.step(frame_index)
        on_frame(frame_index + 1)
    objects = tuple(one.notes[i].finished(i, given_by) for i in sorted(one.notes))
    return PassScore(clip.name, n_frames, objects, one.seconds, one.stopwatch.seconds, one.n_unreadable)


def same_calls_at_random(score: PassScore, *, seed: int) -> Schedule:
    """As many calls for each object as a pass had, at random frames that show it.

    Calls at frames without the object count too: the person's work is the same, and every click of the random pass can
    land.
    """
    before = {each.object_id: np.zeros(each.first_frame, np.bool_) for each in score.objects}
    present = {each.object_id: np.concatenate([before[each.object_id], each.present]) for each in score.objects}
    counts = {each.object_id: len(each.calls) for each in score.objects}
    return random_schedule(present, counts, seed=f"{seed}/{score.name}")


def calls_at_random(clip: OnlineClip, n_calls: int, *, seed: int) -> Schedule:
    """So many calls for each object, at random frames that show it."""
    frame_indices = range(len(clip.frames))
    present = {i: np.array([clip.mask(t, i).any() for t in frame_indices], np.bool_) for i in clip.object_ids}
    return random_schedule(present, dict.fromkeys(clip.object_ids, n_calls), seed=f"{seed}/{clip.name}")


class _Pass:
    """A pass under way."""

    def __init__(self, clip: OnlineClip, method: Method, agent: Agent, *, click_means: ClickMeans) -> None:
        self.stopwatch = Stopwatch()
        self.seconds, self.n_unreadable = 0.0, 0
        self.notes: dict[int, _Notes] = {}
        self._clip, self._agent = clip, agent
        self._frames = TimedFrames(clip.frames, self.stopwatch)
        timed = timed_method(method, self.stopwatch)
        self._session = OnlineSession(timed, click_means=click_means)

    def step(self, frame_index: int) -> None:
        """Take one frame, call the person, score it. Only the method's work is timed."""
        with self._timed():
            image = _read(self._frames, frame_index)
        self.n_unreadable += image is None
        prompts = self._agent.first_prompts(frame_index) if image is not None else []
        with self._timed():
            shown = final = self._session.feed(image, prompts)
        given = {prompt.object_id for prompt in prompts}
        asked_for = [request.object_id for request in shown.requests]
        called = () if image is None else self._agent.called(frame_index, asked_for)
        called = tuple(i for i in called if i in self.notes and i not in given)
        clicks = self._agent.answers(frame_index, called)
        if clicks:
            with self._timed():
                final = self._session.correct(clicks)
        self.notes.update({object_id: _Notes(frame_index) for object_id in given})
        answered = {click.object_id for click in clicks}
        found, shown_last = _by_object(shown), _by_object(final)
        for object_id, notes in self.notes.items():
            truth = self._clip.mask(frame_index, object_id)
            notes.calls += [frame_index] if object_id in called else []
            notes.answered += [frame_index] if object_id in answered else []
            notes.take(found.get(object_id), shown_last.get(object_id), truth)

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


def _by_object(shown: OnlineFrame) -> dict[int, FrameResult]:
    return {result.object_id: result for result in shown.results}


def _mask(result: FrameResult | None, shape_hw: tuple[int, ...]) -> BoolMask:
    return np.zeros(shape_hw, np.bool_) if result is None else result.mask.decode()
