"""The simulated annotator: where it prompts, and which frames it chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.annotator import (
    Annotator,
    AnnotatorSettings,
    NextFrame,
    Start,
    best_frame,
    spread_frames,
    start_frames,
)
from pipeline.evaluation.datasets import Truth
from pipeline.evaluation.simulated_prompts import ClickStrategy, exact_box
from pipeline.types import BoolMask, BoxPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt
from tests.clips import real_or_rendered


def truth_of(areas_px: list[tuple[int, ...]]) -> Truth:
    """One row of labels a frame in which every object has so many pixels."""
    labels = np.zeros((len(areas_px), 10, 100), np.uint8)
    for frame_index, areas in enumerate(areas_px):
        for row, area_px in enumerate(areas):
            labels[frame_index, 2 * row, :area_px] = row + 1
    return Truth(labels, tuple(range(1, len(areas_px[0]) + 1)))


@pytest.mark.parametrize(
    ("areas_px", "frame_index"),
    [
        ([(5,), (9,), (9,)], 1),
        ([(50, 0), (3, 4), (2, 6)], 2),
        ([(0, 0), (7, 0), (0, 8)], 2),
    ],
    ids=["largest, the first of equals", "all objects before one large one", "no frame shows all"],
)
def test_the_best_frame(areas_px: list[tuple[int, ...]], frame_index: int) -> None:
    assert best_frame(truth_of(areas_px).areas_px()) == frame_index


def run_rounds(annotator: Annotator, jf: NDArray[np.float64], n_rounds: int) -> list[int]:
    """Frames chosen when the figures never change."""
    frames = list(annotator.first_frames())
    annotator.prompts(frames)
    for _ in range(n_rounds - 1):
        chosen = annotator.next_frames(jf)
        annotator.prompts(chosen, {frame: {1: np.zeros((10, 100), np.bool_)} for frame in chosen})
        frames += chosen
    return frames


def test_later_rounds_take_the_worst_frame_with_an_object_that_nobody_prompted() -> None:
    truth = truth_of([(9,), (5,), (0,), (5,)])
    annotator = Annotator(truth, "clip", AnnotatorSettings())
    assert run_rounds(annotator, np.array([0.2, 0.8, 0.1, 0.5]), 5) == [0, 3, 1, 0, 0]


def test_suggested_frames_are_followed_where_they_show_the_object_and_nobody_prompted_them() -> None:
    truth = truth_of([(9,), (0,), (5,), (5,), (5,)])
    settings = AnnotatorSettings(next_frame=NextFrame.SUGGESTED)
    annotator = Annotator(truth, "clip", settings)
    annotator.prompts(annotator.first_frames())
    jf = np.array([0.0, 0.0, 0.9, 0.1, 0.8])
    assert annotator.next_frames(jf, [0, 1, 2, 3]) == (2,)
    assert annotator.next_frames(jf, [4]) == (4,)
    assert annotator.next_frames(jf, [1])[0] in (2, 3, 4)
    several = Annotator(truth_of([(5,)] * 20), "clip", replace(settings, frames_per_round=2))
    assert several.next_frames(np.zeros(20), [14, 12, 3, 0]) == (14, 3)


def test_random_frames_vary_too_and_depend_on_the_seed() -> None:
    truth = truth_of([(5,)] * 30)
    chosen = {
        seed: run_rounds(
            Annotator(truth, "clip", AnnotatorSettings(next_frame=NextFrame.RANDOM, seed=seed)), np.zeros(30), 8
        )
        for seed in (0, 1)
    }
    assert all(len(set(frames)) == 8 for frames in chosen.values())
    assert chosen[0] != chosen[1]


def signature(prompts: list[Prompt]) -> list[tuple[str, int, bool]]:
    return [(type(p).__name__, p.object_id, isinstance(p, PointPrompt) and p.positive) for p in prompts]


def test_a_round_of_prompts_is_a_box_eight_positives_and_one_negative_for_every_object_there(tmp_path: Path) -> None:
    clip = real_or_rendered("comp-bear-lucia", tmp_path)
    labels = clip.labels[:3].copy()
    labels[1][labels[1] == 2] = 0
    truth = Truth(labels, (1, 2))
    annotator = Annotator(truth, "clip", AnnotatorSettings())
    per_object = [("BoxPrompt", False), *[("PointPrompt", True)] * 8, ("PointPrompt", False)]
    expected = {i: [(kind, i, positive) for kind, positive in per_object] for i in (1, 2)}
    assert signature(annotator.prompts([0])) == expected[1] + expected[2]
    assert signature(annotator.prompts([1], {1: {i: truth.mask(1, i) for i in (1, 2)}})) == expected[1]
    for prompt in annotator.prompts([2], {2: {i: truth.mask(2, i) for i in (1, 2)}}):
        assert prompt.frame_index == 2
        mask = truth.mask(2, prompt.object_id)
        if isinstance(prompt, PointPrompt):
            assert mask[int(prompt.y_px), int(prompt.x_px)] == prompt.positive
        elif isinstance(prompt, BoxPrompt):
            assert np.abs(np.subtract(prompt.box_xyxy_px, exact_box(mask))).max() <= 4.0


def test_prompts_depend_on_seed_and_clip_alone(tmp_path: Path) -> None:
    clip = real_or_rendered("dog", tmp_path)
    truth = Truth(clip.labels, (1,))

    def prompts(name: str, seed: int) -> list[Prompt]:
        return Annotator(truth, name, AnnotatorSettings(seed=seed)).prompts([3])

    assert prompts("dog", 1) == prompts("dog", 1)
    assert prompts("dog", 1) != prompts("dog", 2)
    assert prompts("dog", 1) != prompts("cat", 1)


def test_starting_from_a_mask_gives_the_truth_of_frame_0_and_then_prompts() -> None:
    truth = truth_of([(4, 0), (9, 9)])
    annotator = Annotator(truth, "clip", AnnotatorSettings(start=Start.MASK))
    assert annotator.first_frames() == (0,)
    (given_mask,) = annotator.prompts([0])
    assert isinstance(given_mask, MaskPrompt)
    assert (given_mask.mask.decode() == truth.mask(0, 1)).all()
    empty = np.zeros((10, 100), np.bool_)
    assert {p.object_id for p in annotator.prompts([1], {1: {1: empty, 2: empty}}) if isinstance(p, BoxPrompt)} == {
        1,
        2,
    }


def test_masks_gives_the_truth_in_every_round_also_where_an_object_is_absent() -> None:
    truth = truth_of([(4, 0), (9, 9)])
    annotator = Annotator(truth, "clip", AnnotatorSettings(start=Start.MASKS))
    assert annotator.first_frames() == (0,)
    assert [prompt.object_id for prompt in annotator.prompts([0])] == [1]
    wrong = np.ones((10, 100), np.bool_)
    for frame_index in (0, 1):
        given = annotator.prompts([frame_index], {frame_index: {1: wrong, 2: wrong}})
        assert all(isinstance(prompt, MaskPrompt) for prompt in given)
        masks = {prompt.object_id: prompt.mask.decode() for prompt in given if isinstance(prompt, MaskPrompt)}
        assert all((masks[object_id] == truth.mask(frame_index, object_id)).all() for object_id in (1, 2))


@pytest.mark.parametrize("strategy", ClickStrategy)
def test_clicks_only(strategy: ClickStrategy, tmp_path: Path) -> None:
    clip = real_or_rendered("comp-bear-lucia", tmp_path)
    truth = Truth(clip.labels, (1, 2))
    annotator = Annotator(truth, "c", AnnotatorSettings(start=Start.CLICKS, click_strategy=strategy, max_clicks=3))
    assert signature(annotator.prompts([0])) == [("PointPrompt", 1, True), ("PointPrompt", 2, True)]
    # The two objects mistaken for each other: every click is on an error, and its sign says which.
    swapped = {1: truth.mask(5, 2), 2: truth.mask(5, 1)}
    clicks = annotator.prompts([5], {5: swapped})
    limit = 1 if strategy is ClickStrategy.A1 else 3
    for object_id in (1, 2):
        own = [click for click in clicks if click.object_id == object_id]
        assert 1 <= len(own) <= limit
        for click in own:
            assert isinstance(click, PointPrompt)
            y, x = int(click.y_px), int(click.x_px)
            assert truth.mask(5, object_id)[y, x] == click.positive
            assert swapped[object_id][y, x] != click.positive


def test_an_object_that_is_not_there_gets_a_negative_click_where_it_was_seen() -> None:
    truth = truth_of([(60,), (0,)])
    annotator = Annotator(truth, "clip", AnnotatorSettings(start=Start.CLICKS))
    ghost = np.zeros((10, 100), np.bool_)
    ghost[2:9, 20:40] = True
    (click,) = annotator.prompts([1], {1: {1: ghost}})
    assert isinstance(click, PointPrompt)
    assert not click.positive
    assert ghost[int(click.y_px), int(click.x_px)]


def test_a_given_first_frame_is_used() -> None:
    settings_ = replace(AnnotatorSettings(), first_frame=1)
    assert Annotator(truth_of([(9,), (5,)]), "clip", settings_).first_frames() == (1,)


@pytest.mark.parametrize(
    ("first", "usable", "n_frames", "expected"),
    [
        (5, [True] * 11, 1, (5,)),
        (5, [True] * 11, 3, (5, 1, 8)),
        (0, [True] * 11, 2, (0, 7)),
        (0, [True] * 5 + [False] * 6, 2, (0, 4)),
        (0, [True, True, False, False], 9, (0, 1)),
    ],
    ids=["alone", "both sides", "the far side", "no object there", "no more frames"],
)
def test_the_frames_of_round_1_are_spread(
    first: int, usable: list[bool], n_frames: int, expected: tuple[int, ...]
) -> None:
    assert spread_frames(first, np.array(usable), n_frames) == expected


@pytest.mark.parametrize("next_frame", NextFrame)
def test_the_frames_of_a_later_round_lie_apart(next_frame: NextFrame) -> None:
    truth = truth_of([(5,)] * 30)
    settings_ = AnnotatorSettings(next_frame=next_frame, frames_per_round=3, frames_apart=5)
    annotator = Annotator(truth, "clip", settings_)
    jf = np.linspace(0, 1, 30)
    rounds = [annotator.first_frames()]
    annotator.prompts(rounds[0])
    for _ in range(4):
        rounds.append(annotator.next_frames(jf))
        annotator.prompts(rounds[-1], {frame: {1: np.zeros((10, 100), np.bool_)} for frame in rounds[-1]})
    assert len({frame for frames in rounds for frame in frames}) == 15
    for frames in rounds[1:]:
        assert np.diff(sorted(frames)).min() >= 5
    if next_frame is NextFrame.WORST:
        assert rounds[1][0] == min(set(range(30)) - set(rounds[0]))
        assert list(rounds[1]) == sorted(rounds[1])


def test_a_clip_too_short_for_the_distance_gets_its_frames_closer() -> None:
    truth = truth_of([(5,), (5,), (0,), (5,)])
    annotator = Annotator(truth, "clip", AnnotatorSettings(frames_per_round=4, first_frame=0))
    assert annotator.first_frames() == (0, 3, 1)
    annotator.prompts([0])
    assert annotator.next_frames(np.array([0.1, 0.9, 0.0, 0.8])) == (3, 1, 0)


def test_a_round_on_several_frames_prompts_every_object_on_each() -> None:
    truth = truth_of([(40, 40), (40, 0), (0, 40)])
    annotator = Annotator(truth, "clip", AnnotatorSettings(frames_per_round=3))
    prompts = annotator.prompts(annotator.first_frames())
    boxes = [(p.frame_index, p.object_id) for p in prompts if isinstance(p, BoxPrompt)]
    assert sorted(boxes) == [(0, 1), (0, 2), (1, 1), (2, 2)]


def inside(mask: BoolMask, scribble: ScribblePrompt) -> bool:
    return all(mask[int(y), int(x)] for x, y in scribble.path_xy_px)


def test_scribbles_run_through_objects_and_then_through_errors(tmp_path: Path) -> None:
    clip = real_or_rendered("comp-bear-lucia", tmp_path)
    truth = Truth(clip.labels, (1, 2))
    annotator = Annotator(truth, "c", AnnotatorSettings(start=Start.SCRIBBLES))
    first = annotator.prompts([0])
    assert {prompt.object_id for prompt in first} == {1, 2}
    for prompt in first:
        assert isinstance(prompt, ScribblePrompt)
        assert prompt.positive
        assert inside(truth.mask(0, prompt.object_id), prompt)
        assert len(prompt.path_xy_px) >= 4
    # The two objects mistaken for each other: each gets strokes over itself and against the other.
    swapped = {1: truth.mask(5, 2), 2: truth.mask(5, 1)}
    later = annotator.prompts([5], {5: swapped})
    for prompt in later:
        assert isinstance(prompt, ScribblePrompt)
        assert inside(truth.mask(5, prompt.object_id) if prompt.positive else swapped[prompt.object_id], prompt)
    signs = {(prompt.object_id, prompt.positive) for prompt in later if isinstance(prompt, ScribblePrompt)}
    assert signs == {(1, True), (1, False), (2, True), (2, False)}
    assert annotator.prompts([6], {6: {i: truth.mask(6, i) for i in (1, 2)}}) == []


def test_an_object_too_small_for_a_scribble_gets_a_dot() -> None:
    truth = truth_of([(1,)])
    (prompt,) = Annotator(truth, "c", AnnotatorSettings(start=Start.SCRIBBLES)).prompts([0])
    assert isinstance(prompt, ScribblePrompt)
    assert prompt.path_xy_px == ((0.5, 0.5),)


def test_every_start_has_its_own_first_frame_and_its_own_random_numbers() -> None:
    """The first start is the only one of a run with one; the others are spread over the clip."""
    truth = truth_of([(5,)] * 10 + [(9,)] + [(5,)] * 20)
    settings = AnnotatorSettings(n_starts=3)
    starts = [Annotator(truth, "clip", settings, start) for start in range(3)]
    frames = [annotator.first_frames() for annotator in starts]
    assert frames == [(frame_index,) for frame_index in start_frames(truth.areas_px(), settings)]
    assert frames[0] == (10,)
    assert min(abs(a[0] - b[0]) for a in frames for b in frames if a != b) >= 5
    one = Annotator(truth, "clip", AnnotatorSettings())
    assert one.first_frames() == frames[0]
    assert one.prompts(frames[0]) == starts[0].prompts(frames[0]) != starts[1].prompts(frames[0])
    given = start_frames(truth.areas_px(), replace(settings, first_frame=0))
    assert given[0] == 0
    assert len(set(given)) == 3
