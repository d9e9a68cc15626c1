"""Confidence falls with the distance from a prompted frame, and rises again towards the next one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.methods.base import Estimate, Method
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.per_object import agreement
from pipeline.session.propagation import CARRIED_SHARE, AccumulatedUncertainty
from pipeline.session.session import Session
from pipeline.types import MaskPrompt, RunLengthMask
from tests.pipeline.frame_sources import ArrayFrames, moving_square

N_FRAMES = 15
IMAGES, MASKS = moving_square(N_FRAMES)


def truth(frame_index: int) -> MaskPrompt:
    return MaskPrompt(1, frame_index, RunLengthMask.encode(MASKS[frame_index]))


def estimate(strength: float, score: float = 0.9) -> Estimate:
    return Estimate(0, np.where(MASKS[0], strength, -strength).astype(np.float32), score)


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


def test_a_session_tells_confidence_uncertainty_and_agreement(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    list(session.run_round([truth(0)], object_ids=[1]))
    alone = session.results(1)
    assert all(each.uncertainty is not None and 0.0 <= each.uncertainty <= 1.0 for each in alone[1:])
    assert all(each.agreement is None for each in alone)
    assert alone[0].score == 1.0
    assert all(each.score <= 1.0 - (each.uncertainty or 0.0) for each in alone[1:])
    list(session.run_round([truth(0), truth(14)], object_ids=[1]))
    between = session.results(1)
    agreements = [each.agreement for each in between[1:14]]
    assert all(each is not None and each > 0.8 for each in agreements)
    assert {each.prompted for each in between[1:14]} == {False}


def test_suggestions_name_a_frame_far_from_prompts_and_a_place_on_the_object(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    assert session.suggestions() == ()
    list(session.run_round([truth(0)], object_ids=[1]))
    first, *others = session.suggestions(3)
    assert first.object_id == 1
    assert first.frame_index >= 5
    assert {each.frame_index for each in (first, *others)} <= set(range(1, N_FRAMES))
    assert first.gain >= max([each.gain for each in others], default=0.0)
    near = np.zeros(MASKS[0].shape, np.bool_)
    ys, xs = np.nonzero(MASKS[first.frame_index])
    near[ys.min() - 8 : ys.max() + 9, xs.min() - 8 : xs.max() + 9] = True
    assert near[int(first.y_px), int(first.x_px)]
    assert first.score == session.results(1)[first.frame_index].score
    list(session.run_round([], object_ids=[1]))
    assert session.suggestions() == ()
