"""The probabilities behind the masks of a session stay within their bound; the masks themselves stay whole."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.session.mask_store import MaskStore
from pipeline.session.next_frame import place_to_look
from pipeline.session.object_state import FrameMask, ObjectState
from tests.pipeline.frame_sources import ArrayFrames, moving_square

IMAGES, MASKS = moving_square(2)
LIMIT_MIB = 0.02


def noisy(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, MASKS[0].shape)
    return np.asarray(np.where(MASKS[0], 1.0, -1.0) + noise, np.float32)


def soft_bytes(store: MaskStore) -> list[int]:
    return [sum(mask.soft_bytes for mask in state.masks.values()) for state in store.objects.values()]


@pytest.fixture
def store() -> MaskStore:
    made = MaskStore(ArrayFrames(IMAGES), probabilities_mib=LIMIT_MIB)
    made.objects.update({object_id: ObjectState(object_id) for object_id in (1, 2)})
    return made


def test_the_oldest_go_first_and_nothing_else_changes(store: MaskStore) -> None:
    found = {}
    for frame_index in range(30):
        for object_id in (1, 2):
            found[object_id, frame_index] = mask = FrameMask.from_logits(noisy(31 * object_id + frame_index), 0.9)
            store.add_masks(frame_index, {object_id: mask})
            assert sum(soft_bytes(store)) <= LIMIT_MIB * 2**20
    one, two = soft_bytes(store)
    assert 0 < one < 3 * two < 9 * one
    for (object_id, frame_index), mask in found.items():
        kept = store.objects[object_id].masks[frame_index]
        assert (kept.raw, kept.score, kept.prompted) == (mask.raw, mask.score, mask.prompted)
    for state in store.objects.values():
        has_soft = [state.masks[frame_index].soft is not None for frame_index in range(30)]
        assert has_soft == sorted(has_soft)


def test_what_fits_stays_as_it_is(store: MaskStore) -> None:
    store.add_masks(0, {1: FrameMask.from_logits(noisy(1), 0.9)})
    before = dict(store.objects[1].masks)
    store.limit_probabilities()
    assert store.objects[1].masks == before
    assert before[0].soft is not None


def test_masks_without_probabilities_still_get_one_owner_and_a_suggestion(store: MaskStore) -> None:
    state = store.objects[1]
    store.add_masks(0, {1: FrameMask.from_logits(noisy(1), 0.9).without_probabilities()})
    store.add_masks(0, {2: FrameMask.from_logits(noisy(2), 0.5).without_probabilities()})
    shown = [store.objects[i].masks[0].resolved.decode() for i in (1, 2)]
    assert not (shown[0] & shown[1]).any()
    place = place_to_look(store, 0, 1, 1.0)
    assert state.masks[0].raw.decode()[int(place.y_px), int(place.x_px)] == place.positive
