"""Thresholds from passes whose failures are known: by hand, against plain loops, and where there are too few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.timing import PARTS
from pipeline.evaluation.zivos.calibration import (
    AlarmSamples,
    CalibrationSettings,
    ThresholdChoice,
    alarms_of_failed_frames,
    alarms_of_failures,
    alarms_of_falls,
    best_by_f1,
    by_rate,
    early_alarms,
    failures,
    falls,
    threshold_options,
    thresholds,
    uncertainty_rise,
)
from pipeline.evaluation.zivos.calibration_report import calibration_report
from pipeline.evaluation.zivos.single_pass import ObjectScore, PassScore
from pipeline.methods.choice import parse_options
from pipeline.methods.lazy import LazySettings

NAN = float("nan")
RUN = {"method": "lazy", "segmenter": "lite"}
SETTINGS = CalibrationSettings(fall_frames=2, horizon_frames=2, least_events=2)


def score(iou: list[float], uncertainty: list[float], absent: tuple[int, ...] = ()) -> ObjectScore:
    n_frames = len(iou)
    present = np.ones(n_frames, np.bool_)
    present[list(absent)] = False
    values = np.array(iou, np.float64)
    return ObjectScore(
        *(1, 0, np.arange(n_frames) > 0, present, values, values, values),
        *(np.array(uncertainty, np.float64), 1.0 - values, (), ()),
    )


def failing(rng: np.random.Generator, n_frames: int = 200) -> ObjectScore:
    """Every 40 frames the mask is lost for ten; two frames before S rises by 0.2 or more, else by less than 0.1."""
    iou, uncertainty = np.full(n_frames, 0.9), rng.uniform(0, 0.1, n_frames)
    for onset in range(40, n_frames, 40):
        iou[onset : onset + 10] = 0.2
        uncertainty[onset - 2 : onset] = 0.3
        uncertainty[onset : onset + 10] = 0.35
    return score(list(iou), [NAN, *uncertainty[1:]])


def test_uncertainty_rise_against_the_frame_before() -> None:
    assert uncertainty_rise(score([1, 1, 1, 1], [NAN, 0.2, 0.5, 0.1])) == pytest.approx(
        [NAN, NAN, 0.3, -0.4], nan_ok=True
    )


def test_failures_and_falls_by_hand() -> None:
    one = score([1.0, 0.9, 0.85, 0.7, 0.69, 0.68, 0.3, 0.0], [0.0] * 8, absent=(7,))
    assert np.flatnonzero(failures(one, SETTINGS)).tolist() == [6]
    # Within two frames, 2 lies 0.15 below 0, 3 lies 0.2 below 1, 4 lies 0.16 below 2, 6 far below 5; 5 only 0.02.
    assert np.flatnonzero(falls(one, SETTINGS)).tolist() == [2, 3, 4, 6]


def test_early_alarms_by_hand() -> None:
    levels = np.array([NAN, 0.1, 0.4, 0.0, 0.2, 0.0, 0.3])
    wrong = np.array([False, False, False, True, True, False, False])
    found = early_alarms(levels, wrong, 2)
    assert found.levels == pytest.approx([0.1, 0.4, 0.0, 0.2, 0.0, 0.3])
    assert found.right.tolist() == [True, True, True, True, False, False]
    assert found.peaks == pytest.approx([0.4])
    quality = found.quality_at(0.2)
    assert (quality.n_alarms, quality.n_right, quality.n_found, quality.n_events) == (3, 2, 1, 1)
    assert (quality.precision, quality.recall) == pytest.approx((2 / 3, 1.0))
    assert quality.per_100_frames == pytest.approx(50)
    assert quality.base_rate == pytest.approx(4 / 6)
    assert quality.f1 == quality.gain == pytest.approx(0), "two of three are right, as of blind alarms"
    surer = found.quality_at(0.35)
    assert (surer.precision, surer.gain, surer.recall, surer.f1) == (1, 1, 1, 1)


def test_a_stretch_from_the_first_frame_on_is_no_event() -> None:
    assert len(early_alarms(np.array([0.5, 0.5, 0.1]), np.array([True, True, False]), 2).peaks) == 0


def test_an_event_without_a_known_level_before_it_is_not_found() -> None:
    found = early_alarms(np.array([NAN, NAN, 0.5]), np.array([False, True, True]), 2)
    assert found.peaks.tolist() == [-np.inf]
    assert found.quality_at(0.1).recall == 0


@st.composite
def one_object(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:  # type: ignore[type-arg]
    n_frames = draw(st.integers(2, 25))
    levels = draw(st.lists(st.sampled_from([NAN, -0.2, 0.0, 0.1, 0.2, 0.5]), min_size=n_frames, max_size=n_frames))
    wrong = draw(st.lists(st.booleans(), min_size=n_frames, max_size=n_frames))
    return np.array(levels), np.array(wrong), draw(st.integers(0, 30))


@given(one_object(), st.sampled_from([0.05, 0.1, 0.3, 0.9]))
def test_early_alarms_against_loops(drawn: tuple[np.ndarray, np.ndarray, int], threshold: float) -> None:  # type: ignore[type-arg]
    levels, wrong, horizon = drawn
    n_frames = len(levels)
    alarms = [t for t in range(n_frames) if levels[t] >= threshold]
    n_right = sum(any(wrong[s] for s in range(t, min(t + horizon, n_frames - 1) + 1)) for t in alarms)
    onsets = [t for t in range(1, n_frames) if wrong[t] and not wrong[t - 1]]
    n_found = sum(any(t - horizon <= s <= t for s in alarms) for t in onsets)
    quality = early_alarms(levels, wrong, horizon).quality_at(threshold)
    assert (quality.n_alarms, quality.n_right) == (len(alarms), n_right)
    assert (quality.n_found, quality.n_events) == (n_found, len(onsets))


def test_the_thresholds_are_those_that_tell_failures_apart() -> None:
    rng = np.random.default_rng(0)
    found = thresholds([failing(rng), failing(rng)], SETTINGS)
    tau_u = found["tau_u"].quality
    assert tau_u is not None
    assert 0.1 < tau_u.threshold <= 0.3
    assert (tau_u.recall, tau_u.n_events) == (1.0, 8)
    assert tau_u.precision == 1.0
    tau_m = found["tau_m"].quality
    assert tau_m is not None
    assert 0.3 < tau_m.threshold <= 0.35
    assert tau_m.f1 == 1.0
    tau_p = found["tau_p"].value
    assert tau_p is None or tau_p < tau_u.threshold


def test_too_few_failures_choose_nothing() -> None:
    calm = score([0.9] * 30, [NAN, *np.random.default_rng(0).uniform(0, 0.2, 29)])
    for choice in thresholds([calm], CalibrationSettings()).values():
        assert choice.value is None
        assert choice.reason == "0 events in the clips, at least 5 are needed"
    lost = score([0.9] * 10 + [0.1] * 10, [NAN, *np.linspace(0, 1, 19)])
    assert "1 events in the clips" in thresholds([lost], CalibrationSettings())["tau_u"].reason


def test_alarms_no_better_than_random_ones_choose_nothing() -> None:
    """The lower the level, the likelier the failure: no alarm is better than a blind one."""
    upside_down = AlarmSamples(np.arange(1, 11) / 10, np.arange(10) < 5, np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    choice = best_by_f1(upside_down, SETTINGS)
    assert choice.value is None
    assert choice.reason == "no alarm is right more often than one at random would be (50%)"


def test_tau_p_stays_below_tau_u() -> None:
    evidence = AlarmSamples(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, True, True]), np.array([0.3, 0.4]))
    assert best_by_f1(evidence, SETTINGS).value == pytest.approx(0.25), "between 0.2 and 0.3"
    assert best_by_f1(evidence, SETTINGS, below=0.25).value == pytest.approx(0.15)
    assert best_by_f1(evidence, SETTINGS, below=0.1).reason == "no level lies below 0.1"


def choice_of(threshold: float | None) -> ThresholdChoice:
    evidence = AlarmSamples(np.array([1.0]), np.array([True]), np.array([1.0]))
    return ThresholdChoice(None, "too little") if threshold is None else ThresholdChoice(evidence.quality_at(threshold))


@pytest.mark.parametrize("tau_u", [None, 0.1234])
@pytest.mark.parametrize("tau_p", [None, 0.05])
@pytest.mark.parametrize("tau_m", [None, 0.3])
def test_threshold_options_are_settings_of_the_method(
    tau_u: float | None, tau_p: float | None, tau_m: float | None
) -> None:
    words = threshold_options({"tau_u": choice_of(tau_u), "tau_p": choice_of(tau_p), "tau_m": choice_of(tau_m)})
    given = {name: float(value) for name, value in parse_options(words).items()}
    settings = LazySettings(**given)  # type: ignore[arg-type]
    assert settings.tau_u == (tau_u or LazySettings().tau_u)
    assert settings.tau_p == (tau_p or tau_u or LazySettings().tau_p)
    assert settings.tau_m == (tau_m or LazySettings().tau_m)


@pytest.mark.parametrize(("per_100", "expected"), [(100.0, 0.1), (25.0, 0.4), (50.0, 0.3), (1.0, None)])
def test_a_wanted_rate_needs_no_failures(per_100: float, expected: float | None) -> None:
    calm = AlarmSamples(np.array([0.1, 0.2, 0.3, 0.4]), np.zeros(4, np.bool_), np.empty(0))
    found = by_rate(calm, per_100)
    assert found.value == (None if expected is None else pytest.approx(expected))
    assert (found.reason == "") is (expected is not None)


@given(st.lists(st.floats(-1, 1), max_size=60), st.floats(0.5, 60))
def test_the_rate_is_kept(levels: list[float], per_100: float) -> None:
    evidence = AlarmSamples(np.array(levels), np.zeros(len(levels), np.bool_), np.empty(0))
    choice = by_rate(evidence, per_100)
    if choice.quality is not None:
        assert choice.quality.per_100_frames <= per_100


def test_many_levels_give_few_candidates() -> None:
    levels = np.random.default_rng(0).uniform(0, 1, 5000)
    candidates = AlarmSamples(levels, np.zeros(5000, np.bool_), np.empty(0)).candidates()
    assert 100 < len(candidates) <= 300
    assert candidates == sorted(candidates)
    assert candidates[-1] == pytest.approx(levels.max(), abs=2e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iou_bound": 1.0}, "an IoU and its fall must be between 0 and 1, but got 1.0 and 0.1"),
        ({"fall": 0.0}, "an IoU and its fall must be between 0 and 1"),
        ({"horizon_frames": -1}, "expected 0 frames or more ahead"),
        ({"fall_frames": 0}, "at least 1 for a fall"),
        ({"least_events": 0}, "at least 1 event, but got 6, 3 and 0"),
        ({"calls_per_100_frames": 0.0}, "the wanted calls per 100 frames must be above 0, but got 0.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CalibrationSettings(), **settings)  # type: ignore[arg-type]


def passes(n_clips: int) -> list[PassScore]:
    rng = np.random.default_rng(1)
    seconds = dict.fromkeys(PARTS, 0.0)
    return [PassScore(f"clip {k}", 200, (failing(rng),), 1.0, seconds) for k in range(n_clips)]


def document(n_clips: int) -> dict[str, Any]:
    return calibration_report(passes(n_clips), SETTINGS, RUN, device="cpu", complete=True)


def test_the_report_judges_each_half_by_the_other() -> None:
    report = document(4)
    halves = report["left_out"]["tau_u"]
    assert [half["chosen_on"] for half in halves] == [["clip 0", "clip 3"], ["clip 1", "clip 2"]]
    assert [half["judged_on"] for half in halves] == [["clip 1", "clip 2"], ["clip 0", "clip 3"]]
    assert all(half["f1"] > 0.9 for half in halves)
    assert len(report["options"]) == 3
    assert report["counts"]["failures"] == 16
    for name, of in (("tau_u", alarms_of_failures), ("tau_p", alarms_of_falls), ("tau_m", alarms_of_failed_frames)):
        scores = [each for one in passes(4) for each in one.objects]
        chosen = report["thresholds"][name]
        same = of(scores, SETTINGS).quality_at(chosen["threshold"])
        assert (chosen["precision"], chosen["recall"]) == (same.precision, same.recall)


def test_halves_share_the_failures_and_a_half_without_any_says_so() -> None:
    calm = replace(passes(1)[0], name="calm", objects=(score([0.9] * 30, [NAN, *([0.1, 0.2] * 15)[:29]]),))
    mixed = [calm, *passes(2)]
    report = calibration_report(mixed, SETTINGS, RUN, device="cpu", complete=True)
    assert [half["chosen_on"] for half in report["left_out"]["tau_u"]] == [["clip 0"], ["clip 1", "calm"]]
    report = calibration_report([calm, passes(1)[0]], SETTINGS, RUN, device="cpu", complete=True)
    onto_calm = report["left_out"]["tau_u"][0]
    assert (onto_calm["chosen_on"], onto_calm["judged_on"]) == (["clip 0"], ["calm"])
    assert onto_calm["threshold"] is not None
    assert (onto_calm["events"], onto_calm["recall"], onto_calm["f1"], onto_calm["best_f1"]) == (0, None, None, None)
    assert onto_calm["alarms"] == 0, "nothing there rises so much"


def test_one_clip_has_no_other_half_to_choose_on() -> None:
    report = document(1)
    assert report["thresholds"]["tau_u"]["threshold"] is not None
    assert [half["threshold"] is None for half in report["left_out"]["tau_u"]] == [False, True]
    assert report["left_out"]["tau_u"][1]["reason"] == "0 events in the clips, at least 2 are needed"


def test_a_report_without_clips_says_so() -> None:
    report = document(0)
    assert report["options"] == []
    assert report["quantiles"]["uncertainty"] is None
