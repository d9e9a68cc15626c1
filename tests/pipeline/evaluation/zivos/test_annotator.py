"""The simulated annotator of a single pass: gives objects, clicks on their centre, keeps a schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.datasets import Truth
from pipeline.evaluation.zivos.annotator import (
    Corrections,
    InitialPrompt,
    SinglePassAnnotator,
    centre_click,
    random_schedule,
)
from pipeline.types import BoolMask, MaskPrompt, PointPrompt, RunLengthMask


def truth() -> Truth:
    """Object 1 on frames 0, 1 and 3; object 2 from frame 2 on."""
    labels = np.zeros((4, 20, 30), np.uint8)
    labels[[0, 1, 3], 2:7, 3:12] = 1
    labels[2:, 10:15, 20:25] = 2
    return Truth(labels, (1, 2))


def ring() -> BoolMask:
    mask = np.ones((21, 21), np.bool_)
    mask[6:15, 6:15] = False
    mask[:, :3] = False
    return mask


@pytest.mark.parametrize(
    ("mask", "xy_px"),
    [
        (truth().mask(0, 1), (7.5, 4.5)),
        (truth().mask(3, 2), (22.5, 12.5)),
        (np.eye(5, dtype=np.bool_), (2.5, 2.5)),
    ],
    ids=["an odd box", "a square", "a diagonal"],
)
def test_the_click_is_in_the_middle(mask: BoolMask, xy_px: tuple[float, float]) -> None:
    assert centre_click(mask, 3, 7) == PointPrompt(3, 7, *xy_px)


def test_a_centre_in_a_hole_moves_into_the_object() -> None:
    click = centre_click(ring(), 1, 0)
    assert not ring()[10, 11], "the centre lies in the hole"
    assert ring()[int(click.y_px), int(click.x_px)]
    assert click.x_px > 15, "the right side is the widest one"


@given(arrays(np.bool_, (9, 13)).filter(lambda mask: bool(mask.any())))
def test_the_click_is_always_positive_and_on_the_object(mask: BoolMask) -> None:
    click = centre_click(mask, 1, 0)
    assert click.positive
    assert mask[int(click.y_px), int(click.x_px)]


@pytest.mark.parametrize("initial_prompt", InitialPrompt)
def test_each_object_is_given_once_where_it_is_first_seen(initial_prompt: InitialPrompt) -> None:
    annotator = SinglePassAnnotator(truth(), initial_prompt)
    prompts = [annotator.initial_prompts(frame_index) for frame_index in range(4)]
    assert [[prompt.object_id for prompt in each] for each in prompts] == [[1], [], [2], []]
    if initial_prompt is InitialPrompt.MASK:
        assert prompts[2] == [MaskPrompt(2, 2, RunLengthMask.encode(truth().mask(2, 2)))]
    else:
        assert prompts[2] == [centre_click(truth().mask(2, 2), 2, 2)]


def test_an_object_is_given_later_where_its_first_frame_was_skipped() -> None:
    annotator = SinglePassAnnotator(truth(), InitialPrompt.CLICKS)
    assert [prompt.object_id for prompt in annotator.initial_prompts(3)] == [1, 2]


def test_a_request_gets_one_click_and_none_where_the_object_is_absent() -> None:
    annotator = SinglePassAnnotator(truth(), InitialPrompt.MASK)
    assert annotator.objects_to_correct(2, [2, 1, 2]) == (1, 2), "each object once"
    assert annotator.clicks(2, (1, 2)) == [centre_click(truth().mask(2, 2), 2, 2)]


def test_without_corrections_nothing_is_corrected() -> None:
    annotator = SinglePassAnnotator(truth(), InitialPrompt.MASK, Corrections.NONE)
    assert annotator.objects_to_correct(1, [1, 2]) == ()


def test_random_corrections_keep_to_the_schedule() -> None:
    annotator = SinglePassAnnotator(
        truth(), InitialPrompt.MASK, Corrections.RANDOM, {1: frozenset({1, 3}), 2: frozenset({3})}
    )
    assert [annotator.objects_to_correct(frame_index, [1, 2]) for frame_index in range(4)] == [(), (1,), (), (1, 2)]


@pytest.mark.parametrize(("corrections", "schedule"), [(Corrections.RANDOM, None), (Corrections.NONE, {})])
def test_a_schedule_goes_with_random_corrections(
    corrections: Corrections, schedule: dict[int, frozenset[int]] | None
) -> None:
    with pytest.raises(ValueError, match="random corrections, and no others, need a schedule"):
        SinglePassAnnotator(truth(), InitialPrompt.MASK, corrections, schedule)


@given(arrays(np.bool_, 30), st.integers(0, 40), st.integers(0, 3))
def test_random_frames_show_the_object_and_are_as_many_as_asked(present: BoolMask, n_wanted: int, seed: int) -> None:
    frames = random_schedule({4: present}, {4: n_wanted}, seed=f"{seed}")[4]
    usable = set(np.flatnonzero(present)[1:].tolist())
    assert frames <= usable
    assert len(frames) == min(n_wanted, len(usable))


def test_random_frames_depend_on_the_seed_and_not_on_other_objects() -> None:
    present = {1: np.ones(50, np.bool_), 2: np.ones(50, np.bool_)}
    both = random_schedule(present, {1: 6, 2: 6}, seed="0/dog")
    assert random_schedule(present, {2: 6}, seed="0/dog")[2] == both[2]
    assert both[1] != both[2]
    assert random_schedule(present, {1: 6}, seed="1/dog")[1] != both[1]
