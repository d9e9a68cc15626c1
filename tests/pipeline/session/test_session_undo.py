"""Prompts that are taken away bring earlier masks back; saved sessions continue in another process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.methods.base import Method
from pipeline.session.session import Session
from pipeline.types import BoolMask, BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask
from tests.built_methods import built
from tests.pipeline.frame_sources import ArrayFrames, moving_square

N_FRAMES = 9
IMAGES, MASKS = moving_square(N_FRAMES)


@dataclass
class Played:
    """A session with the counts of frames it read."""

    session: Session
    frames: ArrayFrames

    def round(self, *prompts: Prompt, objects: tuple[int, ...] = (1,)) -> set[int]:
        """Play a round; returns the frames that were reported."""
        return {result.frame_index for result in self.session.run_round(prompts, object_ids=objects)}

    def masks(self, object_id: int = 1) -> dict[int, RunLengthMask]:
        return {result.frame_index: result.mask for result in self.session.results(object_id)}


@pytest.fixture
def played(method: Method) -> Played:
    frames = ArrayFrames(IMAGES)
    return Played(Session(frames, method), frames)


@pytest.fixture
def learning() -> Played:
    """With the segmenter that learns from every prompt."""
    frames = ArrayFrames(IMAGES)
    return Played(Session(frames, built(embedding_ram_mib=64)), frames)


def true_mask(frame_index: int, object_id: int = 1, mask: BoolMask | None = None) -> Prompt:
    return MaskPrompt(object_id, frame_index, RunLengthMask.encode(MASKS[frame_index] if mask is None else mask))


def wrong(frame_index: int) -> Prompt:
    mask = np.zeros_like(MASKS[0])
    mask[5:40, 100:150] = True
    return true_mask(frame_index, mask=mask)


def test_undo_brings_the_earlier_masks_back_without_computing(played: Played) -> None:
    played.round(true_mask(0))
    before, results = played.masks(), played.session.results(1)
    played.round(true_mask(0), wrong(6))
    assert played.masks() != before
    reads = list(played.frames.reads)
    reported = played.round(true_mask(0))
    assert played.frames.reads == reads, "no frame is read for masks that were known"
    assert played.session.results(1) == results
    assert 6 in reported
    assert reported == {f for f in range(N_FRAMES) if f > 0}


def test_redo_brings_the_undone_masks_back(played: Played) -> None:
    played.round(true_mask(0))
    played.round(true_mask(0), wrong(6))
    undone = played.session.results(1)
    played.round(true_mask(0))
    reads = list(played.frames.reads)
    played.round(true_mask(0), wrong(6))
    assert played.session.results(1) == undone
    assert played.frames.reads == reads


def test_a_new_prompt_after_undo_builds_on_the_earlier_masks(played: Played, method: Method) -> None:
    played.round(true_mask(0))
    played.round(true_mask(0), wrong(4))
    played.round(true_mask(0), true_mask(8))
    straight = Played(Session(ArrayFrames(IMAGES), method), played.frames)
    straight.round(true_mask(0))
    straight.round(true_mask(0), true_mask(8))
    assert played.masks() == straight.masks()


def test_a_click_taken_away_on_the_same_frame_gives_that_frame_its_earlier_mask(learning: Played) -> None:
    box = BoxPrompt(1, 3, (27.0, 38.0, 72.0, 82.0))
    learning.round(box)
    before = learning.masks()
    learning.round(box, PointPrompt(1, 3, 45, 60, positive=False))
    assert learning.masks()[3] != before[3]
    learning.round(box)
    assert learning.masks() == before


def test_a_removed_object_comes_back_with_its_prompts(learning: Played) -> None:
    top = MASKS[0].copy()
    top[60:] = False
    learning.round(true_mask(0))
    learning.round(true_mask(0, 2, top), objects=(2,))
    first, second = learning.masks(1), learning.masks(2)
    learning.round(objects=(2,))
    assert not any(mask.area_px for mask in learning.masks(2).values())
    assert learning.masks(1) != first
    learning.round(true_mask(0, 2, top), objects=(2,))
    assert (learning.masks(1), learning.masks(2)) == (first, second)


def test_prompts_of_which_nothing_is_left_leave_no_hint_behind(learning: Played) -> None:
    learning.round(wrong(0))
    box = BoxPrompt(1, 4, (30.0, 38.0, 75.0, 82.0))
    learning.round(box)
    fresh = Played(Session(ArrayFrames(IMAGES), built()), learning.frames)
    fresh.round(box)
    assert learning.masks() == fresh.masks()


def test_prompted_frames_share_no_pixel_and_a_click_decides_who_owns_them(played: Played) -> None:
    left, right = np.zeros_like(MASKS[0]), np.zeros_like(MASKS[0])
    left[40:80, 20:70], right[40:80, 50:100] = True, True
    prompts = [true_mask(0, 1, left), true_mask(0, 2, right)]
    played.round(*prompts, objects=(1, 2))
    shared = left & right
    one, two = played.masks(1)[0].decode(), played.masks(2)[0].decode()
    assert not (one & two).any()
    assert np.array_equal(one | two, left | right)
    owner, other = (one, 2) if (one & shared).any() else (two, 1)
    assert (owner & shared).any()
    session = Session(ArrayFrames(IMAGES), built())
    clicked = [PointPrompt(other, 0, 60, 60), true_mask(0, other, left if other == 1 else right)]
    for object_id in (1, 2):
        mine = clicked if object_id == other else [true_mask(0, object_id, left if object_id == 1 else right)]
        list(session.run_round(mine, object_ids=[object_id]))
    assert session.results(other)[0].mask.decode()[60, 60]
    assert not session.results(3 - other)[0].mask.decode()[60, 60]


def test_a_session_comes_back_as_it_was(played: Played, method: Method) -> None:
    box = BoxPrompt(1, 3, (27.0, 38.0, 72.0, 82.0))
    top = MASKS[0].copy()
    top[60:] = False
    played.round(box, true_mask(0, 2, top), objects=(1, 2))
    frames = ArrayFrames(IMAGES)
    again = Played(Session(frames, method), frames)
    again.session.resume(played.session.saved().values())
    for object_id in (1, 2):
        assert again.session.results(object_id) == played.session.results(object_id)
        assert again.session.prompts(object_id) == played.session.prompts(object_id)
    reads = list(frames.reads)
    assert again.round(box) == set()
    assert frames.reads == reads
    more = PointPrompt(1, 8, float(np.nonzero(MASKS[8])[1].mean()), 60)
    assert again.round(box, more) == played.round(box, more)
    assert again.masks(1).keys() == played.masks(1).keys()
    assert again.session.saved().keys() == {1, 2}


def test_a_stopped_session_comes_back_and_does_only_the_rest(played: Played, method: Method) -> None:
    running = played.session.run_round([true_mask(4)], object_ids=[1])
    done = {next(running).frame_index for _ in range(5)}
    running.close()  # type: ignore[attr-defined]
    saved = played.session.saved()[1]
    again = Played(Session(ArrayFrames(IMAGES), method), played.frames)
    again.session.resume([saved])
    assert again.round(true_mask(4)) == set(range(N_FRAMES)) - done
    assert again.session.stale_frames(1) == ()


def test_a_state_of_another_video_is_refused(played: Played, method: Method) -> None:
    played.round(true_mask(4))
    saved = played.session.saved()[1]
    short = Session(ArrayFrames(IMAGES[:6]), method)
    with pytest.raises(ValueError, match="frame 6 is 160x120 px, but the clip has 6 frames"):
        short.resume([saved])
    assert short.object_ids() == ()
