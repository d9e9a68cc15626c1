"""Query points inside a mask, for point trackers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pipeline.types import BoolMask

STRATEGIES = ("random", "k_medoids", "shi_tomasi", "mixed", "grid", "corners_and_grid")
"""What `sample` knows: those of SAM-PT (Sec. 3.2, 1), a regular grid, and corners with a grid."""
MAX_CLUSTERED_PX = 2000
"""`k_medoids` clusters at most that many pixels, and with that holds at most 32 MB of distances."""
MAX_CLUSTER_STEPS = 20


def sample(
    strategy: str, grey: NDArray[np.uint8], mask: BoolMask, n_points: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Exactly ``n_points`` different pixels of the mask, or all where it has fewer, (N, 2) float32 x, y.

    What a strategy is short of (a smooth object has few corners) comes at random from the rest of the mask. A single
    mixed point is a random one, as in SAM-PT (Sec. 4.3).

    Args:
        strategy: one of `STRATEGIES`.
        grey: (H, W) uint8.
        mask: (H, W) bool.
        n_points: how many, >= 0.
        rng: equal generators give equal points.

    Raises:
        ValueError: the strategy is unknown.
    """
    if strategy == "random" or (strategy == "mixed" and n_points == 1):
        return random_points(mask, n_points, rng)
    if strategy == "k_medoids":
        chosen = k_medoids(mask, n_points, rng)
    elif strategy == "shi_tomasi":
        chosen = shi_tomasi(grey, mask, n_points)
    elif strategy == "mixed":
        chosen = mixed(grey, mask, n_points, rng)
    elif strategy == "grid":
        chosen = grid(mask, n_points)
    elif strategy == "corners_and_grid":
        chosen = corners_and_grid(grey, mask, n_points)
    else:
        raise ValueError(f"unknown sampling {strategy!r}; known are {', '.join(STRATEGIES)}")
    _, first = np.unique(chosen, axis=0, return_index=True)
    chosen = chosen[np.sort(first)]
    rest = mask.copy()
    columns, rows = chosen.astype(int).T
    rest[rows, columns] = False
    return np.concatenate([chosen, random_points(rest, n_points - len(chosen), rng)])


def random_points(mask: BoolMask, n_points: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """At most ``n_points`` different pixels of the mask, all equally likely, (N, 2) float32 x, y."""
    ys, xs = np.nonzero(mask)
    chosen = rng.choice(len(xs), min(max(0, n_points), len(xs)), replace=False)
    return np.column_stack([xs[chosen], ys[chosen]]).astype(np.float32)


def k_medoids(mask: BoolMask, n_points: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The medoids of ``n_points`` clusters of the mask's pixels, (N, 2) float32 x, y: they cover the whole object.

    Pixels are assigned to the nearest medoid, then each cluster's medoid is moved to where its distances sum up to the
    least, until nothing moves (Park and Jun 2009, the algorithm SAM-PT names). The start is spread out as in k-means++.
    Of a mask larger than `MAX_CLUSTERED_PX` pixels so many random ones stand for all, and are the most one can get.
    """
    pixels = random_points(mask, MAX_CLUSTERED_PX, rng)
    if len(pixels) <= n_points or n_points <= 0:
        return pixels[: max(0, n_points)]
    distances = cdist(pixels, pixels)
    medoids = _spread_out(distances, n_points, rng)
    for _ in range(MAX_CLUSTER_STEPS):
        nearest = distances[:, medoids].argmin(axis=1)
        # A medoid is at distance 0 from itself alone, so that no cluster is empty and no two share a medoid.
        clusters = [np.flatnonzero(nearest == cluster) for cluster in range(n_points)]
        moved = np.array([members[distances[np.ix_(members, members)].sum(axis=0).argmin()] for members in clusters])
        if (moved == medoids).all():
            break
        medoids = moved
    return pixels[medoids]


def _spread_out(distances: NDArray[np.float64], n_points: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows chosen one after the other, with a chance that grows with the square of the distance to those chosen."""
    chosen = [int(rng.integers(len(distances)))]
    for _ in range(n_points - 1):
        weights = distances[:, chosen].min(axis=1) ** 2
        chosen.append(int(rng.choice(len(distances), p=weights / weights.sum())))
    return np.array(chosen, np.intp)


def grid(mask: BoolMask, n_points: int) -> NDArray[np.float32]:
    """At most ``n_points`` points of a regular grid inside the mask, (N, 2) float32 x, y; one point for a tiny mask."""
    area_px = int(mask.sum())
    if area_px == 0 or n_points <= 0:
        return np.zeros((0, 2), np.float32)
    step = max(1, int(np.sqrt(area_px / n_points)))
    ys, xs = np.nonzero(mask)
    chosen = (ys % step == step // 2) & (xs % step == step // 2)
    points = np.column_stack([xs[chosen], ys[chosen]])
    if not len(points):
        points = np.column_stack([xs, ys])[len(xs) // 2 : len(xs) // 2 + 1]
    keep = np.unique(np.linspace(0, len(points) - 1, min(n_points, len(points))).round().astype(int))
    return np.asarray(points[keep], np.float32)


def shi_tomasi(grey: NDArray[np.uint8], mask: BoolMask, n_points: int) -> NDArray[np.float32]:
    """The strongest corners inside the mask, at most ``n_points``, (N, 2) float32 x, y.

    Args:
        grey: (H, W) uint8.
        mask: (H, W) bool.
        n_points: upper limit.
    """
    if not mask.any() or n_points <= 0:
        return np.zeros((0, 2), np.float32)
    distance_px = max(2.0, 0.5 * float(np.sqrt(mask.sum() / n_points)))
    corners = cv2.goodFeaturesToTrack(grey, n_points, 0.01, distance_px, mask=mask.astype(np.uint8))
    return np.zeros((0, 2), np.float32) if corners is None else np.asarray(corners.reshape(-1, 2), np.float32)


def mixed(grey: NDArray[np.uint8], mask: BoolMask, n_points: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Medoids, corners and random points (SAM-PT, Sec. 3.2, 1), in the proportions of its published code.

    A quarter of the points are medoids and a third are corners, both rounded down. Points may coincide.
    """
    medoids = k_medoids(mask, n_points // 4, rng)
    corners = shi_tomasi(grey, mask, n_points // 3)
    random = random_points(mask, n_points - len(medoids) - len(corners), rng)
    return np.concatenate([medoids, corners, random])


def corners_and_grid(grey: NDArray[np.uint8], mask: BoolMask, n_points: int) -> NDArray[np.float32]:
    """Corners for half of the points, a grid for the rest: what a tracker holds on to, and the whole object."""
    corners = shi_tomasi(grey, mask, n_points // 2)
    return np.concatenate([corners, grid(mask, n_points - len(corners))])
