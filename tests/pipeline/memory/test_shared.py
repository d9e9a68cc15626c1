"""One key per cell for all objects, a value per object; each reads only where it is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipeline.memory import shared
from pipeline.memory.shared import SharedMemory

N_CHANNELS, N_CELLS = 8, 30


def keys(seed: int, n_cells: int = N_CELLS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn((N_CHANNELS, n_cells), generator=generator), dim=0)


def value(seed: int) -> torch.Tensor:
    return (torch.rand(N_CELLS, generator=torch.Generator().manual_seed(seed)) > 0.7).float()


def by_hand(
    query: torch.Tensor, memory: dict[int, torch.Tensor], values: dict[int, torch.Tensor], temperature: float
) -> torch.Tensor:
    """Eq. 3.9 to 3.11 over the frames the object is known on, with object and others balanced."""
    cells = torch.cat([memory[frame] for frame in sorted(values)], dim=1)
    shares = torch.cat([values[frame] for frame in sorted(values)])
    weights = torch.softmax(cells.T @ query / temperature, dim=0)
    of_object = shares @ weights
    ratio = ((len(shares) - shares.sum()) / shares.sum()) ** shared.BALANCE
    return of_object * ratio / (of_object * ratio + 1 - of_object)


def test_reading_is_the_softmax_over_the_frames_on_which_each_object_is_known() -> None:
    memory = {3: keys(1), 9: keys(2), 20: keys(3)}
    rows = [{3: value(1), 9: value(2), 20: value(3)}, {9: value(4)}, {3: value(5), 20: value(6)}]
    query = keys(4, n_cells=17)
    found = shared.read(query, memory, rows, 0.1)
    assert found.shape == (3, 17)
    for row, values in enumerate(rows):
        torch.testing.assert_close(found[row], by_hand(query, memory, values, 0.1))


def test_one_affinity_serves_all_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    affinity = shared.affinity
    monkeypatch.setattr(shared, "affinity", lambda m, q: shapes.append((m.shape[1], q.shape[1])) or affinity(m, q))
    rows = [{3: value(seed), 9: value(seed + 50)} for seed in range(10)]
    shared.read(keys(4), {3: keys(1), 9: keys(2)}, rows, 0.1)
    assert shapes == [(2 * N_CELLS, N_CELLS)]


def test_another_object_changes_nothing() -> None:
    memory, row = {3: keys(1), 9: keys(2)}, {3: value(1)}
    alone = shared.read(keys(4), memory, [row], 0.05)
    together = shared.read(keys(4), memory, [{9: value(7)}, row], 0.05)
    torch.testing.assert_close(together[1], alone[0])


def test_what_is_known_nowhere_is_undecided() -> None:
    assert (shared.read(keys(4), {}, [{}, {}], 0.1) == 0.5).all()
    torch.testing.assert_close(shared.read(keys(4), {3: keys(1)}, [{3: value(1)}, {}], 0.1)[1], torch.full((30,), 0.5))


def test_the_coldest_softmax_still_answers_the_least_alike() -> None:
    direction = F.normalize(torch.ones((N_CHANNELS, 1)), dim=0)
    found = shared.read(-direction, {0: torch.cat([direction, direction], dim=1)}, [{0: torch.ones(2)}], 0.0)
    assert float(found[0, 0]) > 0.99


def test_keys_are_kept_while_an_object_needs_them() -> None:
    memory = SharedMemory(1.0)
    memory.store(4, keys(1), 1, value(1))
    memory.store(4, keys(9), 2, value(2))
    memory.store(7, keys(2), 1, value(3))
    torch.testing.assert_close(memory.keys(4), keys(1))
    assert (memory.frames_of(1), memory.frames_of(2), memory.frames_of(3)) == ((4, 7), (4,), ())
    memory.keep_only(1, [7])
    assert 4 in memory
    memory.forget(2)
    assert 4 not in memory
    assert memory.frames_of(1) == (7,)
    memory.forget(1)
    assert memory.nbytes == 0


def test_the_bound_drops_the_frames_stored_longest_ago() -> None:
    frame_bytes = 4 * N_CELLS * (N_CHANNELS + 1)
    memory = SharedMemory(2.5 * frame_bytes / 2**20)
    for frame in (8, 2, 5, 1):
        memory.store(frame, keys(frame), 1, value(frame))
        assert memory.nbytes <= 2.5 * frame_bytes
    assert memory.frames_of(1) == (1, 5)
    tight = SharedMemory(1e-6)
    tight.store(3, keys(1), 1, value(1))
    assert tight.frames_of(1) == (3,)


def test_a_bound_is_needed() -> None:
    with pytest.raises(ValueError, match="positive bound in MiB, but got 0"):
        SharedMemory(0)
