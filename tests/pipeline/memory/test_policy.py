"""What memories of a fixed number of slots keep, whichever policy decides."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

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
