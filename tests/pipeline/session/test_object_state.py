"""The state of one object: copies, and the history of earlier rounds within its bounds."""

from __future__ import annotations

import numpy as np

from pipeline.session.object_state import MAX_STATES, FrameMask, History, ObjectState
from pipeline.types import PointPrompt, Prompt, RunLengthMask


def click(number: int, frame_index: int = 0) -> Prompt:
    return PointPrompt(1, frame_index, number, 0)


def state(*numbers: int, masks: dict[int, FrameMask] | None = None) -> ObjectState:
    prompts = {0: tuple(click(number) for number in numbers)} if numbers else {}
    return ObjectState(1, prompts, masks or {}, round_index=len(numbers))


def random_mask(seed: int) -> FrameMask:
    mask = RunLengthMask.encode(np.random.default_rng(seed).random((80, 80)) > 0.5)
    return FrameMask(mask, mask, 1.0, False)


def test_the_state_with_most_of_the_prompts_and_no_other_is_nearest() -> None:
    history = History()
    for numbers in [(1,), (1, 2), (1, 2, 3), (1, 4)]:
        history.remember(state(*numbers))
    assert history.nearest({0: (click(1), click(2), click(9))}) == state(1, 2)
    assert history.nearest({0: (click(1), click(4)), 5: (click(7, 5),)}) == state(1, 4)
    assert history.nearest({0: (click(2),)}) is None
    assert history.nearest({}) is None


def test_a_prompt_given_twice_counts_twice() -> None:
    history = History()
    history.remember(state(1, 1))
    assert history.nearest({0: (click(1),)}) is None
    assert history.nearest({0: (click(1), click(1))}) == state(1, 1)


def test_the_latest_version_of_the_same_prompts_stays_and_one_without_prompts_is_not_kept() -> None:
    history = History()
    later = state(1, masks={3: random_mask(1)})
    for each in (state(1), state(), later):
        history.remember(each)
    assert history.nearest({0: (click(1),)}) == later


def test_only_so_many_states_stay() -> None:
    history = History()
    for number in range(MAX_STATES + 3):
        history.remember(state(number))
    assert history.nearest({0: (click(2),)}) is None
    assert history.nearest({0: (click(3),)}) == state(3)


def test_bytes_are_bounded_and_masks_of_the_present_do_not_count() -> None:
    masks = [random_mask(seed) for seed in range(4)]
    one = masks[0].held_bytes
    history = History(limit_mib=2.5 * one / 2**20)
    history.remember(state(1, masks={0: masks[0]}))
    assert history.held_bytes == 0
    for number in (1, 2, 3):
        history.remember(state(number + 1, masks={0: masks[number]}))
        assert history.held_bytes <= 2.5 * one
    assert history.nearest({0: (click(1),)}) is None
    assert history.nearest({0: (click(2),)}) is not None


def test_a_copy_is_not_affected_by_later_changes() -> None:
    present = ObjectState(1, {0: (click(1),)}, {0: random_mask(0)}, {3}, {0: random_mask(1).raw}, 1, {0})
    copy, expected = present.copy(), present.copy()
    present.masks[1] = random_mask(2)
    present.stale.discard(3)
    present.update_prompts({5: (click(2, 5),)}, lambda *_: {7}, 9)
    assert copy == expected
    assert copy != present
    assert copy.masks[0] is expected.masks[0]


def test_going_back_keeps_masks_that_only_the_later_round_had_until_they_are_segmented_anew() -> None:
    earlier = state(1, masks={0: random_mask(0)})
    present = state(1, 2, masks={0: random_mask(1), 4: random_mask(2)})
    later = present.copy()
    assert present.return_to(earlier) == {0}
    assert present.prompts == earlier.prompts
    assert present.masks == {0: earlier.masks[0], 4: later.masks[4]}
    assert present.stale == {4}
    present.stale.add(8)
    assert earlier.stale == set()
