"""I-PT's Eq. 3 to 6 equal loops that say what the equations say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.memory import crstm


def naive_read(
    memory: tuple[torch.Tensor, torch.Tensor, torch.Tensor], top_k: int, temperature: float = 1.0
) -> NDArray[np.float64]:
    keys_memory, values, keys_query = (tensor.double().numpy() for tensor in memory)
    answer = np.zeros((values.shape[0], keys_query.shape[1]))
    for query in range(keys_query.shape[1]):
        scores = [-float(((key - keys_query[:, query]) ** 2).sum()) / temperature for key in keys_memory.T]
        best = sorted(range(len(scores)), key=lambda cell: -scores[cell])[:top_k]
        greatest = max(scores[cell] for cell in best)
        weights = {cell: math.exp(scores[cell] - greatest) for cell in best}
        for cell, weight in weights.items():
            answer[:, query] += weight / sum(weights.values()) * values[:, cell]
    return answer


def random_memory(
    n_memory: int, n_queries: int, scale: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Memory keys, values and query keys."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn((5, n_memory), generator=generator) * scale
    values = torch.randn((3, n_memory), generator=generator)
    return keys, values, torch.randn((5, n_queries), generator=generator) * scale


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 50), st.sampled_from([0.1, 1.0]), st.integers(0, 99))
def test_reading_equals_the_loop(n_memory: int, n_queries: int, top_k: int, scale: float, seed: int) -> None:
    memory = random_memory(n_memory, n_queries, scale, seed)
    found = crstm.read(*memory, top_k=top_k)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), naive_read(memory, top_k), atol=1e-4)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 16.0])
def test_a_temperature_divides_the_affinities(temperature: float) -> None:
    memory = random_memory(40, 9, 2.0, 3)
    found = crstm.read(*memory, top_k=20, temperature=temperature)
    np.testing.assert_allclose(found.numpy(), naive_read(memory, 20, temperature), atol=1e-4)
    with pytest.raises(ValueError, match="temperature above 0"):
        crstm.read(*memory, top_k=20, temperature=0.0)


def test_effective_cells_are_counted_by_entropy() -> None:
    near, far = torch.zeros((4, 5)), torch.full((4, 3), 9.0)
    assert crstm.effective_cells(torch.cat([near, far], 1), torch.zeros((4, 2)), 20) == pytest.approx(5.0)
    assert crstm.effective_cells(torch.cat([near, far], 1), torch.zeros((4, 2)), 3) == pytest.approx(3.0)


def test_one_cell_answers_for_long_keys_and_many_at_a_temperature_of_their_scale() -> None:
    """Keys as a layer normalisation of 256 channels gives them, of which every one has near and far neighbours."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn((256, 40), generator=generator).repeat(1, 25)
    keys, queries = (centres + 0.5 * torch.randn(centres.shape, generator=generator) for _ in range(2))
    keys, queries = (torch.nn.functional.layer_norm(each.T, (256,)).T for each in (keys, queries))
    assert crstm.effective_cells(keys, queries, 20) < 2.5
    assert crstm.effective_cells(keys, queries, 20, 16.0) > 15


@pytest.mark.parametrize("top_k", [7, 200])
@pytest.mark.parametrize("per_chunk", [1, 3, 10, 11])
def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch, per_chunk: int, top_k: int) -> None:
    """10 queries, in chunks that divide them, do not, hold all, and hold more."""
    memory = random_memory(100, 10, 1.0, 1)
    one_query_bytes = 4 * (200 + (7 * 7 if top_k == 7 else 3))
    monkeypatch.setattr(crstm, "CHUNK_BYTES", per_chunk * one_query_bytes)
    assert crstm.queries_per_chunk(100, 3, top_k) == per_chunk
    np.testing.assert_allclose(crstm.read(*memory, top_k=top_k).numpy(), naive_read(memory, top_k), atol=1e-4)


def test_affinity_equals_the_loop() -> None:
    keys, _, queries = random_memory(20, 6, 3.0, 0)
    differences = keys.double()[:, :, None] - queries.double()[:, None, :]
    wanted = -(differences**2).sum(0)
    torch.testing.assert_close(crstm.affinity(keys, queries).double(), wanted, atol=1e-3, rtol=1e-5)
    assert (crstm.affinity(keys, keys) <= 0).all()


def test_far_away_memory_is_read_without_overflow() -> None:
    """All affinities near -1e8: exp of them is 0, their softmax is not."""
    keys = torch.tensor([[1e4, 1e4 + 1]])
    found = crstm.read(keys, torch.tensor([[2.0, 4.0]]), torch.zeros((1, 1)), 2)
    assert found.item() == pytest.approx(2.0)


def test_a_large_memory_is_read_within_the_bound() -> None:
    per_chunk = crstm.queries_per_chunk(32 * 4096, 256, 20)
    assert per_chunk > 1
    assert per_chunk * 4 * (2 * 32 * 4096 + 20 * 256) <= crstm.CHUNK_BYTES


@pytest.mark.parametrize(
    ("prompted_frames", "wanted"), [(1, 0.1824255), (4, 0.5), (6, 0.7310586), (8, 0.8807971), (20, 0.9996646)]
)
def test_alpha(prompted_frames: int, wanted: float) -> None:
    assert crstm.alpha(prompted_frames) == pytest.approx(wanted)


def test_alpha_of_fewer_rounds() -> None:
    assert crstm.alpha(2, total_rounds=4) == 0.5


@pytest.mark.parametrize(
    ("shapes", "top_k", "message"),
    [
        (((4, 6), (2, 6), (3, 5)), 1, "expected keys"),
        (((4, 6), (2, 7), (4, 5)), 1, "expected keys"),
        (((4, 0), (2, 0), (4, 5)), 1, "at least 1 cell"),
        (((4, 6), (2, 6), (4, 5)), 0, "top_k >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(shapes: tuple[tuple[int, int], ...], top_k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crstm.read(torch.zeros(shapes[0]), torch.zeros(shapes[1]), torch.zeros(shapes[2]), top_k)


@pytest.mark.parametrize("numbers", [(0, 8), (1, 0)])
def test_alpha_needs_a_prompted_frame_and_a_round(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 prompted frame and 1 round"):
        crstm.alpha(*numbers)
