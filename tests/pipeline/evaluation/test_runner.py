"""Whole clips with a real method, and the report made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.annotator import Annotator, AnnotatorSettings, NextFrame, Start
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Objects, Truth, find_clips, read_truth
from pipeline.evaluation.metrics import boundary_accuracy, region_similarity
from pipeline.evaluation.report import clip_entry, report
from pipeline.evaluation.results import write_json
from pipeline.evaluation.runner import (
    ClipScore,
    Correction,
    MaskScores,
    run_clip,
)
from pipeline.evaluation.timing import PARTS
from pipeline.methods.base import Method
from pipeline.methods.choice import MethodChoice
from pipeline.session.session import Session
from pipeline.types import RunLengthMask
from tests.built_methods import built
from tests.pipeline.evaluation.davis_folder import write_rendered_clip

N_FRAMES = 4


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClipFiles]:
    data = tmp_path_factory.mktemp("davis")
    write_rendered_clip(data, "one", N_FRAMES, object_ids=(1,))
    write_rendered_clip(data, "two", N_FRAMES)
    return {clip.name: clip for clip in find_clips(data)}


@pytest.fixture(scope="module")
def two_rounds(clips: dict[str, ClipFiles], method: Method) -> ClipScore:
    return run_clip(clips["two"], read_truth(clips["two"]), method, AnnotatorSettings(seed=3), 2)


def test_the_figures_are_those_of_the_masks(two_rounds: ClipScore, clips: dict[str, ClipFiles]) -> None:
    truth = read_truth(clips["two"])
    assert [r.round for r in two_rounds.rounds] == [1, 2]
    assert set(two_rounds.rounds[0].frame_indices).isdisjoint(two_rounds.rounds[1].frame_indices)
    assert two_rounds.rounds[0].n_prompts == 20
    assert two_rounds.rounds[0].n_segmented == N_FRAMES
    jf = np.zeros(N_FRAMES)
    for object_id in (1, 2):
        pairs = [
            (two_rounds.masks[object_id][t].decode(), truth.mask(t, object_id))
            for t in range(N_FRAMES)
            if t in two_rounds.masks[object_id]
        ]
        assert len(pairs) == N_FRAMES
        j = [region_similarity(mask, true) for mask, true in pairs]
        f = [boundary_accuracy(mask, true) for mask, true in pairs]
        assert two_rounds.rounds[-1].j[object_id] == pytest.approx(np.mean(j))
        assert two_rounds.rounds[-1].f[object_id] == pytest.approx(np.mean(f))
        assert np.mean(j) > 0.5
        jf += (np.array(j) + np.array(f)) / 4
    assert two_rounds.jf_per_frame == pytest.approx(jf)


def test_the_same_seed_gives_the_same_figures(
    two_rounds: ClipScore, clips: dict[str, ClipFiles], method: Method
) -> None:
    again = run_clip(clips["two"], read_truth(clips["two"]), method, AnnotatorSettings(seed=3), 1)
    assert again.rounds[0].j == two_rounds.rounds[0].j
    assert again.rounds[0].f == two_rounds.rounds[0].f


def test_rounds_follow_the_session_s_suggestions(clips: dict[str, ClipFiles], method: Method) -> None:
    clip = next(iter(clips.values()))
    truth = read_truth(clip, Objects.AUTO)
    settings = AnnotatorSettings(next_frame=NextFrame.SUGGESTED)
    score = run_clip(clip, truth, method, settings, 2)
    prompted = [each.frame_indices[0] for each in score.rounds]
    assert len(set(prompted)) == 2
    session = Session(clip.frames, method)
    annotator = Annotator(truth, clip.name, settings)
    list(session.run_round(annotator.prompts(prompted[:1]), object_ids=truth.object_ids))
    usable = [s.frame_index for s in session.suggestions(10) if truth.labels[s.frame_index].any()]
    assert usable[0] == prompted[1]


def test_a_given_first_mask_is_kept_and_not_scored(clips: dict[str, ClipFiles], method: Method) -> None:
    truth = read_truth(clips["one"])
    seen: list[tuple[int, int]] = []
    score = run_clip(
        clips["one"], truth, method, AnnotatorSettings(start=Start.MASK), 2, lambda *step: seen.append(step)
    )
    assert (score.masks[1][0].decode() == truth.mask(0, 1)).all()
    assert np.isnan(score.jf_per_frame[0])
    j = [region_similarity(score.masks[1][t].decode(), truth.mask(t, 1)) for t in range(1, N_FRAMES)]
    assert score.rounds[-1].j[1] == pytest.approx(np.mean(j))
    assert score.rounds[0].n_prompts == 1
    assert min(score.rounds[1].frame_indices) > 0
    assert (1, N_FRAMES) in seen
    assert seen[-1] == (2, score.rounds[1].n_segmented)
    exported = score.exported(clips["one"])
    assert exported.frame_names[0] == "00000.jpg"
    assert exported.masks[1][0] == RunLengthMask.encode(truth.mask(0, 1))


def test_a_true_mask_makes_its_frame_right_and_the_round_says_how_far_that_spread(
    clips: dict[str, ClipFiles], method: Method
) -> None:
    score = run_clip(clips["one"], read_truth(clips["one"]), method, AnnotatorSettings(start=Start.MASKS), 2)
    first, second = score.rounds
    assert first.correction is None
    assert second.correction is not None
    assert second.correction.prompted_jf_before < 1.0
    assert second.correction.prompted_jf_after == 1.0
    change = (second.j[1] + second.f[1] - first.j[1] - first.f[1]) / 2 * (N_FRAMES - 1)
    own = second.correction.prompted_jf_after - second.correction.prompted_jf_before
    n_others = second.n_segmented - len(second.frame_indices)
    assert (second.correction.spread_jf or 0.0) * n_others == pytest.approx(change - own)


def test_a_correction_without_prompts_or_other_frames_says_nothing_of_them() -> None:
    before, after = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.75, 1.0])
    assert Correction.of(before, after, (), {1, 2}) is None
    assert Correction.of(before, after, (0,), {0}) == Correction(0.5, 1.0, None)
    assert Correction.of(before, after, (0,), {0, 1, 2}) == Correction(0.5, 1.0, 0.125)


def test_an_object_that_was_never_prompted_counts_as_empty(clips: dict[str, ClipFiles], method: Method) -> None:
    truth = read_truth(clips["two"])
    labels = truth.labels.copy()
    labels[0][labels[0] == 2] = 0
    score = run_clip(clips["two"], Truth(labels, (1, 2)), method, AnnotatorSettings(first_frame=0), 1)
    assert score.rounds[0].j[1] > 0.4
    assert score.rounds[0].j[2] == pytest.approx(1 / N_FRAMES)
    assert score.masks[2] == {}


def test_only_changed_masks_are_scored_again(clips: dict[str, ClipFiles]) -> None:
    truth = read_truth(clips["one"])
    scores = MaskScores(truth)
    assert scores.j[1].tolist() == [0.0] * N_FRAMES
    given = {1: {2: RunLengthMask.encode(truth.mask(2, 1))}}
    scores.update(given)
    assert scores.j[1].tolist() == [float(t == 2) for t in range(N_FRAMES)]
    scores.j[1][2] = 0.25
    scores.update(given)
    assert scores.j[1][2] == 0.25
    scores.update({})
    assert scores.j[1].tolist() == [0.0] * N_FRAMES


def test_a_pixel_claimed_twice_belongs_to_the_higher_id_as_in_a_palette_png() -> None:
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, :2], labels[0, 2:] = 1, 2
    scores = MaskScores(Truth(labels, (1, 2)))
    everything = RunLengthMask.encode(np.ones((4, 4), np.bool_))
    scores.update({1: {0: everything}, 2: {0: everything}})
    assert scores.j == {1: [0.0], 2: [0.5]}
    assert scores.masks(1) == {}


@pytest.mark.parametrize(
    ("first_frame", "blank", "message"),
    [
        (N_FRAMES, None, rf"has frames 0 to {N_FRAMES - 1}, but round 1 was asked for on frame {N_FRAMES}"),
        (2, 2, r"shows no object on frame 2"),
    ],
)
def test_a_first_frame_that_cannot_be_is_refused(
    clips: dict[str, ClipFiles], method: Method, first_frame: int, blank: int | None, message: str
) -> None:
    labels = read_truth(clips["one"]).labels.copy()
    if blank is not None:
        labels[blank] = 0
    with pytest.raises(DatasetError, match=message):
        run_clip(clips["one"], Truth(labels, (1,)), method, AnnotatorSettings(first_frame=first_frame), 1)


def test_the_report_weighs_objects_not_clips(two_rounds: ClipScore, tmp_path: Path) -> None:
    alone = replace(
        two_rounds,
        name="alone",
        object_ids=(1,),
        rounds=tuple(replace(r, j={1: 0.0}, f={1: 0.0}, seconds=30.0) for r in two_rounds.rounds),
    )
    entries = [clip_entry([two_rounds]), clip_entry([alone])]
    settings = {"method": "m", "segmenter": "s", "box_tracker": "b", "seed": 0, "rounds": 2}
    document = report(entries, [], settings, device="cpu", complete=False)
    assert document["objects"] == 3
    assert document["frames"] == 2 * N_FRAMES
    assert document["complete"] is False
    assert document["jf"] == pytest.approx(2 / 3 * entries[0]["jf"])
    assert document["sequence_mean"]["jf"] == pytest.approx(entries[0]["jf"] / 2)
    assert document["rounds"][0]["seconds"] == pytest.approx((two_rounds.rounds[0].seconds + 30.0) / 2)
    by_part = document["seconds_per_frame_by_part"]
    assert tuple(by_part) == PARTS
    assert sum(by_part.values()) == pytest.approx(document["seconds_per_frame"])
    assert document["peak_rss_mib"] > 50
    write_json(document, tmp_path / "x.json")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(("frames_per_round", "n_rounds"), [(1, 2), (2, 1)])
def test_a_method_for_many_objects_at_once(clips: dict[str, ClipFiles], frames_per_round: int, n_rounds: int) -> None:
    truth = read_truth(clips["two"])
    settings = AnnotatorSettings(start=Start.SCRIBBLES, frames_per_round=frames_per_round)
    score = run_clip(clips["two"], truth, built(MethodChoice("idpro", "lite")), settings, n_rounds)
    prompted = [frame for each in score.rounds for frame in each.frame_indices]
    assert len(set(prompted)) == len(prompted) == 2
    assert min(score.rounds[-1].j.values()) > 0.5
    for object_id in (1, 2):
        assert score.raw_j[object_id] == pytest.approx(score.rounds[-1].j[object_id], abs=0.2)
    for frame_index in range(N_FRAMES):
        first, second = (score.masks[object_id][frame_index].decode() for object_id in (1, 2))
        assert not (first & second).any()
