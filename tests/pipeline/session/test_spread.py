"""How far a correction spreads between prompted frames, and where it stops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.methods.base import Anchor
from pipeline.session.per_object import steadiness
from pipeline.session.session import Session
from pipeline.types import BoolMask, MaskPrompt, RunLengthMask
from tests.oracle.methods import iou, ious, mask_prompt, masks_of, oracle_method
from tests.oracle.scenes import scene
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.session.scripted_method import ScriptedMethod

N_FRAMES = 11
IMAGES, MASKS = moving_square(N_FRAMES)
NOWHERE = np.zeros_like(MASKS[0])
ELSEWHERE = np.zeros_like(MASKS[0])
ELSEWHERE[:12, :12] = True


def given(frame_index: int, mask: BoolMask) -> MaskPrompt:
    return MaskPrompt(1, frame_index, RunLengthMask.encode(mask))


def keeps_its_mask(score: float) -> Callable[[Anchor, int], tuple[BoolMask, float]]:
    """A tracker that never notices that the object left; where a person said so, it is sure that nothing is there."""
    return lambda anchor, _: (anchor.mask, score if anchor.mask.any() else 1.0)


def shown(method: ScriptedMethod, *rounds: MaskPrompt) -> list[int]:
    """The frames whose mask is not empty after some rounds, each with one prompt more."""
    session = Session(ArrayFrames(IMAGES), method)
    for n in range(1, len(rounds) + 1):
        list(session.run_round(rounds[:n], object_ids=[1]))
    assert session.stale_frames(1) == ()
    return [frame for frame, mask in masks_of(session).items() if mask.any()]


@pytest.mark.parametrize(
    ("power", "score", "kept"),
    [(0.0, 0.9, [0, 1, 2, 3, 4]), (0.0, 0.5, [0, 1, 2, 3, 4]), (4.0, 0.5, [0])],
    ids=["half of the way", "by distance alone", "farther where the masks were doubtful"],
)
def test_not_here_clears_the_masks_up_to_the_middle_and_doubtful_ones_beyond(
    power: float, score: float, kept: list[int]
) -> None:
    method = ScriptedMethod(keeps_its_mask(score), power)
    assert shown(method, given(0, MASKS[0])) == list(range(N_FRAMES))
    frames = shown(method, given(0, MASKS[0]), given(10, NOWHERE))
    assert [frame for frame in frames if frame != 5] == kept


def test_not_here_clears_all_masks_to_the_end_of_the_clip() -> None:
    method = ScriptedMethod(keeps_its_mask(0.9))
    frames = shown(method, given(0, MASKS[0]), given(6, NOWHERE))
    assert [frame for frame in frames if frame != 3] == [0, 1, 2]
    assert shown(method, given(5, NOWHERE)) == []


def drifts_below(frame_index: int) -> Callable[[Anchor, int], tuple[BoolMask, float]]:
    """The pass back from frame 10 is right down to a frame, and then sure of a wrong place; the first pass is right."""

    def script(anchor: Anchor, index: int) -> tuple[BoolMask, float]:
        drifted = anchor.frame_index == 10 and index < frame_index
        return (ELSEWHERE if drifted else MASKS[index]), 1.0 if drifted else 0.7

    return script


@pytest.mark.parametrize("power", [0.0, 4.0])
@pytest.mark.parametrize("lost_at", [8, 3])
def test_a_pass_that_loses_the_object_where_earlier_masks_had_it_changes_nothing(lost_at: int, power: float) -> None:
    session = Session(ArrayFrames(IMAGES), ScriptedMethod(drifts_below(lost_at), power))
    prompts = [given(0, MASKS[0]), given(10, MASKS[10])]
    for n in (1, 2):
        list(session.run_round(prompts[:n], object_ids=[1]))
    masks = masks_of(session)
    assert all(np.array_equal(masks[frame], MASKS[frame]) for frame in range(1, 10))


def test_a_pass_that_never_meets_earlier_masks_counts_by_its_distance() -> None:
    session = Session(ArrayFrames(IMAGES), ScriptedMethod(drifts_below(10)))
    prompts = [given(0, MASKS[0]), given(10, MASKS[10])]
    for n in (1, 2):
        list(session.run_round(prompts[:n], object_ids=[1]))
    masks = masks_of(session)
    wrong = [frame for frame in range(N_FRAMES) if iou(masks[frame], MASKS[frame]) < 0.85]
    assert [frame for frame in wrong if frame != 5] == [6, 7, 8, 9]


def test_a_pass_whose_masks_jump_changes_nothing_after_its_first_frame() -> None:
    places = ELSEWHERE, np.roll(ELSEWHERE, 60, axis=1)
    method = ScriptedMethod(lambda anchor, index: (MASKS[index] if anchor.frame_index == 0 else places[index % 2], 0.9))
    session = Session(ArrayFrames(IMAGES), method)
    prompts = [given(0, MASKS[0]), given(10, MASKS[10])]
    for n in (1, 2):
        list(session.run_round(prompts[:n], object_ids=[1]))
    masks = masks_of(session)
    assert [frame for frame in range(N_FRAMES) if iou(masks[frame], MASKS[frame]) < 0.85] == [9]


@pytest.mark.parametrize(
    ("masks", "others", "expected"),
    [
        ((MASKS[3], MASKS[3]), (MASKS[3], MASKS[3]), 1.0),
        ((MASKS[3], ELSEWHERE), (MASKS[3], MASKS[3]), 0.05 / 1.05),
        ((MASKS[3], ELSEWHERE), (ELSEWHERE, MASKS[3]), 1.0),
        ((MASKS[3], NOWHERE), (MASKS[3], MASKS[3]), 1.0),
        ((NOWHERE, ELSEWHERE), (MASKS[3], MASKS[3]), 0.05 / 1.05),
    ],
    ids=["still", "jumps", "both jump", "leaves", "appears elsewhere"],
)
def test_steadiness(masks: tuple[BoolMask, BoolMask], others: tuple[BoolMask, BoolMask], expected: float) -> None:
    first, second = ((RunLengthMask.encode(one), RunLengthMask.encode(two)) for one, two in (masks, others))
    assert steadiness(first, second) == pytest.approx(expected)


def wrong_first_pass(anchor: Anchor, index: int) -> tuple[BoolMask, float]:
    """The pass from frame 0 loses the object at frame 4; every later one is right."""
    return (ELSEWHERE if anchor.frame_index == 0 and index >= 4 else MASKS[index]), 0.8


def test_a_correction_reaches_back_to_where_the_earlier_masks_were_right() -> None:
    session = Session(ArrayFrames(IMAGES), ScriptedMethod(wrong_first_pass))
    list(session.run_round([given(0, MASKS[0])], object_ids=[1]))
    assert not (masks_of(session)[9] & MASKS[9]).any()
    list(session.run_round([given(0, MASKS[0]), given(8, MASKS[8])], object_ids=[1]))
    masks = masks_of(session)
    right = [frame for frame in range(N_FRAMES) if np.array_equal(masks[frame], MASKS[frame])]
    assert right == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]


def test_not_here_in_a_video_leaves_the_frames_that_show_the_object() -> None:
    clip = scene("leaves")
    session = Session(clip.frames, oracle_method("i_pt"))
    absent = [frame for frame, visible in enumerate(clip.visible()) if not visible]
    middle = absent[len(absent) // 2]
    list(session.run_round([mask_prompt(clip, 0)], object_ids=[1]))
    before = ious(session, clip)
    list(session.run_round([mask_prompt(clip, 0), mask_prompt(clip, middle)], object_ids=[1]))
    after = ious(session, clip)
    assert not any(masks_of(session)[frame].any() for frame in absent)
    assert np.mean(after) > 0.85
    assert np.mean(after) >= np.mean(before) - 0.02
