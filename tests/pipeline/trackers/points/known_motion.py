"""A red disc that moves differently in x and y, hidden on some frames, in frames that are not square."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.trackers.points.base import PointQueries, PointTracker, PointTracks
from tests.pipeline.frame_sources import ArrayFrames

SIZE_HW_PX = (180, 420)
START_XY_PX = np.array([90.0, 60.0], np.float32)
STEP_XY_PX = np.array([4.5, 1.25], np.float32)
BESIDE_XY_PX = np.array([[0.0, 0.0], [9.0, -5.0], [-7.0, 11.0]], np.float32)
"""The points that the tests follow, relative to the disc's centre."""


@dataclass(frozen=True)
class RedDisc:
    """The scene: ``n_frames``, those on which the disc is hidden, and those that cannot be read."""

    n_frames: int = 20
    hidden: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    steps: float = 1.0
    frames: ArrayFrames = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", ArrayFrames([self._frame(i) for i in range(self.n_frames)], self.broken))

    def points(self, frame_index: int) -> NDArray[np.float32]:
        """Where the points really are, (N, 2) px."""
        return START_XY_PX + self.steps * frame_index * STEP_XY_PX + BESIDE_XY_PX

    def truth(self, frame_range: range) -> NDArray[np.float32]:
        """Where the points really are over a range, (T, N, 2) px."""
        return np.stack([self.points(frame_index) for frame_index in frame_range])

    def track(self, tracker: PointTracker, frame_range: range) -> PointTracks:
        """Follow the points through the scene."""
        queries = PointQueries(frame_range[0], self.points(frame_range[0]))
        return tracker.track(self.frames, queries, frame_range)

    def _frame(self, frame_index: int) -> NDArray[np.uint8]:
        image = np.full((*SIZE_HW_PX, 3), (30, 90, 70), np.uint8)
        if frame_index not in self.hidden:
            centre = self.points(frame_index)[0]
            at = (round(float(centre[0]) * 16), round(float(centre[1]) * 16))
            cv2.circle(image, at, 18 * 16, (230, 20, 20), -1, cv2.LINE_AA, shift=4)
        return image


def assert_follows(scene: RedDisc, tracks: PointTracks, frame_range: range, *, within_px: float = 0.6) -> None:
    """Check a whole result: shapes, the query's row, places where the disc is seen, and visibility."""
    n_points = len(BESIDE_XY_PX)
    assert tracks.frame_indices == frame_range
    assert tracks.tracks_xy_px.shape == (len(frame_range), n_points, 2)
    assert tracks.tracks_xy_px.dtype == np.float32
    assert tracks.visible.dtype == np.bool_
    np.testing.assert_array_equal(tracks.tracks_xy_px[0], scene.points(frame_range[0]))
    seen = [index not in scene.hidden | scene.broken for index in frame_range]
    np.testing.assert_array_equal(tracks.visible, np.repeat(np.array(seen)[:, None], n_points, axis=1))
    error_px = np.abs(tracks.tracks_xy_px - scene.truth(frame_range))[seen]
    assert error_px.max() <= within_px
