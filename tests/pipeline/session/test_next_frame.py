"""Which frame to correct next: long uncertain stretches first, far from prompted frames, never two side by side."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.methods.base import Method
from pipeline.session.next_frame import FRAMES_APART, GOOD_SCORE, REACH_FRAMES, ObjectScores, gains, ranked
from pipeline.session.session import Session
from pipeline.types import MaskPrompt, RunLengthMask
from tests.pipeline.frame_sources import ArrayFrames, moving_square


def object_scores(scores: list[float], *prompted: int) -> ObjectScores:
    return ObjectScores(np.array(scores), np.isin(np.arange(len(scores)), prompted))


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(0.0, 1.0)), min_size=1, max_size=30),
    st.sets(st.integers(0, 29), max_size=5),
)
def test_gains_are_what_a_correction_adds_up_to_the_next_prompted_frames(
    scores: list[float], prompted: set[int]
) -> None:
    known = object_scores(scores, *prompted)
    found = gains(known)
    for frame in range(len(scores)):
        expected = 0.0
        if frame not in prompted and not np.isnan(scores[frame]):
            for other, score in enumerate(scores):
                between = range(min(frame, other), max(frame, other) + 1)
                if not np.isnan(score) and not prompted & set(between):
                    expected += max(0.0, GOOD_SCORE * np.exp(-abs(frame - other) / REACH_FRAMES) - score)
        assert found[frame] == pytest.approx(expected, abs=1e-9)


def test_a_long_uncertain_stretch_comes_before_one_bad_frame() -> None:
    scores = [0.95] * 60
    scores[10] = 0.0
    scores[35:50] = [0.7] * 15
    frame_index, object_id, _ = ranked({7: object_scores(scores, 0)}, 1)[0]
    assert 38 <= frame_index <= 46
    assert object_id == 7


def test_where_all_frames_look_alike_the_middle_of_the_widest_gap_comes_first() -> None:
    frames = [frame for frame, _, _ in ranked({1: object_scores([0.9] * 61, 0, 20, 60)}, 3)]
    assert frames[0] == 40
    assert frames[1] in (10, 30, 50)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60),
    st.lists(st.floats(0.0, 1.0), min_size=60, max_size=60),
    st.sets(st.integers(0, 59), max_size=4),
)
def test_suggestions_are_fresh_and_apart(first: list[float], second: list[float], prompted: set[int]) -> None:
    by_object = {
        1: object_scores(first + [float("nan")] * (60 - len(first)), *prompted),
        2: object_scores(second, *prompted),
    }
    found = ranked(by_object, 6)
    frames = sorted(frame for frame, _, _ in found)
    assert not prompted & set(frames)
    assert all(b - a >= FRAMES_APART for a, b in itertools.pairwise(frames))
    assert all(gain > 0 for _, _, gain in found)


def test_of_several_objects_the_frame_that_serves_them_together_wins_and_names_the_one_that_gains_most() -> None:
    one, two = [0.9] * 40, [0.9] * 40
    one[5:10], two[28:34], one[28:34] = [0.5] * 5, [0.5] * 6, [0.7] * 6
    frame_index, object_id, _ = ranked({1: object_scores(one, 0), 2: object_scores(two, 0)}, 1)[0]
    assert 28 <= frame_index < 34
    assert object_id == 2


def test_nothing_is_suggested_where_everything_is_prompted_or_nothing_is_known() -> None:
    assert ranked({}, 3) == []
    assert ranked({1: object_scores([0.5, 0.5], 0, 1), 2: object_scores([float("nan")] * 2)}, 3) == []


def test_suggestions_name_a_frame_far_from_prompts_and_a_place_on_the_object(method: Method) -> None:
    images, masks = moving_square(15)
    session = Session(ArrayFrames(images), method)
    assert session.suggestions() == ()
    list(session.run_round([MaskPrompt(1, 0, RunLengthMask.encode(masks[0]))], object_ids=[1]))
    first, *others = session.suggestions(3)
    assert first.object_id == 1
    assert first.frame_index >= 5
    assert {each.frame_index for each in (first, *others)} <= set(range(1, len(images)))
    assert first.gain >= max([each.gain for each in others], default=0.0)
    near = np.zeros(masks[0].shape, np.bool_)
    ys, xs = np.nonzero(masks[first.frame_index])
    near[ys.min() - 8 : ys.max() + 9, xs.min() - 8 : xs.max() + 9] = True
    assert near[int(first.y_px), int(first.x_px)]
    assert first.score == session.results(1)[first.frame_index].score
    list(session.run_round([], object_ids=[1]))
    assert session.suggestions() == ()
