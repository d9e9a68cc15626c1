"""Robustness, workload and what the uncertainty tells: against plain loops, by hand, and against the thesis' tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.evaluation.zivos.metrics import (
    Workload,
    average_correction_intervals,
    interaction_density_s,
    number_of_corrections,
    robustness,
    uncertainty_correlation,
)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    first = draw(st.integers(0, 20))
    end = first + draw(st.integers(1, 60))
    calls = draw(st.sets(st.integers(first + 1, end - 1))) if end - first > 1 else set()
    return Workload(first, end, tuple(sorted(calls)))


def series(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)


def test_robustness_is_a_mean_over_objects_of_shares_of_frames() -> None:
    ious = [series(0.1, 0.25, 0.5, 1.0), series(0.0, 0.6), series()]
    assert robustness(ious, 0.1) == pytest.approx((1.0 + 0.5) / 2)
    assert robustness(ious, 0.25) == pytest.approx((0.75 + 0.5) / 2)
    assert robustness(ious, 0.5) == pytest.approx((0.5 + 0.5) / 2)
    assert robustness([series()], 0.5) is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=9), min_size=1, max_size=4), st.floats(0, 1))
def test_robustness_against_loops(ious: list[list[float]], at_least: float) -> None:
    total = 0.0
    for of_object in ious:
        n_right = 0
        for iou in of_object:
            if iou >= at_least:
                n_right += 1
        total += n_right / len(of_object)
    assert robustness([series(*iou) for iou in ious], at_least) == pytest.approx(total / len(ious))


def test_workload_by_hand() -> None:
    """Ten frames with calls at 2 and 6: intervals of 2, 4 and 4; and six frames, from frame 4, without a call."""
    called, quiet = Workload(0, 10, (2, 6)), Workload(4, 10, ())
    assert number_of_corrections([called, quiet]) == 2
    assert interaction_density_s([called, quiet], 2.0) == pytest.approx((2 + 4 + 4 + 6) / 4 / 2)
    # Intervals of at most 1, 2, ..., 10 frames: 0, 1, 1, 3, 3, 3, 3, 3, 3, 3; and 0, 0, 0, 0, 0, 1.
    assert average_correction_intervals([called, quiet]) == pytest.approx([23 / 10, 1 / 6])
    assert interaction_density_s([]) is None
    assert number_of_corrections([]) == 0


@given(workloads())
def test_intervals_against_the_formula(workload: Workload) -> None:
    """Eq. 6.7 as it stands, n_j counted again for every i and j."""
    times = [workload.first_frame, *workload.calls, workload.end_frame]
    total = 0
    for i in range(1, workload.n_frames + 1):
        for j in range(1, i + 1):
            total += sum(j == times[p] - times[p - 1] for p in range(1, len(times)))
    (term,) = average_correction_intervals([workload])
    assert term == pytest.approx(total / workload.n_frames)
    n_calls = len(workload.calls)
    assert term == pytest.approx(n_calls + (n_calls + 1) / workload.n_frames), "it depends on their number alone"


@given(st.lists(workloads(), min_size=1, max_size=4))
def test_density_is_the_time_by_the_number_of_intervals(several: list[Workload]) -> None:
    n_frames, n_calls = sum(each.n_frames for each in several), number_of_corrections(several)
    assert interaction_density_s(several, 24.0) == pytest.approx(n_frames / (n_calls + len(several)) / 24)


@pytest.mark.parametrize(
    ("noc", "idi_s", "aci"),
    [(325, 18.4, 5.02), (335, 17.9, 5.17), (315, 18.9, 4.86), (507, 12.6, 7.80), (787, 8.5, 12.1), (3647, 1.9, 56.1)],
)
def test_the_readings_fit_the_tables_of_the_thesis(noc: int, idi_s: float, aci: float) -> None:
    """65 objects and 7,200 s of LVOS, six frames a second: NoC alone gives the other two columns."""
    n_objects, rate = 65, 6.0
    end = round(7200 * rate / n_objects)
    shares = [noc // n_objects + (i < noc % n_objects) for i in range(n_objects)]
    several = [Workload(0, end, tuple(range(1, n + 1))) for n in shares]
    assert number_of_corrections(several) == noc
    assert interaction_density_s(several, rate) == pytest.approx(idi_s, rel=0.03)
    assert average_correction_intervals(several).mean() == pytest.approx(aci, rel=0.01)


@pytest.mark.parametrize("calls", [(0,), (10,), (4, 4), (5, 3), (-1,)])
def test_impossible_calls_are_refused(calls: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="calls must ascend between frames 0 and 10"):
        Workload(0, 10, calls)


@pytest.mark.parametrize(
    ("uncertainty", "iou", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.9), (0.9, 0.8, 0.5, 0.1), 1.0),
        ((0.1, 0.2, 0.3, 0.9), (0.1, 0.5, 0.8, 0.9), -1.0),
        # Ranks 1 2 3 4 5 and 5 3 4 2 1: 1 - 6 * (16 + 1 + 1 + 4 + 16) / 120.
        ((0.1, 0.2, 0.3, 0.4, 0.5), (0.9, 0.6, 0.7, 0.4, 0.2), 0.9),
        # Ties: ranks 1.5 1.5 3 4 and 4 3 1.5 1.5; covariance 4, both variances 4.5 (sums).
        ((0.2, 0.2, 0.3, 0.4), (0.9, 0.8, 0.3, 0.3), 4 / 4.5),
        ((0.2, np.nan, 0.3, 0.4, 0.1), (0.5, 0.0, 0.4, 0.3, np.nan), 1.0),
        ((0.2, 0.2, 0.2), (0.1, 0.2, 0.3), None),
        ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0), None),
        ((0.1, 0.2), (0.2, 0.1), None),
        ((), (), None),
    ],
)
def test_uncertainty_correlation(
    uncertainty: tuple[float, ...], iou: tuple[float, ...], expected: float | None
) -> None:
    found = uncertainty_correlation(series(*uncertainty), series(*iou))
    assert found is None if expected is None else found == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=20))
def test_only_the_order_matters_and_the_sign_is_turned(pairs: list[tuple[int, int]]) -> None:
    uncertainty, quality = (np.array(column, np.float64) / 6 for column in zip(*pairs, strict=True))
    found = uncertainty_correlation(uncertainty, quality)
    stretched = uncertainty_correlation(np.exp(3 * uncertainty), quality**3)
    turned = uncertainty_correlation(-uncertainty, quality)
    if found is None:
        assert stretched is None
        assert turned is None
    else:
        assert -1 <= found <= 1
        assert stretched == pytest.approx(found)
        assert turned == pytest.approx(-found)
