"""Square crops of a frame, and what is drawn into the planes that tell the network of prompts and masks."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.lite.decoder import N_PLANES, Plane
from pipeline.segmenters.base import FloatMap

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

MIN_SIDE_PX = 20.0
"""Crops show at least so much of a frame."""
POINT_RADIUS_SHARE = 0.02
"""Radius of a point's disc, as a share of the crop's side."""
OUTSIDE_LOGIT = -8.0
"""Logit of the pixels of a frame that a crop does not show."""
SHRINKING_BELOW = 0.75
"""Frames that become smaller than this in a crop are blurred first, so that fine patterns do not alias."""


@dataclass(frozen=True)
class Crop:
    """A square of a frame, enlarged or reduced to ``side_px``.

    Attributes:
        matrix: (2, 3), from pixels of the frame to pixels of the crop.
        side_px: height and width of the crop.
        picture_rgb: (side_px, side_px, 3) uint8.
        planes: (N_PLANES, side_px, side_px) float32, see `Plane`; VALID is filled in.
    """

    matrix: NDArray[np.float64]
    side_px: int
    picture_rgb: NDArray[np.uint8]
    planes: FloatMap

    @classmethod
    def of(cls, frame_rgb: NDArray[np.uint8], centre_xy: tuple[float, float], shown_px: float, side_px: int) -> Crop:
        """A crop around a point.

        Args:
            frame_rgb: (H, W, 3).
            centre_xy: in pixels of the frame.
            shown_px: how many pixels of the frame the crop's side shows.
            side_px: of the crop.
        """
        matrix = crop_matrix(centre_xy, max(shown_px, MIN_SIDE_PX), side_px)
        picture, valid = warped(frame_rgb, matrix, side_px)
        planes = np.zeros((N_PLANES, side_px, side_px), np.float32)
        planes[Plane.VALID] = valid
        return cls(matrix, side_px, picture, planes)

    @classmethod
    def around(cls, frame_rgb: NDArray[np.uint8], box: Box, widening: float, side_px: int) -> Crop:
        """A crop around the middle of a box; its side shows the box's longer side times ``widening``."""
        x0, y0, x1, y1 = box
        return cls.of(frame_rgb, ((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0) * widening, side_px)

    @property
    def key(self) -> bytes:
        """The same for crops with the same pixels."""
        return blake2b(np.ascontiguousarray(self.picture_rgb).data, digest_size=16).digest()

    @property
    def zoom(self) -> float:
        """Pixels of the crop per pixel of the frame."""
        return abs(float(self.matrix[1, 1]))

    def put_box(self, box: Box) -> None:
        """Draw a box given in pixels of the frame."""
        put_box(self.planes, box, self.matrix)

    def put_points(self, points_xy: NDArray[np.float32], positive: NDArray[np.bool_]) -> None:
        """Draw points (N, 2) given in pixels of the frame; those outside the crop show no more than they reach in."""
        for (x, y), sign in zip(points_xy, positive, strict=True):
            u, v = self.matrix @ np.array([x, y, 1.0])
            if -self.side_px < u < 2 * self.side_px and -self.side_px < v < 2 * self.side_px:
                put_disc(self.planes[Plane.POSITIVE if sign else Plane.NEGATIVE], float(u), float(v))

    def put_previous(self, probability: FloatMap) -> None:
        """Draw the probabilities (H, W) of an earlier mask."""
        how = cv2.INTER_AREA if self.zoom < 1 else cv2.INTER_LINEAR
        moved = cv2.warpAffine(probability, self.matrix, (self.side_px, self.side_px), flags=how)
        self.planes[Plane.PREVIOUS] = (2 * moved - 1) * self.planes[Plane.VALID]

    def put_evidence(self, readout: FloatMap) -> None:
        """Draw what the memory says: (n, n) in [0, 1] of the cells of the crop."""
        large = cv2.resize(readout, (self.side_px, self.side_px), interpolation=cv2.INTER_LINEAR)
        self.planes[Plane.EVIDENCE] = (2 * large - 1) * self.planes[Plane.VALID]

    def to_frame(self, logits: FloatMap, frame_hw: tuple[int, ...]) -> FloatMap:
        """Logits (side_px, side_px) of the crop brought to the frame's size (H, W)."""
        return np.asarray(
            cv2.warpAffine(
                logits,
                self.matrix,
                (frame_hw[1], frame_hw[0]),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=OUTSIDE_LOGIT,
            ),
            np.float32,
        )


def crop_matrix(
    centre_xy: tuple[float, float], shown_px: float, side_px: int, *, flip: bool = False
) -> NDArray[np.float64]:
    """(2, 3): from pixels of a frame to those of a square crop of it, mirrored with ``flip``."""
    zoom = side_px / shown_px
    across = -zoom if flip else zoom
    return np.array([[across, 0, side_px / 2 - across * centre_xy[0]], [0, zoom, side_px / 2 - zoom * centre_xy[1]]])


def warped(
    frame_rgb: NDArray[np.uint8], matrix: NDArray[np.float64], side_px: int
) -> tuple[NDArray[np.uint8], FloatMap]:
    """The crop (side_px, side_px, 3), and a plane that is 1 where it shows the frame and 0 elsewhere."""
    zoom, size = abs(float(matrix[1, 1])), (side_px, side_px)
    picture = frame_rgb if zoom >= SHRINKING_BELOW else cv2.GaussianBlur(frame_rgb, (0, 0), 0.4 / zoom)
    crop = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR)
    whole = np.ones(frame_rgb.shape[:2], np.uint8)
    valid = cv2.warpAffine(whole, matrix, size, flags=cv2.INTER_NEAREST)
    return np.asarray(crop, np.uint8), valid.astype(np.float32)


def put_disc(plane: FloatMap, x: float, y: float) -> None:
    """Draw a point, given in pixels of the plane."""
    radius = max(2, round(POINT_RADIUS_SHARE * plane.shape[0]))
    cv2.circle(plane, (round(float(x)), round(float(y))), radius, 1.0, -1, cv2.LINE_AA)


def put_box(planes: FloatMap, box: Box | NDArray[np.float64], matrix: NDArray[np.float64]) -> None:
    """Draw a box, given in pixels of the frame."""
    corners = matrix @ np.array([[box[0], box[2]], [box[1], box[3]], [1, 1]])
    (u0, u1), (v0, v1) = (sorted(round(float(v)) for v in row) for row in corners)
    planes[Plane.BOX] = -1
    planes[Plane.BOX, max(0, v0) : max(1, v1), max(0, u0) : max(1, u1)] = 1
