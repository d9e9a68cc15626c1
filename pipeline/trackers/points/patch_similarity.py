"""SAM-PT's optional filter: a point whose surroundings no longer look as they did counts as occluded."""

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
    """SAM-PT (Tab. 2d) tries the thresholds 0.002 and 0.01 and leaves the measure open; `similarity` is ours.

    Attributes:
        threshold: in [0, 1]; a less similar point becomes invisible. 0 filters nothing.
        patch_px: side of the square patches, in pixels of the reduced frame; odd.
        tolerance: the root mean square difference of two patches, in levels of [0, 255], that is worth a factor of
            exp(-1/2); about the noise and change of light to put up with. With 10 a threshold of 0.002 allows 35
            levels, 0.01 allows 30.
        long_side_px: frames are reduced to this, as for the trackers.
    """

    threshold: float = 0.002
    patch_px: int = 3
    tolerance: float = 10.0
    long_side_px: int = 640

    def check(self, frames: FrameSource, tracks: PointTracks) -> NDArray[np.bool_]:
        """Which points are visible (T, N) after the filter; the first row of the tracks is the query.

        Frames that cannot be read stay as the tracker left them.
        """
        visible = tracks.visible.copy()
        image, scale = reduced(frames, tracks.frame_indices[0], self.long_side_px)
        if image is None:
            return visible
        wanted = patches_at(image, tracks.tracks_xy_px[0] * scale, self.patch_px)
        for row, frame_index in enumerate(tracks.frame_indices):
            if row == 0 or not visible[row].any():
                continue
            image, scale = reduced(frames, frame_index, self.long_side_px)
            if image is not None:
                found = patches_at(image, tracks.tracks_xy_px[row] * scale, self.patch_px)
                visible[row] &= similarity(wanted, found, self.tolerance) >= self.threshold
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


def similarity(patches: NDArray[np.float32], others: NDArray[np.float32], tolerance: float) -> NDArray[np.float32]:
    """exp(-d^2 / (2 tolerance^2)) in [0, 1] for every pair (N,), d being the root mean square difference in levels."""
    mean_square = ((patches - others) ** 2).mean(axis=(1, 2, 3))
    return np.asarray(np.exp(-mean_square / (2 * tolerance**2)), np.float32)
