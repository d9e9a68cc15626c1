"""What the bank keeps, what it forgets, and how much it holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.memory import crstm
from pipeline.memory.bank import MemoryBank
from pipeline.segmenters.base import MemoryEntry, MemoryQuery

CELLS = 1024
ENTRY_MIB = 8 * CELLS * 4 / 2**20


def entry(seed: int, cells: int = CELLS) -> MemoryEntry:
    """4 + 4 channels."""
    generator = torch.Generator().manual_seed(seed)
    return MemoryEntry(torch.randn((4, cells), generator=generator), torch.randn((4, cells), generator=generator))


def filled(limit_entries: float, stored: list[tuple[int, bool]]) -> MemoryBank:
    bank = MemoryBank(limit_entries * ENTRY_MIB)
    for frame_index, interaction in stored:
        bank.store(frame_index, entry(frame_index), interaction)
    return bank


def query(n_queries: int = 9, channels: int = 4) -> MemoryQuery:
    return MemoryQuery(torch.randn((channels, n_queries), generator=torch.Generator().manual_seed(77)))


def assert_reads(bank: MemoryBank, frame_indices: list[int]) -> None:
    """The bank answers as if it held just these frames."""
    entries = [entry(index) for index in frame_indices]
    keys, values = torch.cat([e.keys for e in entries], 1), torch.cat([e.values for e in entries], 1)
    found = bank.read(query(), 5, 0.25)
    assert found is not None
    assert found.alpha == 0.25
    torch.testing.assert_close(found.values, crstm.read(keys, values, query().keys, 5))


def test_an_empty_bank_says_nothing() -> None:
    bank = MemoryBank(1)
    assert bank.read(query(), 5, 0.5) is None
    assert bank.nbytes == 0
    bank.store(3, entry(3, cells=0), interaction=True)
    assert bank.read(query(), 5, 0.5) is None
    bank.store(4, entry(4), interaction=False)
    assert_reads(bank, [4])


def test_an_entry_without_cells_is_not_stored_and_takes_the_place_of_an_earlier_one() -> None:
    bank = filled(10, [(0, True), (1, False)])
    nothing = MemoryEntry(torch.zeros((2, 0)), torch.zeros((3, 0)))
    bank.store(2, nothing, interaction=True)
    assert_reads(bank, [0, 1])
    assert bank.interaction_frames == (0,)
    bank.store(0, nothing, interaction=True)
    assert_reads(bank, [1])


def test_reading_follows_every_change() -> None:
    bank = filled(10, [(0, True), (1, False), (2, False)])
    assert_reads(bank, [0, 1, 2])
    bank.store(3, entry(3), interaction=False)
    assert_reads(bank, [0, 1, 2, 3])
    bank.forget(1)
    assert_reads(bank, [0, 2, 3])
    bank.store(2, entry(20), interaction=False)
    assert_reads(bank, [0, 3, 20])
    bank.clear(range(10))
    assert_reads(bank, [0])
    bank.forget(99)
    assert_reads(bank, [0])


def test_clearing_spares_interaction_frames() -> None:
    bank = filled(10, [(0, True), (5, False), (10, True), (15, False), (20, False)])
    bank.clear(range(5, 16))
    assert bank.frame_indices == (0, 10, 20)
    assert bank.interaction_frames == (0, 10)


def test_an_interaction_frame_stays_one_until_forgotten() -> None:
    bank = filled(10, [(5, True), (5, False)])
    assert bank.interaction_frames == (5,)
    bank.forget(5)
    assert not bank.frame_indices
    bank.store(5, entry(5), interaction=False)
    assert not bank.interaction_frames


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ([(0, False), (1, False), (2, False), (3, False)], (1, 2, 3)),
        ([(0, True), (1, False), (2, False), (3, False)], (0, 2, 3)),
        ([(0, True), (1, True), (2, True), (3, False)], (1, 2, 3)),
        ([(0, True), (1, True), (2, True), (3, True)], (1, 2, 3)),
        ([(0, False), (1, False), (2, False), (0, False), (3, False)], (2, 0, 3)),
    ],
    ids=["oldest first", "interaction frames last", "only they left", "oldest of them", "storing again renews"],
)
def test_who_goes_when_it_is_full(stored: list[tuple[int, bool]], kept: tuple[int, ...]) -> None:
    bank = filled(3, stored)
    assert bank.frame_indices == kept
    assert_reads(bank, list(kept))


def test_the_newest_stays_even_if_it_is_too_large() -> None:
    bank = filled(0.5, [(0, True), (1, False)])
    assert bank.frame_indices == (1,)
    assert_reads(bank, [1])


def held_bytes(bank: MemoryBank) -> int:
    """What the bank's tensors really occupy, joined ones and views included, each storage once."""
    entries = [each.entry for each in bank._stored.values()]
    tensors = [tensor for each in entries for tensor in (each.keys, each.values)] + list(bank._joined or ())
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


actions = st.one_of(
    st.tuples(st.just("store"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("clear"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("forget"), st.integers(0, 9)),
    st.tuples(st.just("read")),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, max_size=25))
def test_the_bound_holds_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    bank = MemoryBank(4.5 * ENTRY_MIB)
    for name, *arguments in steps:
        if name == "store":
            index, interaction = arguments
            bank.store(index, entry(index), interaction)  # type: ignore[arg-type]
            assert index in bank.frame_indices
        elif name == "clear":
            bank.clear(range(*sorted(arguments)))  # type: ignore[call-overload, type-var]
        elif name == "forget":
            bank.forget(arguments[0])  # type: ignore[arg-type]
        else:
            bank.read(query(), 5, 0.5)
        assert bank.nbytes == held_bytes(bank) <= 4.5 * ENTRY_MIB * 2**20


def test_joined_memory_is_used_again() -> None:
    bank = filled(10, [(0, True), (1, False)])
    bank.read(query(), 5, 0.5)
    joined = bank._joined
    bank.read(query(), 5, 0.5)
    assert bank._joined is joined


def test_trailing_channels_can_be_left_out() -> None:
    bank = filled(10, [(0, True), (1, False)])
    found = bank.read(query(channels=2), 5, 0.5)
    keys = torch.cat([entry(0).keys, entry(1).keys], 1)[:2]
    values = torch.cat([entry(0).values, entry(1).values], 1)
    assert found is not None
    torch.testing.assert_close(found.values, crstm.read(keys, values, query(channels=2).keys, 5))


def test_a_bank_needs_room() -> None:
    with pytest.raises(ValueError, match="positive bound"):
        MemoryBank(0)
