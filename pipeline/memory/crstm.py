"""The cross-round space-time module of I-PT (Sec. III-D): affinity, readout and mixing weight, Eq. 3 to 6."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

CHUNK_BYTES = 64 * 2**20
"""`read` answers as many queries at a time as keep its intermediate results below this; always at least one."""


def affinity(keys_memory: torch.Tensor, keys_query: torch.Tensor) -> torch.Tensor:
    """Eq. 3: S (M, N) float32 in (-inf, 0], the negative squared Euclidean distance of every pair of columns.

    Args:
        keys_memory: (C, M) float32.
        keys_query: (C, N) float32, on the same device.
    """
    # -|m - q|^2 = 2 mq - |m|^2 - |q|^2: one matrix product, no intermediate with all channels of all pairs.
    products = torch.addmm(-_squared_norms(keys_memory), keys_query.T, keys_memory, alpha=2)
    return products.sub_(_squared_norms(keys_query)[:, None]).clamp_(max=0).T


def _squared_norms(columns: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(columns, dim=0)
    return norms.square()


def read(
    keys_memory: torch.Tensor,
    values: torch.Tensor,
    keys_query: torch.Tensor,
    top_k: int,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Eq. 3 to 5: for every query the mean of its ``top_k`` nearest memory values, weighted by softmax of affinity.

    Beside its arguments and its result it needs at most `CHUNK_BYTES`, or what a single query needs where that is more.

    Args:
        keys_memory: (C, M) float32, M >= 1.
        values: (V, M) float32; fastest where its transpose is contiguous.
        keys_query: (C, N) float32.
        top_k: how many memory cells take part, >= 1; M or more means all.
        temperature: affinities are divided by this before the softmax, > 0; 1 is Eq. 4.

    Returns:
        (V, N) float32, on the device of the arguments.

    Raises:
        ValueError: the shapes do not fit, the memory is empty, ``top_k`` is below 1, or the temperature not above 0.
    """
    n_channels, n_memory = keys_memory.shape
    n_queries = keys_query.shape[1]
    if keys_query.shape[0] != n_channels or values.shape[1] != n_memory:
        shapes = [tuple(each.shape) for each in (keys_memory, values, keys_query)]
        raise ValueError(f"expected keys (C, M), values (V, M) and query keys (C, N), but got {shapes}")
    if not n_memory or top_k < 1:
        raise ValueError(f"expected a memory of at least 1 cell and top_k >= 1, but got {n_memory} cells, {top_k=}")
    if temperature <= 0:
        raise ValueError(f"expected a temperature above 0, but got {temperature}")
    answer = torch.empty((n_queries, values.shape[0]), dtype=torch.float32, device=keys_query.device)
    step = queries_per_chunk(n_memory, values.shape[0], top_k)
    with torch.inference_mode():
        by_cell = values.T.contiguous()
        # |q|^2 is left out: a softmax over the memory's cells does not change when all of them get the same number.
        offsets = _squared_norms(keys_memory) / -temperature
        for start in range(0, n_queries, step):
            queries = keys_query[:, start : start + step].T
            scores = torch.addmm(offsets, queries, keys_memory, alpha=2 / temperature)
            answer[start : start + step] = _weighted(by_cell, scores, top_k)
    return answer.T


def effective_cells(keys_memory: torch.Tensor, keys_query: torch.Tensor, top_k: int, temperature: float = 1.0) -> float:
    """How many memory cells share the weight of Eq. 4: exp of its entropy, the mean over all queries.

    1 means that a single cell answers, ``top_k`` that all of them do alike.

    Args:
        keys_memory: (C, M) float32, M >= 1.
        keys_query: (C, N) float32, N >= 1.
        top_k: see `read`.
        temperature: see `read`.
    """
    with torch.inference_mode():
        scores = affinity(keys_memory, keys_query).T / temperature
        weights = torch.softmax(torch.topk(scores, min(top_k, scores.shape[1]), dim=1).values, dim=1)
        return float(torch.special.entr(weights).sum(dim=1).exp().mean())


def queries_per_chunk(n_memory: int, n_values: int, top_k: int) -> int:
    """How many queries `read` answers at a time: all of them need at most `CHUNK_BYTES`, or it is 1."""
    affinities = 2 * n_memory
    gathered = min(top_k, n_memory) * (n_values + 4) if top_k < n_memory else n_values
    return max(1, CHUNK_BYTES // (4 * (affinities + gathered)))


def _weighted(by_cell: torch.Tensor, scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """Eq. 4 and 5 for values (M, V) and scores (N, M): (N, V).

    torch's softmax subtracts the greatest score: nothing overflows.
    """
    if top_k >= scores.shape[1]:
        return torch.softmax(scores, dim=1) @ by_cell
    best, cells = torch.topk(scores, top_k, dim=1, sorted=False)
    weights = torch.softmax(best, dim=1)
    if by_cell.device.type == "mps":
        # Not every version of torch has weighted bags there.
        return torch.bmm(weights[:, None], by_cell[cells])[:, 0]
    # No tensor of all gathered values, which would be many times larger than the result.
    return F.embedding_bag(cells, by_cell, mode="sum", per_sample_weights=weights)


def alpha(prompted_frames: int, total_rounds: int = 8) -> float:
    """Eq. 6: the share in (0, 1) of a frame's own value; it grows as prompted frames leave shorter ranges between them.

    In the paper every round prompts one more frame, so that r counts both. Here a person may correct one frame in many
    rounds, which shortens no range: r is the number of prompted frames.

    Args:
        prompted_frames: r, how many frames of the object are prompted, the one being segmented included.
        total_rounds: R; the share is a half at r = R / 2. More frames than R may be prompted.

    Raises:
        ValueError: either number is below 1.
    """
    if prompted_frames < 1 or total_rounds < 1:
        raise ValueError(
            f"expected at least 1 prompted frame and 1 round, but got {prompted_frames} frames, {total_rounds} rounds"
        )
    return 1 / (1 + math.exp(-(prompted_frames - total_rounds / 2) / 2))
