"""Earlier rounds of one object, kept within bounds."""

from __future__ import annotations

import numpy as np

from pipeline.session.frame_mask import Known
from pipeline.session.history import MAX_MOMENTS, History, Moment
from pipeline.types import PointPrompt, Prompt, RunLengthMask


def click(number: int, frame_index: int = 0) -> Prompt:
    return PointPrompt(1, frame_index, number, 0)


def moment(*numbers: int, known: dict[int, Known] | None = None) -> Moment:
    prompts = {0: tuple(click(number) for number in numbers)} if numbers else {}
    return Moment(prompts, known or {}, frozenset(), {}, len(numbers))


def known(seed: int) -> Known:
    mask = RunLengthMask.encode(np.random.default_rng(seed).random((80, 80)) > 0.5)
    return Known(mask, mask, 1.0, False)


def test_the_moment_with_most_of_the_prompts_and_no_other_is_nearest() -> None:
    history = History()
    for numbers in [(1,), (1, 2), (1, 2, 3), (1, 4)]:
        history.remember(moment(*numbers), {})
    assert history.nearest({0: (click(1), click(2), click(9))}) == moment(1, 2)
    assert history.nearest({0: (click(1), click(4)), 5: (click(7, 5),)}) == moment(1, 4)
    assert history.nearest({0: (click(2),)}) is None
    assert history.nearest({}) is None


def test_a_prompt_given_twice_counts_twice() -> None:
    history = History()
    history.remember(moment(1, 1), {})
    assert history.nearest({0: (click(1),)}) is None
    assert history.nearest({0: (click(1), click(1))}) == moment(1, 1)


def test_the_latest_version_of_the_same_prompts_stays_and_one_without_prompts_is_not_kept() -> None:
    history = History()
    later = moment(1, known={3: known(1)})
    for each in (moment(1), moment(), later):
        history.remember(each, {})
    assert history.nearest({0: (click(1),)}) is later


def test_only_so_many_moments_stay() -> None:
    history = History()
    for number in range(MAX_MOMENTS + 3):
        history.remember(moment(number), {})
    assert history.nearest({0: (click(2),)}) is None
    assert history.nearest({0: (click(3),)}) == moment(3)


def test_bytes_are_bounded_and_masks_of_today_do_not_count() -> None:
    masks = [known(seed) for seed in range(4)]
    one = masks[0].held_bytes
    history = History(limit_mib=2.5 * one / 2**20)
    history.remember(moment(1, known={0: masks[0]}), {0: masks[0]})
    assert history.held_bytes == 0
    for number in (1, 2, 3):
        history.remember(moment(number + 1, known={0: masks[number]}), {0: masks[number]})
        assert history.held_bytes <= 2.5 * one
    assert history.nearest({0: (click(1),)}) is None
    assert history.nearest({0: (click(2),)}) is not None
