"""PIPS: pieces of eight frames, linked where the point is seen."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from pipeline.parts.context import PartContext
from pipeline.trackers.frames import WorkingSize, check_range
from pipeline.trackers.points.base import PointQueries, PointTracks
from pipeline.video.frames import FrameSource

FRAMES = 8
_POINTS_AT_ONCE = 64
"""The network holds about 2 MiB a point at 512 x 288 px."""


@dataclass(frozen=True)
class Pips:
    """See `pipeline.trackers.points.base.PointTracker`.

    Each point continues from the farthest of the 2nd to 7th next frames of its piece where its visibility exceeds 0.9,
    or, where there is none, the highest of 0.88, 0.86, ... that some frame exceeds; its appearance remains that of the
    frame of the query (Harley et al., "Particle Video Revisited", ECCV 2022, "trajectory linking", as the authors'
    ``chain_demo.py`` does it). Run with the official code of aharley/pips at commit a05a120 and random weights; never
    with published weights.

    Attributes:
        network: as `model_zoo.point_trackers.load_pips` builds it: points (1, N, 2) px on the first of 8 frames
            (1, 8, 3, H, W) in [0, 255], to a list of tracks (1, 8, N, 2) px, the last one the best, logits of
            visibility (1, 8, N) as the third value, and the points' features (1, N, C) as the fourth.
        device: where the network is.
        long_side_px: frames are reduced to this; their sides are multiples of 8 px and at least 128.
        iterations: refinements of a piece; the authors use 6.
        visibility_threshold: in (0, 1); above it a point counts as visible.
    """

    keeps_points: ClassVar[bool] = True

    network: torch.nn.Module
    device: str = "cpu"
    long_side_px: int = 512
    iterations: int = 6
    visibility_threshold: float = 0.5

    def track(self, frames: FrameSource, queries: PointQueries, frame_range: range) -> PointTracks:
        """Follow points over a range of frames; a hidden point has the place that the network believes it at."""
        check_range(queries.frame_index, frame_range)
        size = WorkingSize.fitting(frames.size_hw_px, self.long_side_px)
        n_points = len(queries.points_xy_px)
        places = np.full((len(frame_range), n_points, 2), np.nan, np.float32)
        places[0] = size.to_working(queries.points_xy_px.astype(np.float32))
        seen = np.zeros((len(frame_range), n_points), np.float32)
        readable = _Readable(lambda row: size.frame(frames, frame_range[row]), len(frame_range))
        if readable.upcoming(FRAMES) and readable.rows[0] == 0:
            seen[0] = 1.0
            self._link(readable, places, seen)
        tracks = size.to_original(places)
        tracks[0] = queries.points_xy_px
        for row in readable.unreadable:
            tracks[row] = tracks[row - 1] if row else tracks[row]
        return PointTracks(frame_range, tracks, seen > self.visibility_threshold)

    def _link(self, readable: _Readable, places: NDArray[np.float32], seen: NDArray[np.float32]) -> None:
        """Fill ``places`` (T, N, 2) and ``seen`` (T, N) in [0, 1], piece by piece."""
        due = defaultdict(list, {0: list(range(places.shape[1]))})
        features: dict[int, torch.Tensor] = {}
        at = 0
        while len(images := readable.upcoming(FRAMES)) > 1:
            rows, points = readable.rows, due.pop(at, [])
            for first in range(0, len(points), _POINTS_AT_ONCE):
                group = points[first : first + _POINTS_AT_ONCE]
                tracks, visibility = self._piece(images, places[rows[0], group], group, features)
                for step, row in enumerate(rows[1:], start=1):
                    places[row, group], seen[row, group] = tracks[step], visibility[step]
                for column, point in enumerate(group):
                    due[at + _next_start(visibility[:, column])].append(point)
            readable.drop_first()
            at += 1

    def _piece(
        self,
        images: list[NDArray[np.uint8]],
        starts: NDArray[np.float32],
        points: list[int],
        features: dict[int, torch.Tensor],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tracks (8, N, 2) and visibility (8, N) in [0, 1] through a piece, its last frame repeated if it is short.

        ``features`` keeps what each point looked like on the frame of the query.
        """
        video = np.stack(images + [images[-1]] * (FRAMES - len(images)))
        rgbs = torch.from_numpy(video).to(self.device).permute(0, 3, 1, 2)[None].float()
        xys = torch.from_numpy(np.ascontiguousarray(starts)).to(self.device)[None]
        known = torch.stack([features[point] for point in points])[None] if points[0] in features else None
        with torch.inference_mode(), _StayOnDevice():
            found = self.network(xys, rgbs, feat_init=known, iters=self.iterations, return_feat=True)
            visibility = torch.sigmoid(found[2])[0]
        if known is None:
            features.update(zip(points, found[3][0], strict=True))
        return found[0][-1][0].float().cpu().numpy(), visibility.float().cpu().numpy()


class _Readable:
    """The frames of a range that can be read, a few at a time."""

    def __init__(self, read: Callable[[int], NDArray[np.uint8] | None], n_rows: int) -> None:
        self._read, self._n_rows, self._next_row = read, n_rows, 0
        self._held: deque[tuple[int, NDArray[np.uint8]]] = deque()
        self.unreadable: list[int] = []
        """Rows of the range that turned out so, in order."""

    @property
    def rows(self) -> list[int]:
        """The rows of the frames that `upcoming` gave last."""
        return [row for row, _ in self._held]

    def upcoming(self, n_frames: int) -> list[NDArray[np.uint8]]:
        """The next frames, fewer at the end of the range."""
        while len(self._held) < n_frames and self._next_row < self._n_rows:
            image = self._read(self._next_row)
            if image is None:
                self.unreadable.append(self._next_row)
            else:
                self._held.append((self._next_row, image))
            self._next_row += 1
        return [image for _, image in self._held]

    def drop_first(self) -> None:
        """Go on by one frame."""
        self._held.popleft()


class _StayOnDevice(TorchFunctionMode):
    """The official code sends an unused zero to the default GPU; here it stays, so that it runs without one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        return func(*args, **(kwargs or {}))


def _next_start(visibility: NDArray[np.float32]) -> int:
    """After how many frames of a piece a point continues, given its visibility (8,) there."""
    candidates = visibility[2:]
    levels = np.arange(45, -2, -1) * 0.02
    level = next(level for level in levels if (candidates > level).any())
    return 2 + int(np.flatnonzero(candidates > level)[-1])


def build(context: PartContext) -> Pips:
    """The tracker with its authors' code and weights."""
    from model_zoo.point_trackers import load_pips

    network = load_pips(context.code("pips"), context.weights("pips"), context.device)
    return Pips(network, context.device)
