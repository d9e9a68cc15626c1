"""Areas computed by hand."""

from __future__ import annotations

import pytest

from pipeline.evaluation.curves import ClipRounds, Curve, over_rounds, over_time


def test_one_clip_over_time() -> None:
    clip = ClipRounds(values=(0.6, 0.8), seconds=(10.0, 20.0), n_objects=1)
    curve = over_time([clip])
    # The budget is 30 s x 1 object x 2 rounds. 0..10 s: 0 to 0.6; 10..30 s: 0.6 to 0.8; 30..60 s: 0.8.
    assert curve == Curve((0.0, 10.0, 30.0, 60.0), (0.0, 0.6, 0.8, 0.8))
    assert curve.area() == pytest.approx((3.0 + 14.0 + 24.0) / 60.0)
    assert curve.at(5.0) == pytest.approx(0.3)
    assert curve.at(20.0) == pytest.approx(0.7)
    assert curve.at(60.0) == pytest.approx(0.8)
    assert curve.at(1000.0) == pytest.approx(0.8)


def test_figures_are_means_over_objects_and_times_are_means_over_clips() -> None:
    one = ClipRounds(values=(0.9, 0.9), seconds=(10.0, 10.0), n_objects=1)
    three = ClipRounds(values=(0.1, 0.5), seconds=(30.0, 50.0), n_objects=3)
    curve = over_time([one, three])
    assert curve.xs == pytest.approx((0.0, 20.0, 50.0, 120.0))
    assert curve.values == pytest.approx((0.0, 0.3, 0.6, 0.6))


@pytest.mark.parametrize(
    ("seconds", "values", "times_s"),
    [
        ((20.0, 50.0, 30.0), (0.5, 0.6, 0.6), (0.0, 20.0, 70.0, 70.0, 90.0)),
        ((91.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 90.0)),
        ((30.0, 30.0, 30.0), (0.5, 0.6, 0.7), (0.0, 30.0, 60.0, 90.0, 90.0)),
    ],
    ids=["third round too late", "first round too late", "just in time"],
)
def test_a_round_after_the_budget_changes_nothing_and_costs_nothing(
    seconds: tuple[float, ...], values: tuple[float, ...], times_s: tuple[float, ...]
) -> None:
    curve = over_time([ClipRounds((0.5, 0.6, 0.7), seconds, n_objects=1)])
    assert curve.xs == times_s
    assert curve.values == (0.0, *values, values[-1])


def test_over_rounds_time_plays_no_part() -> None:
    clips = [ClipRounds((0.4, 0.8), (1.0, 1.0), 1), ClipRounds((0.4, 0.8), (1e6, 1e6), 1)]
    # 0..1: 0 to 0.4; 1..2: 0.4 to 0.8; 2..3: 0.8.
    assert over_rounds(clips).area() == pytest.approx((0.2 + 0.6 + 0.8) / 3)


def test_a_perfect_first_round_scores_just_below_one() -> None:
    clip = ClipRounds((1.0,) * 8, (0.0,) * 8, 1)
    assert over_rounds([clip]).area() == pytest.approx(8.5 / 9)
    assert over_time([clip]).area() == pytest.approx(1.0)
