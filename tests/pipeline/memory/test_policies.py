"""Memory policies: what stays in a fixed number of slots; READMem only becomes more diverse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.memory import diversity
from pipeline.memory.diversity import FrameKeys
from pipeline.memory.policies import MAX_PINNED, FirstInFirstOut, MemoryPolicy, ReadMem
from pipeline.memory.policy_settings import POLICIES, build_policy, check_policy

CELLS, CHANNELS = 6, 8


KEY_BYTES = CELLS * (CHANNELS + 1) * 4


def keys(seed: int) -> FrameKeys:
    """A frame that the object fills."""
    columns = torch.randn((CHANNELS, CELLS), generator=torch.Generator().manual_seed(seed))
    return FrameKeys(F.normalize(columns, dim=0), torch.ones(CELLS))


def policy_of(name: str, slots: int) -> MemoryPolicy:
    """A policy to which every frame looks like the prompted one."""
    return build_policy(name, slots, -1.0)


@pytest.mark.parametrize("name", POLICIES)
def test_the_names_are_known(name: str) -> None:
    assert isinstance(build_policy(name, 3, 0.5), {"fifo": FirstInFirstOut, "readmem": ReadMem}[name])


@pytest.mark.parametrize(
    ("name", "slots", "bound", "said"),
    [
        ("lifo", 3, 0.5, "unknown memory policy 'lifo'; known are fifo, readmem"),
        ("fifo", -1, 0.5, "cannot have -1 slots"),
        ("readmem", 3, 1.5, r"in \[-1, 1\], but got 1.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name: str, slots: int, bound: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_policy(name, slots, bound)


def test_first_in_first_out() -> None:
    policy = policy_of("fifo", 3)
    assert all(policy.offer(frame, keys(frame)) for frame in range(5))
    assert policy.kept == (2, 3, 4)
    assert policy.offer(3, keys(3))
    assert policy.kept == (2, 4, 3)


@pytest.mark.parametrize("name", POLICIES)
def test_never_more_frames_than_slots_and_never_more_bytes(name: str) -> None:
    policy = policy_of(name, 4)
    for frame in range(60):
        if frame % 3 == 0:
            policy.pin(1000 + frame, keys(1000 + frame))
        policy.offer(frame, keys(frame))
        assert len(policy.kept) <= 4
        assert policy.nbytes <= (4 + MAX_PINNED) * KEY_BYTES
    assert len(policy.kept) == 4
    assert policy.nbytes == (4 + MAX_PINNED) * KEY_BYTES


@pytest.mark.parametrize("name", POLICIES)
def test_without_slots_nothing_is_kept(name: str) -> None:
    policy = policy_of(name, 0)
    policy.pin(0, keys(0))
    assert not policy.offer(1, keys(1))
    assert policy.kept == ()
    assert policy.log_det is None


@pytest.mark.parametrize("name", POLICIES)
def test_a_prompted_frame_takes_no_slot_and_is_not_offered(name: str) -> None:
    policy = policy_of(name, 2)
    policy.offer(0, keys(0))
    policy.pin(0, keys(0))
    assert policy.kept == ()
    assert not policy.offer(0, keys(0))
    assert policy.offer(1, keys(1))
    assert policy.offer(2, keys(2))
    assert policy.kept == (1, 2)


@pytest.mark.parametrize("name", POLICIES)
def test_discarded_frames_make_room(name: str) -> None:
    policy = policy_of(name, 2)
    policy.pin(9, keys(9))
    for frame in (0, 1):
        policy.offer(frame, keys(frame))
    policy.discard([0, 9, 77])
    assert policy.kept == (1,)
    assert policy.offer(2, keys(1))
    assert policy.kept == (1, 2)
    policy.discard([1])
    assert policy.offer(9, keys(9)), "it is not prompted any more"
    assert policy.kept == (2, 9)


@pytest.mark.parametrize("name", POLICIES)
def test_diversity_is_measured_once_all_slots_are_taken(name: str) -> None:
    policy = policy_of(name, 2)
    policy.pin(9, keys(9))
    policy.offer(0, keys(0))
    assert policy.log_det is None
    policy.offer(1, keys(1))
    assert policy.log_det is not None
    assert policy.log_det < 0


def test_both_policies_measure_the_same_memory_alike() -> None:
    found = []
    for name in POLICIES:
        policy = policy_of(name, 3)
        policy.pin(9, keys(9))
        for frame in range(3):
            policy.offer(frame, keys(frame))
        found.append(policy.log_det)
    assert found[0] == found[1]


READMEM_CHANNELS = 6


def filled(columns: torch.Tensor) -> FrameKeys:
    """A frame that the object fills."""
    return FrameKeys(F.normalize(columns, dim=0), torch.ones(columns.shape[1]))


def random_keys(seed: int, cells: int = 1) -> FrameKeys:
    return filled(torch.randn((READMEM_CHANNELS, cells), generator=torch.Generator().manual_seed(seed)))


def angle(degrees: float) -> FrameKeys:
    """One cell whose key lies at an angle in a plane: similarity is the cosine of the difference."""
    radians = np.deg2rad(degrees)
    return filled(torch.tensor([[np.cos(radians)], [np.sin(radians)]], dtype=torch.float32))


def volume(frames: list[FrameKeys]) -> float:
    """ln of the Gram determinant by numpy, of frames in the order in which they came."""
    matrix = np.eye(len(frames))
    for (i, earlier), (j, later) in itertools.combinations(enumerate(frames), 2):
        matrix[i, j] = matrix[j, i] = diversity.similarity(later.keys, earlier.keys)
    return float(np.log(np.maximum(np.linalg.eigvalsh(matrix), 0) + diversity.RIDGE).sum())


def test_until_the_slots_are_taken_every_similar_frame_enters() -> None:
    policy = ReadMem(3, 0.5)
    policy.pin(0, angle(0))
    offered = {1: 0.0, 2: 80.0, 3: 0.0, 4: 59.0, 5: 61.0}
    taken = [frame for frame, degrees in offered.items() if policy.offer(frame, angle(degrees))]
    assert taken == [1, 3, 4]
    assert policy.kept == (1, 3, 4)


@pytest.mark.parametrize(("degrees", "enters"), [(59.0, True), (61.0, False), (180.0, False)])
def test_a_frame_unlike_the_prompted_one_never_enters(degrees: float, enters: bool) -> None:
    policy = ReadMem(1, 0.5)
    policy.pin(0, angle(0))
    policy.offer(1, angle(1))
    assert policy.offer(2, angle(degrees)) is enters


def test_the_most_similar_of_several_prompted_frames_decides() -> None:
    policy = ReadMem(1, 0.5)
    policy.pin(0, angle(0))
    assert not policy.offer(1, angle(100))
    policy.pin(5, angle(90))
    assert policy.offer(1, angle(100))


def test_a_frame_that_does_not_show_the_object_never_enters() -> None:
    policy = ReadMem(3, 0.5)
    policy.pin(0, random_keys(0, cells=4))
    assert policy.offer(1, random_keys(0, cells=4))
    assert not policy.offer(2, FrameKeys(random_keys(0, cells=4).keys, torch.zeros(4)))


def test_the_frame_that_tells_least_makes_room() -> None:
    policy = ReadMem(2, -1.0)
    policy.pin(0, filled(torch.eye(4)[:, :1]))
    for frame, column in ((1, [1.0, 0.1, 0.0, 0.0]), (2, [0.0, 0.0, 1.0, 0.0])):
        policy.offer(frame, filled(torch.tensor(column)[:, None]))
    assert policy.offer(3, filled(torch.eye(4)[:, 3:]))
    assert policy.kept == (2, 3)
    assert not policy.offer(4, filled(torch.tensor([[1.0], [0.05], [0.05], [0.0]])))
    assert policy.kept == (2, 3)


def test_prompted_frames_never_make_room() -> None:
    policy = ReadMem(2, -1.0)
    pinned = [angle(0), angle(0.5)]
    for frame, each in enumerate(pinned):
        policy.pin(frame, each)
    for frame in range(2, 40):
        policy.offer(frame, angle(frame * 7))
    kept = policy.kept
    assert len(kept) == 2
    assert not set(kept) & {0, 1}
    policy.discard([0, 1])
    assert policy.kept == kept


@given(seeds=st.lists(st.integers(0, 40), min_size=1, max_size=25), slots=st.integers(1, 5), cells=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_the_determinant_never_falls_once_the_slots_are_taken(seeds: list[int], slots: int, cells: int) -> None:
    policy = ReadMem(slots, -1.0)
    policy.pin(-1, random_keys(-1, cells))
    log_dets = []
    for frame, seed in enumerate(seeds):
        policy.offer(frame, random_keys(seed, cells))
        if policy.log_det is not None:
            log_dets.append(policy.log_det)
    assert all(later >= earlier for earlier, later in itertools.pairwise(log_dets))
    assert len(log_dets) == max(0, len(seeds) - slots + 1)


@given(seeds=st.lists(st.integers(0, 40), min_size=4, max_size=12), slots=st.integers(1, 3), cells=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_the_best_exchange_is_made(seeds: list[int], slots: int, cells: int) -> None:
    frames = {frame: random_keys(seed, cells) for frame, seed in enumerate(seeds)}
    pinned = random_keys(99, cells)
    policy = ReadMem(slots, -1.0)
    policy.pin(-1, pinned)
    for frame in frames:
        before = policy.kept
        policy.offer(frame, frames[frame])
        if len(before) < slots:
            assert policy.kept == (*before, frame)
            continue
        choices = [before, *((*(k for k in before if k != out), frame) for out in before)]
        volumes = [volume([pinned, *(frames[k] for k in choice)]) for choice in choices]
        found = volume([pinned, *(frames[k] for k in policy.kept)])
        # Equal frames leave a determinant as small as the ridge, where rounding shows.
        assert found == pytest.approx(max(volumes), abs=5e-3)
        assert policy.log_det == pytest.approx(found, abs=5e-3)


def test_an_offer_costs_the_same_however_many_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    similarity = diversity.similarity
    monkeypatch.setattr(diversity, "similarity", lambda q, m: calls.append(1) or similarity(q, m))
    policy = ReadMem(4, -1.0)
    policy.pin(0, random_keys(0, cells=5))
    costs = []
    for frame in range(1, 60):
        calls.clear()
        policy.offer(frame, random_keys(frame, cells=5))
        costs.append(len(calls))
    assert costs[:4] == [0] * 4, "nothing is compared until the slots are taken"
    assert costs[5:] == [5] * 54
