"""Which frames a round segments again, and how the confidence falls along a pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.methods.base import Estimate
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.per_object import agreement
from pipeline.session.propagation import (
    CARRIED_SHARE,
    AccumulatedUncertainty,
    all_unprompted_frames,
    frames_around_changes,
    restricted_ranges,
    truncated_ranges,
)
from tests.pipeline.frame_sources import moving_square

(MASK,) = moving_square(1)[1]


@pytest.mark.parametrize(
    ("interaction", "others", "n_frames", "backward", "forward"),
    [
        (0, [], 5, ([], None), ([1, 2, 3, 4], None)),
        (4, [], 5, ([3, 2, 1, 0], None), ([], None)),
        (2, [], 5, ([1, 0], None), ([3, 4], None)),
        (4, [0, 7], 10, ([3, 2, 1], 0), ([5, 6], 7)),
        (4, [0, 2, 7, 9], 10, ([3], 2), ([5, 6], 7)),
        (4, [3, 5], 10, ([], 3), ([], 5)),
    ],
)
def test_restricted_ends_before_the_nearest_other_prompted_frame(
    interaction: int,
    others: list[int],
    n_frames: int,
    backward: tuple[list[int], int | None],
    forward: tuple[list[int], int | None],
) -> None:
    back, ahead = restricted_ranges(interaction, others, n_frames)
    assert (list(back.frame_indices), back.opposite) == backward
    assert (list(ahead.frame_indices), ahead.opposite) == forward


@pytest.mark.parametrize("interaction", [-1, 5, 99])
def test_an_interaction_outside_the_clip_is_refused(interaction: int) -> None:
    with pytest.raises(ValueError, match="0 to 4"):
        restricted_ranges(interaction, [], 5)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_the_ranges_of_all_prompted_frames_cover_the_rest_and_never_touch_each_other(
    case: tuple[int, set[int]],
) -> None:
    n_frames, prompted = case
    covered: set[int] = set()
    for frame in prompted:
        for side in restricted_ranges(frame, prompted - {frame}, n_frames):
            assert prompted.isdisjoint(side.frame_indices)
            distances = [abs(index - frame) for index in side.frame_indices]
            assert distances == list(range(1, len(distances) + 1))
            covered.update(side.frame_indices)
    assert covered == set(range(n_frames)) - prompted


@pytest.mark.parametrize(
    ("interaction", "others", "backward", "forward"),
    [
        (0, [], [], list(range(1, 10))),
        (4, [0, 8], [3], [5, 6]),
        (0, [4], [], [1, 2]),
        (8, [4], [7], [9]),
        (5, [4], [], [6, 7, 8, 9]),
        (4, [5], [3, 2, 1, 0], []),
        (0, [3], [], [1]),
        (3, [0], [2], [4, 5, 6, 7, 8, 9]),
    ],
)
def test_truncated_ends_in_the_middle(
    interaction: int, others: list[int], backward: list[int], forward: list[int]
) -> None:
    back, ahead = truncated_ranges(interaction, others, 10)
    assert (list(back.frame_indices), list(ahead.frame_indices)) == (backward, forward)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_truncated_ranges_cover_the_rest_once_and_lead_from_the_nearest_frame(case: tuple[int, set[int]]) -> None:
    n_frames, prompted = case
    covered: list[int] = []
    for frame in prompted:
        for side in truncated_ranges(frame, prompted - {frame}, n_frames):
            covered += side.frame_indices
            for index in side.frame_indices:
                assert abs(index - frame) == min(abs(index - other) for other in prompted)
    assert sorted(covered) == sorted(set(range(n_frames)) - prompted)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), *[st.sets(st.integers(0, n - 1))] * 2)))
def test_affected_frames_are_never_prompted_ones(case: tuple[int, set[int], set[int]]) -> None:
    n_frames, changed, prompted = case
    prompted = prompted or {0}
    narrow = frames_around_changes(changed, prompted, n_frames)
    whole = all_unprompted_frames(changed, prompted, n_frames)
    assert whole == set(range(n_frames)) - prompted
    assert narrow <= whole
    assert changed - prompted <= narrow


def estimate(strength: float, score: float = 0.9) -> Estimate:
    return Estimate(0, np.where(MASK, strength, -strength).astype(np.float32), score)


def test_uncertainty_lowers_the_confidence_and_that_of_earlier_frames_lowers_it_further() -> None:
    accumulated = AccumulatedUncertainty()
    first, second = accumulated.next_mask(estimate(1.0)), accumulated.next_mask(estimate(1.0))
    uncertainty = first.uncertainty
    assert uncertainty is not None
    assert 0.2 < uncertainty < 1.0
    assert first.score == pytest.approx(0.9 * (1 - uncertainty) * math.exp(-CARRIED_SHARE * uncertainty))
    assert second.score == pytest.approx(0.9 * (1 - uncertainty) * math.exp(-CARRIED_SHARE * 2 * uncertainty))
    sure = FrameMask.from_logits(estimate(20.0).logits, 1.7)
    assert sure.uncertainty == pytest.approx(0.0, abs=1e-6)
    assert sure.score == pytest.approx(1.0)


def test_a_resumed_pass_continues_with_the_sum_it_had() -> None:
    state = ObjectState(1)
    accumulated = AccumulatedUncertainty()
    for frame_index in range(1, 5):
        state.masks[frame_index] = accumulated.next_mask(estimate(1.5))
    assert AccumulatedUncertainty.of_frames(state, range(1, 5)).total == pytest.approx(accumulated.total)
    assert AccumulatedUncertainty.of_frames(state, range(5, 9)).total == 0.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 0.9, 0.1], [0.8, 0.7, 0.0], 1.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([0.1, 0.2], [0.2, 0.3], 1.0),
        ([1.0, 1.0], [1.0, 0.0], 0.5),
    ],
)
def test_agreement_is_the_overlap_of_both_passes(first: list[float], second: list[float], expected: float) -> None:
    assert agreement(np.array([first], np.float32), np.array([second], np.float32)) == expected
