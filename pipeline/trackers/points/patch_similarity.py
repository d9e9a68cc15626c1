"""SAM-PT's optional filter: a point whose surroundings no longer look as they did is rejected."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.trackers.frames import reduced
from pipeline.trackers.points.base import PointTracks
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class PatchSimilarity:
    """SAM-PT (Tab. 2d) tries the thresholds 0.002 and 0.01; what it measures is known from its published code.

    Attributes:
        threshold: in [0, 1]; a point that is not more similar becomes invisible, also on all later frames. 0 filters
            nothing.
        patch_px: side of the square patches, in pixels of the reduced frame; odd.
        long_side_px: frames are reduced to this, as for the trackers.
    """

    threshold: float = 0.002
    patch_px: int = 3
    long_side_px: int = 640

    def check(self, frames: FrameSource, tracks: PointTracks) -> NDArray[np.bool_]:
        """Which points are visible (T, N) after the filter; the first row of the tracks is the query.

        A point is rejected for good. Points that the tracker does not see are not looked at, nor frames that cannot be
        read.
        """
        visible = tracks.visible.copy()
        image, scale = reduced(frames, tracks.frame_indices[0], self.long_side_px)
        if image is None:
            return visible
        wanted = patches_at(image, tracks.tracks_xy_px[0] * scale, self.patch_px)
        rejected = np.zeros(visible.shape[1], np.bool_)
        for row, frame_index in enumerate(tracks.frame_indices):
            visible[row] &= ~rejected
            if row == 0 or not visible[row].any():
                continue
            image, scale = reduced(frames, frame_index, self.long_side_px)
            if image is not None:
                found = patches_at(image, tracks.tracks_xy_px[row] * scale, self.patch_px)
                visible[row] &= similarity(wanted, found) > self.threshold
                rejected |= tracks.visible[row] & ~visible[row]
        return visible


def patches_at(image: NDArray[np.uint8], points_xy_px: NDArray[np.float32], patch_px: int) -> NDArray[np.float32]:
    """Square patches (N, patch_px, patch_px, channels) around points (N, 2), between pixels interpolated.

    Beyond the image's border its border repeats; points at NaN give some patch.

    Args:
        image: (H, W) or (H, W, channels) uint8.
        points_xy_px: (N, 2) float32.
        patch_px: side, odd.
    """
    if not len(points_xy_px):
        return np.zeros((0, patch_px, patch_px, image.shape[2] if image.ndim == 3 else 1), np.float32)
    steps = np.arange(patch_px, dtype=np.float32) - patch_px // 2
    offsets = np.stack(np.meshgrid(steps, steps), axis=-1)
    places = (np.nan_to_num(points_xy_px.astype(np.float32))[:, None, None] + offsets).reshape(-1, patch_px, 2)
    xs, ys = places[..., 0], places[..., 1]
    cut = cv2.remap(image.astype(np.float32), xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut.reshape(len(points_xy_px), patch_px, patch_px, -1), np.float32)


def similarity(patches: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """exp(-d / (2 p^2)) in [0, 1] for every pair (N,): d is the Euclidean distance of two patches of side p in CIELAB.

    Args:
        patches: (N, p, p, 3) float32 RGB in [0, 255].
        others: likewise.
    """
    if not len(patches):
        return np.zeros(0, np.float32)
    distance = np.sqrt(((_lab(patches) - _lab(others)) ** 2).sum(axis=(1, 2, 3)))
    return np.asarray(np.exp(-distance / (2 * patches.shape[1] ** 2)), np.float32)


def _lab(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Patches (N, p, p, 3) in CIELAB, whose lightness is in [0, 100]."""
    rgb = np.ascontiguousarray(patches.reshape(len(patches), -1, 3) / 255, np.float32)
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab).reshape(patches.shape), np.float32)
