"""How diverse the frames of a memory are: Gram determinants of their similarities (thesis, 5.4.2, Eq. 5.4 to 5.7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

RIDGE = 1e-4
"""Added to the diagonal of a Gram matrix before its determinant is computed. Two equal frames then leave a small
determinant instead of zero, so that memories can still be compared."""


@dataclass(frozen=True)
class FrameKeys:
    """What policies compare of one object on one frame.

    Attributes:
        keys: (C, N) unit columns, one per cell of the frame, see `KeyGrid.keys`; of one grid for all frames.
        shares: (N,) float32 in [0, 1], how much of each cell is the object's, on the same device.
    """

    keys: torch.Tensor
    shares: torch.Tensor


def coarse_grid_hw(grid_hw: tuple[int, int], cells_across: int) -> tuple[int, int]:
    """Rows and columns of a grid with at most ``cells_across`` cells along its longer side."""
    scale = min(1.0, cells_across / max(grid_hw))
    return max(1, round(grid_hw[0] * scale)), max(1, round(grid_hw[1] * scale))


def coarser(keys: torch.Tensor, grid_hw: tuple[int, int], coarse_hw: tuple[int, int]) -> torch.Tensor:
    """Unit keys (C, M) of a coarser grid, from the keys (C, N) of a grid."""
    if coarse_hw == grid_hw:
        return keys
    with torch.inference_mode():
        pooled = F.adaptive_avg_pool2d(keys.reshape(1, -1, *grid_hw), coarse_hw)[0].flatten(1)
        return F.normalize(pooled, dim=0)


def transition(keys_memory: torch.Tensor, keys_query: torch.Tensor) -> torch.Tensor:
    """T_n (Eq. 5.7) as indices (N,): which cell of a memory frame is most like each cell of the query.

    W is a softmax along the memory's cells of unfiltered affinities, and so grows with them within each column: the
    greatest of W_n is the greatest affinity. With a top-k filter a column of W_n may be without any, and how alike two
    frames look would depend on what else is in memory.

    Args:
        keys_memory: (C, M) unit columns.
        keys_query: (C, N) unit columns.
    """
    return (keys_query.T @ keys_memory).argmax(dim=1)


def similarity(keys_query: torch.Tensor, keys_memory: torch.Tensor) -> float:
    """An entry of the Gram matrix (Eq. 5.5): how alike a query and a memory frame look, in [-1, 1], 1 for the same.

    The memory frame's keys are brought to the query's frame of reference first (Eq. 5.6), and the inner product is
    averaged over the cells.

    Args:
        keys_query: (C, N) unit columns.
        keys_memory: (C, M) unit columns.
    """
    with torch.inference_mode():
        pseudo_keys = keys_memory[:, transition(keys_memory, keys_query)]
        return float((pseudo_keys * keys_query).sum() / keys_query.shape[1])


def object_similarity(frame: FrameKeys, other: FrameKeys) -> float:
    """How alike an object looks on two frames, in [-1, 1], 1 for the same frame; -1 where one does not show it.

    Each cell of the object is compared with the most similar one of the object on the other frame (T_n, Eq. 5.7), and
    the mean is taken, in both directions; the smaller one counts. The background takes no part: the thesis suggests
    that as an improvement (5.7). Over whole frames, cells of hand-made features find one so similar in any other clip
    that no bound would tell whether the object is there.
    """
    with torch.inference_mode():
        if not float(frame.shares.max()) > 0 or not float(other.shares.max()) > 0:
            return -1.0
        affinity = frame.keys.T @ other.keys
        to_other = affinity[:, _cells(other)].amax(dim=1)
        to_frame = affinity[_cells(frame)].amax(dim=0)
        forth = (to_other @ frame.shares) / frame.shares.sum()
        back = (to_frame @ other.shares) / other.shares.sum()
        return float(torch.minimum(forth, back))


def _cells(frame: FrameKeys) -> torch.Tensor:
    """(N,) bool, the cells that are the object's for the greater part; of a small object those it covers the most."""
    return frame.shares >= min(0.5, float(frame.shares.max()))


def log_determinant(matrices: torch.Tensor) -> torch.Tensor:
    """ln det(G + RIDGE * I) (...) of symmetric matrices (..., M, M) float64 with ones on the diagonal.

    By Cholesky decomposition, as the thesis recommends. Similarities from several frames of reference need not fit
    together: then the matrix is not positive semi-definite, and its determinant no volume. Where the decomposition
    fails, negative eigenvalues count as 0, which is the volume of the nearest frames that do fit together. (The thesis
    takes the absolute value, which may exceed that of frames that have nothing in common.)
    """
    lifted = matrices + RIDGE * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    factor, problem = torch.linalg.cholesky_ex(lifted)
    by_cholesky: torch.Tensor = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    if not problem.any():
        return by_cholesky
    by_eigenvalues = (torch.linalg.eigvalsh(matrices).clamp_min(0.0) + RIDGE).log().sum(dim=-1)
    return torch.where(problem == 0, by_cholesky, by_eigenvalues)
