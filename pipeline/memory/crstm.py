"""The cross-round space-time module of I-PT (Sec. III-D): affinity, readout and mixing weight, Eq. 3 to 6."""

from __future__ import annotations

import math

import torch

CHUNK_BYTES = 64 * 2**20
"""`read` answers as many queries at a time as keep its intermediate results below this; always at least one."""


def affinity(keys_memory: torch.Tensor, keys_query: torch.Tensor) -> torch.Tensor:
    """Eq. 3: S (M, N) float32 in (-inf, 0], the negative squared Euclidean distance of every pair of columns.

    Args:
        keys_memory: (C, M) float32.
        keys_query: (C, N) float32, on the same device.
    """
    return _by_query(keys_memory, keys_query, _squared_norms(keys_memory)).T


def _by_query(keys_memory: torch.Tensor, keys_query: torch.Tensor, memory_norms: torch.Tensor) -> torch.Tensor:
    """S transposed, (N, M): each query's affinities lie side by side."""
    # -|m - q|^2 = 2 mq - |m|^2 - |q|^2: one matrix product, no intermediate with all channels of all pairs.
    products = torch.addmm(-memory_norms, keys_query.T, keys_memory, alpha=2)
    return products.sub_(_squared_norms(keys_query)[:, None]).clamp_(max=0)


def _squared_norms(columns: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(columns, dim=0)
    return norms.square()


def read(keys_memory: torch.Tensor, values: torch.Tensor, keys_query: torch.Tensor, top_k: int) -> torch.Tensor:
    """Eq. 3 to 5: for every query the mean of its ``top_k`` nearest memory values, weighted by softmax of affinity.

    Scaling the keys sets the softmax's temperature; that is the caller's choice. Beside its arguments and its result it
    needs at most `CHUNK_BYTES`, or what a single query needs where that is more.

    Args:
        keys_memory: (C, M) float32, M >= 1.
        values: (V, M) float32; fastest where its transpose is contiguous.
        keys_query: (C, N) float32.
        top_k: how many memory cells take part, >= 1; M or more means all.

    Returns:
        (V, N) float32, on the device of the arguments.

    Raises:
        ValueError: the shapes do not fit, the memory is empty, or ``top_k`` is below 1.
    """
    n_channels, n_memory = keys_memory.shape
    n_queries = keys_query.shape[1]
    if keys_query.shape[0] != n_channels or values.shape[1] != n_memory:
        shapes = [tuple(each.shape) for each in (keys_memory, values, keys_query)]
        raise ValueError(f"expected keys (C, M), values (V, M) and query keys (C, N), but got {shapes}")
    if not n_memory or top_k < 1:
        raise ValueError(f"expected a memory of at least 1 cell and top_k >= 1, but got {n_memory} cells, {top_k=}")
    answer = torch.empty((values.shape[0], n_queries), dtype=torch.float32, device=keys_query.device)
    step = queries_per_chunk(n_memory, values.shape[0], top_k)
    with torch.inference_mode():
        memory_norms = _squared_norms(keys_memory)
        for start in range(0, n_queries, step):
            scores = _by_query(keys_memory, keys_query[:, start : start + step], memory_norms)
            answer[:, start : start + step] = _weighted(values, scores, top_k)
    return answer


def queries_per_chunk(n_memory: int, n_values: int, top_k: int) -> int:
    """How many queries `read` answers at a time: all of them need at most `CHUNK_BYTES`, or it is 1."""
    affinities = 2 * n_memory
    gathered = min(top_k, n_memory) * (n_values + 4) if top_k < n_memory else n_values
    return max(1, CHUNK_BYTES // (4 * (affinities + gathered)))


def _weighted(values: torch.Tensor, scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """Eq. 4 and 5 for scores (N, M): (V, N). torch's softmax subtracts the greatest score: nothing overflows."""
    if top_k >= scores.shape[1]:
        return values @ torch.softmax(scores, dim=1).T
    best, cells = torch.topk(scores, top_k, dim=1, sorted=False)
    return torch.einsum("nkv,nk->vn", values.T[cells], torch.softmax(best, dim=1))


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
