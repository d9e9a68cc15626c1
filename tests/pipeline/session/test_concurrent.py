"""Propagation of all objects together, with a method that only records its calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from pipeline.methods.base import Anchor, Estimate, Interaction, ObjectRound
from pipeline.session.session import Session
from pipeline.types import MaskPrompt, PointPrompt, Prompt, RunLengthMask
from pipeline.video.frames import FrameError, FrameSource
from tests.pipeline.frame_sources import ArrayFrames, moving_square

N_FRAMES = 9
IMAGES, MASKS = moving_square(N_FRAMES)
LOGITS = [np.where(mask, 4.0, -4.0).astype(np.float32) for mask in MASKS]


@dataclass
class RecordingVideo:
    """Returns the true mask of every frame for every object, and records its calls."""

    frames: FrameSource
    held_bytes: int = 0
    steps: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    known: list[dict[int, list[int]]] = field(default_factory=list)
    expected: list[tuple[int, ...]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    def interact(
        self, interactions: Sequence[Interaction], known: Sequence[ObjectRound]
    ) -> Iterator[tuple[Interaction, Estimate]]:
        self.known.append({each.object_id: [anchor.frame_index for anchor in each.anchors] for each in known})
        for score in (0.5, 0.9):
            for interaction in interactions:
                try:
                    self.frames.frame(interaction.frame_index)
                except FrameError:
                    continue
                yield interaction, Estimate(interaction.frame_index, LOGITS[interaction.frame_index], score)

    def begin_round(self, tasks: Sequence[ObjectRound]) -> list[ObjectRound]:
        return list(tasks)

    def prefetch(self, frame_indices: Sequence[int]) -> None:
        self.expected.append(tuple(frame_indices))

    def start_pass(self, object_id: int, anchor: Anchor, memory: list[ObjectRound]) -> tuple[int, int]:  # noqa: ARG002
        return object_id, anchor.frame_index

    def step(self, frame_index: int, passes: Sequence[tuple[int, int]], memory: list[ObjectRound]) -> list[Estimate]:  # noqa: ARG002
        self.frames.frame(frame_index)
        self.steps.append((frame_index, tuple(object_id for object_id, _ in passes)))
        return [Estimate(frame_index, LOGITS[frame_index], 0.8) for _ in passes]

    def forget(self, object_id: int) -> None:
        self.forgotten.append(object_id)


class RecordingMethod:
    def open(self, frames: FrameSource) -> RecordingVideo:
        self.video = RecordingVideo(frames)
        return self.video


@pytest.fixture
def method() -> RecordingMethod:
    return RecordingMethod()


def opened(method: RecordingMethod, broken: frozenset[int] = frozenset()) -> Session:
    return Session(ArrayFrames(IMAGES, broken), method)


def click(frame_index: int, object_id: int = 1) -> Prompt:
    return PointPrompt(object_id, frame_index, 40, 60)


def play(session: Session, *prompts: Prompt, n_results: int | None = None) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    rounds = session.run_round(
        prompts, object_ids={p.object_id for p in prompts}, cancelled=lambda: len(seen) == n_results
    )
    for result in rounds:
        seen.append((result.object_id, result.frame_index))
    return seen


def test_all_objects_of_a_frame_are_segmented_in_one_step(method: RecordingMethod) -> None:
    session = opened(method)
    seen = play(session, *(click(4, object_id) for object_id in (1, 2, 3)))
    assert method.video.steps == [(frame, (1, 2, 3)) for frame in (3, 5, 2, 6, 1, 7, 0, 8)]
    # The quick answers, then those that know of each other.
    assert seen[:3] == seen[3:6] == [(1, 4), (2, 4), (3, 4)]
    assert {(object_id, frame) for object_id, frame in seen} == {(o, f) for o in (1, 2, 3) for f in range(N_FRAMES)}
    assert method.video.expected == [(3, 5, 2, 6, 1, 7, 0, 8), ()]
    before, prompted, after = (result.score for result in session.results(1)[3:6])
    assert prompted == pytest.approx(0.9)
    assert 0.7 < before == after < 0.8


def test_passes_end_in_the_middle_between_prompted_frames_and_everything_is_done_again(method: RecordingMethod) -> None:
    session = opened(method)
    play(session, click(0), click(8))
    assert sorted(frame for frame, _ in method.video.steps) == list(range(1, 8))
    assert method.video.known == [{}]
    method.video.steps.clear()
    play(session, click(0), click(8), click(5))
    assert method.video.known[-1] == {1: [0, 8]}
    # Around the newest prompted frame first: 5 reaches down to 3 and up to 6.
    assert method.video.steps == [(f, (1,)) for f in (4, 6, 1, 7, 3, 2)]


def test_an_object_without_new_prompts_is_left_alone(method: RecordingMethod) -> None:
    session = opened(method)
    play(session, click(0, 1))
    before = session.raw_results(1)
    method.video.steps.clear()
    play(session, click(3, 2))
    assert {objects for _, objects in method.video.steps} == {(2,)}
    # Who else is on a frame changes how uncertain it is whose pixels these are, and nothing else.
    assert [replace(each, uncertainty=None) for each in session.raw_results(1)] == [
        replace(each, uncertainty=None) for each in before
    ]


def test_a_stopped_round_is_finished_by_the_next_one(method: RecordingMethod) -> None:
    session = opened(method)
    assert play(session, click(4), n_results=1) == [(1, 4)]
    assert session.stale_frames(1) == tuple(range(N_FRAMES)), "the prompted frame has not seen the others yet"
    assert method.video.expected[-1] == ()
    play(session, click(4), n_results=6)
    done = {frame for frame, _ in method.video.steps}
    assert set(session.stale_frames(1)) == set(range(N_FRAMES)) - done - {4}
    method.video.steps.clear()
    play(session, click(4))
    assert {frame for frame, _ in method.video.steps} == set(range(N_FRAMES)) - done - {4}
    assert session.stale_frames(1) == ()


def test_unreadable_frames_are_left_out(method: RecordingMethod) -> None:
    session = opened(method, frozenset({2, 6}))
    play(session, click(0), click(6), MaskPrompt(1, 2, RunLengthMask.encode(MASKS[2])))
    assert set(session.frame_errors) == {2, 6}
    assert {result.frame_index for result in session.results(1)} == set(range(N_FRAMES)) - {2, 6}
    assert session.stale_frames(1) == ()


def test_what_was_learnt_from_rounds_that_are_taken_back_is_forgotten(method: RecordingMethod) -> None:
    session = opened(method)
    play(session, click(0))
    play(session, click(0), click(8))
    assert method.video.forgotten == []
    play(session, click(0))
    assert method.video.forgotten == [1]
