"""A session that goes on where another stopped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.methods.base import Method
from pipeline.session.session import Session
from pipeline.types import BoolMask, FrameResult, MaskPrompt, Prompt, RunLengthMask
from tests.pipeline.frame_sources import ArrayFrames, moving_square

N_FRAMES = 12
IMAGES, MASKS = moving_square(N_FRAMES)
EMPTY = RunLengthMask.encode(np.zeros_like(MASKS[0]))


def true_mask(frame_index: int, object_id: int = 1) -> Prompt:
    return MaskPrompt(object_id, frame_index, RunLengthMask.encode(MASKS[frame_index]))


def played(session: Session, *prompts: Prompt) -> Iterator[FrameResult]:
    return session.run_round(prompts, object_ids={prompt.object_id for prompt in prompts})


def iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


@pytest.mark.parametrize("frame", [0, 5])
def test_only_what_is_missing_is_read_and_segmented(method: Method, frame: int) -> None:
    whole = list(played(Session(ArrayFrames(IMAGES), method), true_mask(frame)))
    kept = whole[:7]
    frames = ArrayFrames(IMAGES)
    session = Session(frames, method)
    session.restore([true_mask(frame)], kept)
    missing = {result.frame_index for result in whole[7:]}
    assert set(session.stale_frames(1)) == missing | {frame}
    results = list(played(session, true_mask(frame)))
    assert {result.frame_index for result in results} == missing | {frame}
    assert results[0].prompted
    done = {result.frame_index for result in kept} - {frame}
    next_to_missing = {frame_index + step for frame_index in missing for step in (-1, 1)}
    assert not any(frames.reads[frame_index] for frame_index in done - next_to_missing)
    for before, after in zip(sorted(whole, key=lambda r: r.frame_index), session.results(1), strict=True):
        assert iou(before.mask.decode(), after.mask.decode()) > 0.95
        assert before == after or before not in kept


def test_between_two_prompted_frames_the_rest_is_still_fused(method: Method) -> None:
    prompts = (true_mask(0), true_mask(11))
    first = Session(ArrayFrames(IMAGES), method)
    list(played(first, *prompts))
    whole = first.results(1)
    session = Session(ArrayFrames(IMAGES), method)
    session.restore(prompts, [*whole[:3], *whole[9:]])
    assert {result.frame_index for result in played(session, *prompts)} == {0, *range(3, 9), 11}
    for before, after in zip(whole, session.results(1), strict=True):
        assert iou(before.mask.decode(), after.mask.decode()) > 0.95


def test_a_hidden_object_is_followed_from_where_it_was_last_seen(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    seen = [FrameResult(1, k, RunLengthMask.encode(MASKS[k]), 0.9, False) for k in (1, 2, 3)]
    hidden = [FrameResult(1, k, EMPTY, 0.8, False) for k in (4, 5)]
    session.restore([true_mask(0)], [*seen, *hidden])
    assert [result.frame_index for result in played(session, true_mask(0))] == [0, 6, 7, 8, 9, 10, 11]
    assert not session.results(1)[5].mask.area_px
    assert iou(session.results(1)[6].mask.decode(), MASKS[6]) > 0.8


def test_frames_known_to_be_unreadable_are_not_tried_again(method: Method) -> None:
    frames = ArrayFrames(IMAGES, broken=frozenset({2}))
    session = Session(frames, method)
    session.restore([true_mask(0)], [FrameResult(1, 1, RunLengthMask.encode(MASKS[1]), 0.9, False)], unreadable=[2])
    assert session.stale_frames(1) == (0, *range(3, N_FRAMES))
    assert {result.frame_index for result in played(session, true_mask(0))} == {0, *range(3, N_FRAMES)}


def test_masks_without_prompts_are_refused(method: Method) -> None:
    session = Session(ArrayFrames(IMAGES), method)
    with pytest.raises(ValueError, match=r"masks of objects \[2\] arrived, but the prompts are of objects \[1\]"):
        session.restore([true_mask(0)], [FrameResult(2, 1, EMPTY, 0.9, False)])
    with pytest.raises(ValueError, match="the clip has frames 0 to 11"):
        session.restore([MaskPrompt(1, 12, EMPTY)], [])
    assert session.object_ids() == ()
