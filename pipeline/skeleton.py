"""The line in the middle of a region: what a brush that filled the region would have followed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from pipeline.types import BoolMask

MIN_SKELETON_PX = 4
"""Shorter parts of a skeleton have no line."""


def thinned(region: BoolMask) -> BoolMask:
    """The skeleton (H, W) of a region that does not touch the image's edge: one pixel wide, as connected as the region.

    Source: Zhang and Suen, A Fast Parallel Algorithm for Thinning Digital Patterns (1984).
    """
    height_px, width_px = region.shape
    flat = np.ascontiguousarray(region).ravel().astype(np.int8)
    clockwise = np.array(
        [-width_px, 1 - width_px, 1, width_px + 1, width_px, width_px - 1, -1, -width_px - 1], dtype=np.int64
    )
    left = np.flatnonzero(flat)
    changed = True
    while changed:
        changed = False
        for first_pass in (True, False):
            around = flat[left[:, None] + clockwise]
            n_set = around.sum(axis=1)
            n_steps = ((around == 0) & (np.roll(around, -1, axis=1) == 1)).sum(axis=1)
            north, east, south, west = (around[:, i] for i in (0, 2, 4, 6))
            if first_pass:
                on_side = (north * east * south == 0) & (east * south * west == 0)
            else:
                on_side = (north * east * west == 0) & (north * south * west == 0)
            peel = (n_set >= 2) & (n_set <= 6) & (n_steps == 1) & on_side
            flat[left[peel]] = 0
            left = left[~peel]
            changed |= bool(peel.any())
    return flat.reshape(height_px, width_px).astype(np.bool_)


def longest_paths(skeleton: BoolMask) -> list[NDArray[np.int64]]:
    """The line through each connected part of a skeleton (H, W) that does not touch the image's edge.

    It is the longest of all shortest paths between two pixels of the part. Parts below ``MIN_SKELETON_PX`` have none.

    Returns:
        per line its pixels x, y from end to end, (N, 2).
    """
    ys, xs = np.nonzero(skeleton)
    if not len(xs):
        return []
    graph = _graph(skeleton, ys, xs)
    _, labels = cv2.connectedComponents(skeleton.astype(np.uint8), connectivity=8)
    part_of = labels[ys, xs]
    paths = []
    for part in np.unique(part_of):
        nodes = np.flatnonzero(part_of == part)
        if len(nodes) < MIN_SKELETON_PX:
            continue
        # In a tree, the node farthest from any node is one end of its longest path; a skeleton is close to a tree.
        end = _farthest(dijkstra(graph, directed=False, indices=int(nodes[0])))
        distances, before = dijkstra(graph, directed=False, indices=end, return_predecessors=True)
        path = [_farthest(distances)]
        while path[-1] != end:
            path.append(int(before[path[-1]]))
        paths.append(np.column_stack([xs[path], ys[path]]))
    return paths


def _graph(skeleton: BoolMask, ys: NDArray[np.intp], xs: NDArray[np.intp]) -> csr_array:
    """Neighbouring pixels of a skeleton joined by their distance in px; a node is a position in ``ys`` and ``xs``."""
    node = np.full(skeleton.shape, -1, np.int64)
    node[ys, xs] = np.arange(len(xs))
    starts, ends, lengths = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = node[ys + dy, xs + dx]
        joined = other >= 0
        starts.append(node[ys, xs][joined])
        ends.append(other[joined])
        lengths.append(np.full(int(joined.sum()), np.hypot(dy, dx)))
    pairs = (np.concatenate(starts), np.concatenate(ends))
    return coo_array((np.concatenate(lengths), pairs), shape=(len(xs), len(xs))).tocsr()


def _farthest(distances: NDArray[np.float64]) -> int:
    return int(np.argmax(np.where(np.isfinite(distances), distances, -1.0)))
