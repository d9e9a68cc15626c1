"""The probabilities behind the masks of a session stay within their bound; the masks themselves stay whole."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.session.frame_mask import Known
from pipeline.session.mask_store import Board
from pipeline.session.object_state import ObjectState
from pipeline.video.recent_frames import RecentFrames
from tests.pipeline.frame_sources import ArrayFrames, moving_square

IMAGES, MASKS = moving_square(2)
LIMIT_MIB = 0.02


def noisy(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, MASKS[0].shape)
    return np.asarray(np.where(MASKS[0], 1.0, -1.0) + noise, np.float32)


def soft_bytes(board: Board) -> list[int]:
    return [sum(known.soft_bytes for known in state.known.values()) for state in board.objects.values()]


@pytest.fixture
def board() -> Board:
    made = Board(RecentFrames(ArrayFrames(IMAGES)), soft_mib=LIMIT_MIB)
    made.objects.update({object_id: ObjectState(object_id, 100) for object_id in (1, 2)})
    return made


def test_the_oldest_go_first_and_nothing_else_changes(board: Board) -> None:
    found = {}
    for frame_index in range(30):
        for object_id in (1, 2):
            found[object_id, frame_index] = known = Known.found(noisy(31 * object_id + frame_index), 0.9)
            board.put(frame_index, {object_id: known})
            assert sum(soft_bytes(board)) <= LIMIT_MIB * 2**20
    one, two = soft_bytes(board)
    assert 0 < one < 3 * two < 9 * one
    for (object_id, frame_index), known in found.items():
        kept = board.objects[object_id].known[frame_index]
        assert (kept.own, kept.score, kept.prompted) == (known.own, known.score, known.prompted)
    for state in board.objects.values():
        has_soft = [state.known[frame_index].soft is not None for frame_index in range(30)]
        assert has_soft == sorted(has_soft)


def test_what_fits_stays_as_it_is(board: Board) -> None:
    board.put(0, {1: Known.found(noisy(1), 0.9)})
    before = dict(board.objects[1].known)
    board.drop_surplus()
    assert board.objects[1].known == before
    assert before[0].soft is not None


def test_masks_without_probabilities_still_get_one_owner_and_a_suggestion(board: Board) -> None:
    state = board.objects[1]
    board.put(0, {1: Known.found(noisy(1), 0.9).hard()})
    board.put(0, {2: Known.found(noisy(2), 0.5).hard()})
    shown = [board.objects[i].known[0].shown.decode() for i in (1, 2)]
    assert not (shown[0] & shown[1]).any()
    place = board.suggestion(0, 1, 1.0)
    assert state.known[0].own.decode()[int(place.y_px), int(place.x_px)] == place.positive
