"""Matching of XFeat descriptors: a point is found again by what it looks like, also after it was hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.frames import WorkingSize, check_range
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.video.frames import FrameSource

Maps = NDArray[np.float32]


class DenseDescriptors(Protocol):
    """What the tracker needs of a network."""

    @property
    def input_hw_px(self) -> tuple[int, int]:
        """The size of the grey images it takes."""
        ...

    def descriptors(self, grey: NDArray[np.uint8]) -> Maps:
        """Descriptors of unit length (rows, columns, channels), each of a cell of the image (H, W) uint8."""
        ...


@dataclass(frozen=True)
class XFeatTracker:
    """See `pipeline.trackers.points.base.PointTracker`.

    On each frame a point goes to the most similar descriptor (cosine) near where it was last seen, refined between
    cells by a parabola. It counts as visible only if the descriptor found there is, over the whole frame of the
    query, most similar to that of the place where the point began (the nearest neighbours are mutual), which also
    tells an object from its like beside it. An unseen point is searched for in a window that grows from frame to
    frame; until it is found, its place is unknown (NaN). The matching rules and their values are this project's.

    Attributes:
        network: as `model_zoo.xfeat.load_xfeat` opens it.
        search_cells, growth_cells: radius of the window at first, and what each frame without a sighting adds.
        distance_cost: what similarity a match at the window's edge must have more than one at its centre.
        cycle_cells: how far from where the point began the match back may end.
        min_similarity: cosine in [-1, 1]; a less similar match is none.
        memory: in [0, 1]; how much of what a point looks like comes from its latest sightings, not from the query.
        learning_rate: in [0, 1]; how much of the latest sightings is the very last.
    """

    network: DenseDescriptors
    search_cells: float = 6.0
    growth_cells: float = 1.0
    distance_cost: float = 0.1
    cycle_cells: float = 3.0
    min_similarity: float = 0.6
    memory: float = 0.5
    learning_rate: float = 0.3

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow points over a range of frames."""
        check_range(queries.frame_index, frame_range)
        size = WorkingSize(frames.size_hw_px, self.network.input_hw_px)
        tracks = np.full((len(frame_range), *queries.points_xy_px.shape), np.nan, np.float32)
        tracks[0] = queries.points_xy_px
        visible = np.zeros(tracks.shape[:2], np.bool_)
        matcher: _Matcher | None = None
        for row, frame_index in enumerate(frame_range):
            image = size.frame(frames, frame_index)
            if row == 0 and image is None:
                break
            if image is None:
                tracks[row] = tracks[row - 1]
                continue
            found = self.network.descriptors(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8))
            cell_px = np.array(
                [size.working_hw_px[1] / found.shape[1], size.working_hw_px[0] / found.shape[0]], np.float32
            )
            if matcher is None:
                matcher = _Matcher(self, found, (size.to_working(tracks[0]) + 0.5) / cell_px - 0.5)
                visible[row] = True
                continue
            cells, visible[row] = matcher.find(found)
            places = size.to_original((cells + 0.5) * cell_px - 0.5)
            tracks[row] = np.where(visible[row][:, None], places, np.nan)
        return PointTracks(frame_range, tracks, visible)


class _Matcher:
    """Points of one query on their way through the frames. Places are in cells (x, y)."""

    def __init__(self, settings: XFeatTracker, first: Maps, starts: NDArray[np.float32]) -> None:
        self._settings, self._first, self._starts = settings, first, starts
        self._wanted = sampled(first, starts)
        self._recent = self._wanted
        self._last: NDArray[np.float32] = starts
        self._unseen: NDArray[np.float32] = np.zeros(len(starts), np.float32)
        """For how many frames each point has not been seen."""

    def find(self, found: Maps) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where the points are in the next frame's descriptors, (N, 2), and which of them are visible."""
        settings = self._settings
        look = _unit((1 - settings.memory) * self._wanted + settings.memory * self._recent)
        radius = settings.search_cells + settings.growth_cells * self._unseen
        cells = best_match(found, look, self._last, radius, settings.distance_cost)
        seen_now = sampled(found, cells)
        everywhere = np.full(len(cells), np.inf, np.float32)
        back = best_match(self._first, seen_now, self._starts, everywhere, 0.0)
        mutual = np.linalg.norm(back - self._starts, axis=1) <= settings.cycle_cells
        visible = mutual & ((seen_now * look).sum(axis=1) >= settings.min_similarity)
        rate = settings.learning_rate
        recent = _unit(rate * seen_now + (1 - rate) * self._recent)
        self._recent = np.where(visible[:, None], recent, self._recent)
        self._last = np.where(visible[:, None], cells, self._last)
        self._unseen = np.where(visible, 0, self._unseen + 1).astype(np.float32)
        return cells, visible


def best_match(
    maps: Maps, wanted: Maps, centres: NDArray[np.float32], radius: NDArray[np.float32], distance_cost: float
) -> NDArray[np.float32]:
    """The cells most similar to descriptors, between cells refined by a parabola along x and along y, (N, 2) xy.

    Args:
        maps: descriptors (rows, columns, C) of unit length.
        wanted: descriptors (N, C) of unit length.
        centres: (N, 2) xy, in cells.
        radius: (N,) in cells; what is farther from the centre is not looked at. At least the centre's own cell is.
        distance_cost: subtracted from the similarity at the radius; it grows with the square of the distance.
    """
    rows, columns = maps.shape[:2]
    if not len(wanted):
        return np.zeros((0, 2), np.float32)
    similarity = (wanted @ maps.reshape(rows * columns, -1).T).reshape(-1, rows, columns)
    inside = np.clip(centres, 0, (columns - 1, rows - 1))[:, :, None, None]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    share = np.hypot(x - inside[:, 0], y - inside[:, 1]) / np.maximum(radius, 1.0)[:, None, None]
    allowed = np.where(share <= 1, similarity - distance_cost * share**2, -np.inf)
    peak_y, peak_x = np.unravel_index(allowed.reshape(len(wanted), -1).argmax(axis=1), (rows, columns))
    n = np.arange(len(wanted))
    across = [similarity[n, peak_y, np.clip(peak_x + step, 0, columns - 1)] for step in (-1, 0, 1)]
    down = [similarity[n, np.clip(peak_y + step, 0, rows - 1), peak_x] for step in (-1, 0, 1)]
    return np.stack([peak_x + _vertex(*across), peak_y + _vertex(*down)], axis=1).astype(np.float32)


def _vertex(before: Maps, at: Maps, after: Maps) -> Maps:
    """Where in (-0.5, 0.5) the parabola through three values has its vertex; 0 unless the middle one is the highest."""
    highest = (at > before) & (at > after)
    bend = np.where(highest, before - 2 * at + after, -1.0)
    return np.where(highest, 0.5 * (before - after) / bend, 0.0).astype(np.float32)


def sampled(maps: Maps, cells: NDArray[np.float32]) -> Maps:
    """Descriptors of unit length (N, C) at places (N, 2) xy in cells, bilinear; beyond the border the border's."""
    rows, columns = maps.shape[:2]
    place = np.clip(cells, 0, (columns - 1, rows - 1)).astype(np.float32)
    low = np.minimum(place.astype(np.int64), (columns - 2, rows - 2))
    (x, y), (fx, fy) = low.T, (place - low).T[:, :, None]
    upper = maps[y, x] * (1 - fx) + maps[y, x + 1] * fx
    lower = maps[y + 1, x] * (1 - fx) + maps[y + 1, x + 1] * fx
    return _unit(upper * (1 - fy) + lower * fy)


def _unit(vectors: Maps) -> Maps:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def build(context: PartContext) -> XFeatTracker:
    """XFeat with its published weights."""
    from model_zoo.xfeat import load_xfeat

    return XFeatTracker(load_xfeat(context.store.file("xfeat"), context.device))
