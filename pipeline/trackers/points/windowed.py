"""Point tracking by a network that takes a whole video, window by window, so that memory has a bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.trackers.frames import WorkingSize, check_range
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.video.frames import FrameSource

Predict = Callable[
    [NDArray[np.uint8], NDArray[np.float32]],
    tuple[NDArray[np.float32], NDArray[np.bool_]],
]
"""From a video (T, H, W, 3) RGB uint8 and queries (N, 3) as (t, x, y), px of that video, to tracks (T, N, 2) px and
visible (T, N). What it says about times before a point's t is not used."""


@dataclass(frozen=True)
class Windows:
    """How a long range is divided into windows.

    Attributes:
        frames: how many the network sees at once.
        overlap_frames: how many of them the next window repeats. A point continues from the last frame there on which
            it is visible, so it may be hidden for slightly fewer frames than that.
    """

    frames: int = 48
    overlap_frames: int = 24

    def __post_init__(self) -> None:
        if not 0 < self.overlap_frames < self.frames:
            raise ValueError(
                f"expected windows of at least 2 frames that overlap by fewer, but got {self.frames} frames "
                f"overlapping by {self.overlap_frames}"
            )


def track_in_windows(
    frames: FrameSource,
    queries: PointQueries,
    frame_range: range,
    size: WorkingSize,
    windows: Windows,
    predict: Predict,
) -> PointTracks:
    """Track points over any range; the network's time runs in the direction of the range.

    Frames that cannot be read are left out of the network's video. A point that is nowhere visible in an overlap of
    two windows is lost: invisible from there on, its place unknown (NaN).
    """
    check_range(queries.frame_index, frame_range)
    progress = _Progress(queries, frame_range, size)
    rows: list[int] = []
    images: list[NDArray[np.uint8]] = []
    for row, frame_index in enumerate(frame_range):
        image = size.frame(frames, frame_index)
        if image is not None:
            rows.append(row)
            images.append(image)
        elif row == 0:
            return progress.nothing_seen()
        if len(rows) == windows.frames or row == len(frame_range) - 1:
            progress.take(rows, images, predict)
            if row < len(frame_range) - 1:
                rows, images = rows[-windows.overlap_frames :], images[-windows.overlap_frames :]
                progress.restart_within(rows)
    return progress.finished()


class _Progress:
    """What is known so far about points, in pixels of the working size."""

    def __init__(self, queries: PointQueries, frame_range: range, size: WorkingSize) -> None:
        n_points = len(queries.points_xy_px)
        self._queries, self._range, self._size = queries, frame_range, size
        self._tracks = np.full((len(frame_range), n_points, 2), np.nan, np.float32)
        self._visible = np.zeros((len(frame_range), n_points), np.bool_)
        self._read = np.zeros(len(frame_range), np.bool_)
        self._tracks[0] = size.to_working(queries.points_xy_px.astype(np.float32))
        self._visible[0] = True
        self._from_row = np.zeros(n_points, np.int64)
        """The row from which each point continues: its position there is the query of the next window."""
        self._alive = np.ones(n_points, np.bool_)

    def take(self, rows: list[int], images: list[NDArray[np.uint8]], predict: Predict) -> None:
        """Track the points that are alive through a window; its images belong to ``rows``."""
        self._read[rows] = True
        alive = np.flatnonzero(self._alive)
        if len(alive) == 0 or len(rows) < 2:
            return
        times = np.searchsorted(rows, self._from_row[alive])
        starts = self._tracks[self._from_row[alive], alive]
        query = np.concatenate([times[:, None].astype(np.float32), starts], axis=1)
        tracks, visible = predict(np.stack(images), query)
        for column, (point, time) in enumerate(zip(alive, times, strict=True)):
            later = rows[time + 1 :]
            self._tracks[later, point] = tracks[time + 1 :, column]
            self._visible[later, point] = visible[time + 1 :, column]

    def restart_within(self, rows: list[int]) -> None:
        """Choose the frame from which each point continues, among those that the next window repeats."""
        for point in np.flatnonzero(self._alive):
            seen = [row for row in rows if self._visible[row, point]]
            self._alive[point] = bool(seen)
            self._from_row[point] = seen[-1] if seen else -1

    def nothing_seen(self) -> PointTracks:
        """The result when the frame of the query cannot be read."""
        tracks = np.full_like(self._tracks, np.nan)
        tracks[0] = self._queries.points_xy_px
        return PointTracks(self._range, tracks, np.zeros_like(self._visible))

    def finished(self) -> PointTracks:
        """Tracks in pixels of the original frame; frames that could not be read keep the places before them."""
        tracks = self._size.to_original(self._tracks)
        tracks[0] = self._queries.points_xy_px
        for row in np.flatnonzero(~self._read):
            tracks[row] = tracks[row - 1]
        return PointTracks(self._range, tracks, self._visible)
