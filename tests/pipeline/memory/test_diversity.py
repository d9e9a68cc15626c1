"""Gram matrices of frames in one frame of reference, and their determinants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.memory import diversity
from pipeline.memory.diversity import RIDGE, FrameKeys


def keys(seed: int, cells: int = 12, channels: int = 5) -> torch.Tensor:
    return F.normalize(torch.randn((channels, cells), generator=torch.Generator().manual_seed(seed)), dim=0)


def naive_transition(keys_memory: torch.Tensor, keys_query: torch.Tensor) -> list[list[int]]:
    """T_n as a matrix, from W = softmax along the memory's cells, cell by cell (Eq. 5.7)."""
    n_memory, n_query = keys_memory.shape[1], keys_query.shape[1]
    weights = torch.softmax(keys_memory.T @ keys_query / 0.035, dim=0).tolist()
    matrix = [[0] * n_query for _ in range(n_memory)]
    for j in range(n_query):
        column = [weights[i][j] for i in range(n_memory)]
        matrix[column.index(max(column))][j] = 1
    return matrix


@pytest.mark.parametrize("seed", range(5))
def test_the_transition_is_the_argmax_along_the_memory_columns_of_w(seed: int) -> None:
    memory, query = keys(seed, cells=9), keys(seed + 100, cells=7)
    matrix = torch.tensor(naive_transition(memory, query), dtype=torch.float32)
    assert matrix.sum(dim=0).tolist() == [1.0] * 7
    assert diversity.transition(memory, query).tolist() == matrix.argmax(dim=0).tolist()
    expected = float(((memory @ matrix).flatten() @ query.flatten()) / 7)
    assert diversity.similarity(query, memory) == pytest.approx(expected, abs=1e-6)


def test_what_only_moved_is_the_same_in_the_querys_frame_of_reference() -> None:
    query = keys(1)
    moved = query.roll(5, dims=1)
    assert float((query * moved).sum()) / 12 < 0.5
    assert diversity.similarity(query, moved) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_no_frame_is_more_similar_than_the_same(seed: int) -> None:
    assert diversity.similarity(keys(seed), keys(seed)) == pytest.approx(1.0, abs=1e-6)
    assert -1.0 <= diversity.similarity(keys(seed), keys(seed + 1)) < 1.0


@given(seed=st.integers(0, 10_000), size=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_the_determinant_is_numpys(seed: int, size: int) -> None:
    columns = np.random.default_rng(seed).standard_normal((20, size))
    matrix = columns.T @ columns / 20
    sign, expected = np.linalg.slogdet(matrix + RIDGE * np.eye(size))
    assert sign == 1
    assert float(diversity.log_determinant(torch.from_numpy(matrix))) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0, 1.2], [1.2, 1.0]],
        [[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]],
    ],
)
def test_similarities_that_do_not_fit_together_have_the_volume_of_the_nearest_that_do(
    matrix: list[list[float]],
) -> None:
    array = np.array(matrix)
    eigenvalues, vectors = np.linalg.eigh(array)
    assert eigenvalues.min() < 0
    nearest = vectors @ np.diag(np.maximum(eigenvalues, 0)) @ vectors.T
    expected = np.linalg.slogdet(nearest + RIDGE * np.eye(len(array)))[1]
    both = torch.from_numpy(np.stack([array, np.eye(len(array))]))
    found = diversity.log_determinant(both)
    np.testing.assert_allclose(found.numpy(), [expected, len(array) * np.log1p(RIDGE)], atol=1e-6)
    assert found[0] < found[1], "and less than that of frames that have nothing in common"


def test_two_equal_frames_leave_a_small_volume_and_not_none() -> None:
    log_det = float(diversity.log_determinant(torch.ones((2, 2), dtype=torch.float64)))
    assert log_det == pytest.approx(np.log(2 * RIDGE + RIDGE**2))


def test_coarser_keys_are_of_unit_length_on_a_smaller_grid() -> None:
    coarse_hw = diversity.coarse_grid_hw((6, 10), 5)
    assert coarse_hw == (3, 5)
    coarse = diversity.coarser(keys(3, cells=6 * 10), (6, 10), coarse_hw)
    assert coarse.shape == (5, 3 * 5)
    torch.testing.assert_close(coarse.norm(dim=0), torch.ones(15))


def test_a_grid_that_is_coarse_enough_stays() -> None:
    small = keys(4, cells=6 * 10)
    assert diversity.coarse_grid_hw((6, 10), 10) == (6, 10)
    assert diversity.coarser(small, (6, 10), (6, 10)) is small


def frame_keys(columns: list[int], shares: list[float]) -> FrameKeys:
    """Cells whose keys are axes of a space: two cells are alike if they have the same axis."""
    return FrameKeys(torch.eye(8)[:, columns], torch.tensor(shares))


@pytest.mark.parametrize(
    ("columns", "shares", "similarity"),
    [
        ([0, 1, 2, 3], [1.0, 1.0, 0.0, 0.0], 1.0),
        ([2, 3, 1, 0], [0.0, 0.0, 1.0, 1.0], 1.0),
        ([4, 5, 6, 7], [1.0, 1.0, 0.0, 0.0], 0.0),
        ([0, 1, 2, 3], [0.0, 0.0, 1.0, 1.0], 0.0),
        ([0, 5, 2, 3], [1.0, 1.0, 0.0, 0.0], 0.5),
        ([0, 1, 4, 5], [1.0, 1.0, 1.0, 1.0], 0.5),
        ([0, 1, 2, 3], [0.2, 0.2, 0.0, 0.0], 1.0),
        ([0, 1, 2, 3], [0.0, 0.0, 0.0, 0.0], -1.0),
    ],
    ids=["same", "moved", "elsewhere", "other cells", "half changed", "more than the object", "small", "none"],
)
def test_objects_are_alike_whatever_is_around_them(columns: list[int], shares: list[float], similarity: float) -> None:
    first = frame_keys([0, 1, 2, 3], [1.0, 1.0, 0.0, 0.0])
    other = frame_keys(columns, shares)
    assert diversity.object_similarity(first, other) == pytest.approx(similarity)
    assert diversity.object_similarity(other, first) == pytest.approx(similarity)
