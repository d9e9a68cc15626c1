"""The rules of a session, with a real method on a small moving square."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from pipeline.methods.base import Anchor, Method
from pipeline.session.session import Session
from pipeline.types import BoolMask, BoxPrompt, FrameResult, MaskPrompt, PointPrompt, Prompt, RunLengthMask
from tests.built_methods import built
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.session.scripted_method import ScriptedMethod

N_FRAMES = 9
IMAGES, MASKS = moving_square(N_FRAMES)


def true_mask(frame_index: int, object_id: int = 1, mask: BoolMask | None = None) -> MaskPrompt:
    return MaskPrompt(object_id, frame_index, RunLengthMask.encode(MASKS[frame_index] if mask is None else mask))


def play(session: Session, prompts: Iterable[Prompt], *object_ids: int) -> list[FrameResult]:
    return list(session.run_round(list(prompts), object_ids=object_ids or (1,)))


def after(n_results: int) -> Callable[[], bool]:
    """True from the moment the consumer below has seen ``n_results``."""
    return lambda: len(SEEN) >= n_results


SEEN: list[FrameResult] = []


def play_until_cancelled(session: Session, prompts: Iterable[Prompt], n_results: int, *object_ids: int) -> list[int]:
    SEEN.clear()
    for result in session.run_round(list(prompts), object_ids=object_ids or (1,), cancelled=after(n_results)):
        SEEN.append(result)
    return [result.frame_index for result in SEEN]


def iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def masks_of(session: Session, object_id: int = 1) -> dict[int, RunLengthMask]:
    return {result.frame_index: result.mask for result in session.results(object_id)}


@pytest.mark.parametrize(
    ("frame", "order"),
    [(0, [0, 1, 2, 3, 4, 5, 6, 7, 8]), (8, [8, 7, 6, 5, 4, 3, 2, 1, 0]), (4, [4, 3, 5, 2, 6, 1, 7, 0, 8])],
)
def test_results_come_outward_nearest_first_and_find_the_object(method: Method, frame: int, order: list[int]) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    results = play(session, [true_mask(frame)])
    assert [result.frame_index for result in results] == order
    assert [result.prompted for result in results] == [True] + [False] * 8
    assert list(session.results(1)) == sorted(results, key=lambda result: result.frame_index)
    for result in results:
        assert 0.0 <= result.score <= 1.0
        assert iou(result.mask.decode(), MASKS[result.frame_index]) > 0.85


def test_prompted_frames_come_first_and_a_later_round_stays_between_its_neighbours(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    first = play(session, [true_mask(2), true_mask(6)])
    assert [result.frame_index for result in first[:2]] == [2, 6]
    # Between the two the passes from both meet, and each frame comes twice.
    assert sorted(result.frame_index for result in first) == [0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8]
    before = masks_of(session)
    second = play(session, [true_mask(2), true_mask(6), true_mask(4)])
    assert [result.frame_index for result in second] == [4, 3, 5]
    unchanged = set(range(N_FRAMES)) - {3, 4, 5}
    assert all(masks_of(session)[frame] == before[frame] for frame in unchanged)


def test_a_prompted_frame_is_never_overwritten(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    odd = np.zeros_like(MASKS[4])
    odd[10:40, 60:120] = True
    play(session, [true_mask(4, mask=odd)])
    play(session, [true_mask(4, mask=odd), true_mask(0), true_mask(8)])
    play(session, [true_mask(4, mask=odd), true_mask(0), true_mask(8), true_mask(5)])
    known = {result.frame_index: result for result in session.results(1)}
    assert known[4].prompted
    assert np.array_equal(known[4].mask.decode(), odd)


def test_the_same_prompts_again_change_nothing(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(3)])
    before = session.results(1)
    assert play(session, [true_mask(3)]) == []
    assert session.results(1) == before


def test_the_same_prompts_give_the_same_masks(method: Method) -> None:
    prompts: list[Prompt] = [BoxPrompt(1, 4, (30.0, 38.0, 74.0, 82.0)), PointPrompt(1, 4, 52, 60)]
    runs = []
    for _ in range(2):
        session = Session(ArrayFrames(IMAGES), method)
        play(session, prompts)
        runs.append(session.results(1))
    assert runs[0] == runs[1]


def test_a_frame_that_lost_its_prompts_is_propagated_again(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    odd = np.zeros_like(MASKS[6])
    odd[10:40, 100:150] = True
    play(session, [true_mask(2), true_mask(6, mask=odd)])
    results = play(session, [true_mask(2)])
    assert {result.frame_index for result in results} == {3, 4, 5, 6, 7, 8}
    known = {result.frame_index: result for result in session.results(1)}
    assert not known[6].prompted
    assert iou(known[6].mask.decode(), MASKS[6]) > 0.85


def test_an_object_without_prompts_gets_empty_masks(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(2)])
    results = play(session, [])
    assert {result.frame_index for result in results} == set(range(N_FRAMES))
    assert all(result.mask.area_px == 0 and not result.prompted for result in session.results(1))
    assert session.prompts(1) == ()
    assert session.stale_frames(1) == ()
    assert play(session, [true_mask(2)]) != []
    assert all(result.mask.area_px for result in session.results(1))


def test_a_cancelled_round_leaves_stale_frames_that_any_later_round_finishes(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    seen = play_until_cancelled(session, [true_mask(4)], 3)
    assert seen == [4, 3, 5]
    assert session.stale_frames(1) == (0, 1, 2, 6, 7, 8)
    assert {result.frame_index for result in session.results(1)} == {3, 4, 5}
    other = np.zeros_like(MASKS[0])
    other[5:15, 5:15] = True
    play(session, [true_mask(0, 2, other)], 2)
    assert session.stale_frames(1) == session.stale_frames(2) == ()
    whole = Session(ArrayFrames(IMAGES), method)
    play(whole, [true_mask(4)])
    assert [result.frame_index for result in session.results(1)] == list(range(N_FRAMES))
    assert all(iou(masks_of(session)[f].decode(), masks_of(whole)[f].decode()) > 0.95 for f in range(N_FRAMES))


def test_a_round_cancelled_before_it_began_changes_nothing(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(4)])
    before = session.results(1)
    assert play_until_cancelled(session, [true_mask(2)], 0) == []
    assert session.prompts(1) == (true_mask(4),)
    assert session.stale_frames(1) == ()
    assert session.results(1) == before


def test_two_objects_share_no_pixel_and_prompted_masks_win(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(0)])
    before = masks_of(session)
    top = MASKS[4].copy()
    top[60:] = False
    play(session, [true_mask(4, 2, top)], 2)
    assert session.object_ids() == (1, 2)
    first, second = masks_of(session, 1), masks_of(session, 2)
    for frame in range(N_FRAMES):
        assert not (first[frame].decode() & second[frame].decode()).any()
    assert first[0] == before[0]
    assert np.array_equal(second[4].decode(), top)
    assert not (first[4].decode() & top).any()
    play(session, [], 2)
    assert masks_of(session, 1) == before


def test_a_far_away_second_object_leaves_the_first_ones_masks_alone() -> None:
    session = Session(ArrayFrames(IMAGES), built())
    play(session, [true_mask(0)])
    before = session.results(1)
    corner = np.zeros_like(MASKS[0])
    corner[:16, :16] = True
    results = play(session, [true_mask(0, 7, corner)], 7)
    assert {result.object_id for result in results} == {7}
    assert session.results(1) == before


@pytest.mark.parametrize("broken", [{3}, {1, 2}, {5, 6, 7, 8}])
def test_unreadable_frames_are_named_and_the_others_get_masks(method: Method, broken: set[int]) -> None:
    session = Session(ArrayFrames(IMAGES, frozenset(broken)), method)
    play(session, [true_mask(0)])
    assert set(session.frame_errors) == broken
    assert all("on purpose" in reason for reason in session.frame_errors.values())
    assert {result.frame_index for result in session.results(1)} == set(range(N_FRAMES)) - broken
    assert session.stale_frames(1) == ()
    assert all(iou(result.mask.decode(), MASKS[result.frame_index]) > 0.8 for result in session.results(1))


def test_an_unreadable_prompted_frame_keeps_its_prompts(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES, frozenset({4})), method)
    play(session, [true_mask(0), PointPrompt(1, 4, 50, 60)])
    assert set(session.frame_errors) == {4}
    assert session.prompts(1) == (true_mask(0), PointPrompt(1, 4, 50, 60))
    assert len(session.results(1)) == N_FRAMES - 1


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (PointPrompt(1, 9, 5, 5), "frames 0 to 8"),
        (PointPrompt(1, -1, 5, 5), "frames 0 to 8"),
        (PointPrompt(1, 0, 161, 5), r"x must be in \[0, 160\]"),
        (PointPrompt(1, 0, 5, -0.5), r"y in \[0, 120\]"),
        (PointPrompt(1, 0, float("nan"), 5), "outside the image"),
        (BoxPrompt(1, 0, (10, 10, 10, 20)), "not a box"),
        (BoxPrompt(1, 0, (10, 10, 161, 20)), "x1 <= 160"),
        (MaskPrompt(1, 0, RunLengthMask.encode(np.zeros((4, 5), np.bool_))), "5x4 px"),
        (PointPrompt(2, 0, 5, 5), r"objects \[2\]"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_and_lose_nothing(method: Method, prompt: Prompt, message: str) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(0)])
    before = session.results(1)
    with pytest.raises(ValueError, match=message):
        session.run_round([true_mask(0), prompt], object_ids=[1])
    assert session.results(1) == before
    assert session.prompts(1) == (true_mask(0),)


def test_a_second_thread_waits_for_the_round_and_results_do_not(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    running = session.run_round([true_mask(0)], object_ids=[1])
    next(running)
    done = threading.Event()

    def second() -> None:
        play(session, [true_mask(0), true_mask(8)])
        done.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not done.wait(0.3)
    assert session.results(1)[0].frame_index == 0
    assert session.prompts(1) == (true_mask(0),)
    assert len(list(running)) == N_FRAMES - 1
    thread.join(60)
    assert done.is_set()
    assert session.prompts(1) == (true_mask(0), true_mask(8))


def test_a_waiting_round_can_be_cancelled(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    running = session.run_round([true_mask(0)], object_ids=[1])
    next(running)
    assert list(session.run_round([true_mask(8)], object_ids=[1], cancelled=lambda: True)) == []
    running.close()  # type: ignore[attr-defined]
    assert session.prompts(1) == (true_mask(0),)
    assert len(play(session, [true_mask(0)])) == N_FRAMES - 1


def test_an_object_that_leaves_is_empty_and_found_again_when_it_returns(method: Method) -> None:
    ground, _ = moving_square(1, side_px=40)
    empty = ground[0].copy()
    empty[30:90, 15:65] = empty[30:90, 90:140]
    images = [*IMAGES[:3], *[empty] * 4, *IMAGES[5:8]]
    session = Session(ArrayFrames(images), method)
    play(session, [true_mask(0)])
    masks = [mask.decode() for _, mask in sorted(masks_of(session).items())]
    assert [bool(mask.any()) for mask in masks] == [True] * 3 + [False] * 4 + [True] * 3
    assert iou(masks[-1], MASKS[7]) > 0.8


def sees_it_from_the_left(anchor: Anchor, frame_index: int) -> tuple[BoolMask, float]:
    """A pass to the right is right; a pass to the left sees nothing, and is not sure of that."""
    right = frame_index > anchor.frame_index
    return (MASKS[frame_index], 0.9) if right else (np.zeros_like(MASKS[frame_index]), 0.5)


@pytest.mark.parametrize(("power", "found"), [(0.0, [1, 2, 3]), (12.0, [1, 2, 3, 4, 5, 6])])
@pytest.mark.parametrize("one_round", [True, False])
def test_with_a_score_power_a_pass_that_lost_the_object_does_not_overrule_one_that_did_not(
    power: float, found: list[int], one_round: bool
) -> None:
    session = Session(ArrayFrames(IMAGES), ScriptedMethod(sees_it_from_the_left, power))
    if not one_round:
        play(session, [true_mask(0)])
    play(session, [true_mask(0), true_mask(7)])
    masks = masks_of(session)
    assert [frame for frame in range(1, 7) if masks[frame].area_px] == found


def sees_it(_anchor: Anchor, frame_index: int) -> tuple[BoolMask, float]:
    return MASKS[frame_index], 0.9


def test_a_later_round_passes_from_its_own_frame_alone() -> None:
    method = ScriptedMethod(sees_it)
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(0)])
    assert method.passes == [range(1, 9)]
    method.passes.clear()
    second = play(session, [true_mask(0), true_mask(6)])
    assert method.passes == [range(5, 0, -1), range(7, 9)]
    assert [result.frame_index for result in second] == [6, 5, 7, 4, 8, 3, 2, 1]
    method.passes.clear()
    play(session, [true_mask(0), true_mask(6), true_mask(3)])
    assert method.passes == [range(2, 0, -1), range(4, 6)]


def test_a_round_that_another_one_overtook_goes_on_from_its_own_frame() -> None:
    method = ScriptedMethod(sees_it)
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [true_mask(0)])
    play_until_cancelled(session, [true_mask(0), true_mask(5)], 3)
    method.passes.clear()
    play(session, [true_mask(0), true_mask(5), true_mask(8)])
    assert method.passes == [range(3, 0, -1), range(6, 8), range(7, 5, -1)]
    assert session.stale_frames(1) == ()


def test_a_session_tells_confidence_uncertainty_and_agreement(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    list(session.run_round([true_mask(0)], object_ids=[1]))
    alone = session.results(1)
    assert all(each.uncertainty is not None and 0.0 <= each.uncertainty <= 1.0 for each in alone[1:])
    assert all(each.agreement is None for each in alone)
    assert alone[0].score == 1.0
    assert all(each.score <= 1.0 - (each.uncertainty or 0.0) for each in alone[1:])
    list(session.run_round([true_mask(0), true_mask(8)], object_ids=[1]))
    between = session.results(1)
    agreements = [each.agreement for each in between[1:8]]
    assert all(each is not None and each > 0.8 for each in agreements)
    assert {each.prompted for each in between[1:8]} == {False}
