"""Template correlation over a few scales: the default box tracker, which needs no download."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks, nothing_found
from pipeline.trackers.frames import reduced
from pipeline.video.frames import FrameSource


@dataclass(frozen=True)
class OpenCvTemplate:
    """Normalised cross-correlation with the query's patch, over a few scales around the last box.

    The patch is refreshed slowly where it matches well, so that it follows the object's looks without drifting at once.
    Lengths are in pixels of the reduced frame. The score is the correlation, clipped to [0, 1].
    """

    long_side_px: int = 96
    search_margin: float = 0.5
    scales: tuple[float, ...] = (0.96, 1.0, 1.04)
    refresh: float = 0.1

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:
        """Follow the box over a range of frames."""
        boxes, scores = nothing_found(query, frame_range)
        image, scale = reduced(frames, frame_range[0], self.long_side_px)
        if image is None:
            return BoxTracks(frame_range, boxes, scores)
        box = np.array(query.box_xyxy_px, np.float32) * scale
        template = _padded_patch(image, box)[0]
        scores[0] = 1.0
        for row, frame_index in enumerate(frame_range[1:], start=1):
            image, _ = reduced(frames, frame_index, self.long_side_px)
            if image is not None:
                box, score = self._find(image, template, box)
                scores[row] = score
                if score > 0.5:
                    fresh = cv2.resize(_padded_patch(image, box)[0], (template.shape[1], template.shape[0]))
                    template = np.asarray((1.0 - self.refresh) * template + self.refresh * fresh, np.float32)
            boxes[row] = box / scale
        return BoxTracks(frame_range, boxes, scores)

    def _find(
        self, image: NDArray[np.uint8], template: NDArray[np.float32], box: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        """The box (4,) where the template matches best near the last one, and its score."""
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        pad = np.maximum(8.0, self.search_margin * size)
        best_score, best_box = -1.0, box
        for scale in self.scales:
            wanted = size * scale
            area = np.concatenate([centre - wanted / 2 - pad, centre + wanted / 2 + pad])
            window, origin = _padded_patch(image, area)
            width, height = max(4, round(float(wanted[0]))), max(4, round(float(wanted[1])))
            if window.shape[0] < height or window.shape[1] < width:
                continue
            scaled = cv2.resize(template, (width, height), interpolation=cv2.INTER_AREA)
            response = cv2.matchTemplate(window, scaled, cv2.TM_CCOEFF_NORMED)
            _, score, _, (x, y) = cv2.minMaxLoc(response)
            if score > best_score + (0.01 if scale != 1.0 else 0.0):
                left, top = float(origin[0]) + x, float(origin[1]) + y
                best_score, best_box = score, np.array([left, top, left + width, top + height], np.float32)
        return best_box, float(np.clip(np.nan_to_num(best_score), 0.0, 1.0))


def _padded_patch(
    image: NDArray[np.uint8], box: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A box as float32 pixels, at least 4 x 4 and continued at the image's border, and its integer corner (2,)."""
    x0, y0 = int(np.floor(box[0])), int(np.floor(box[1]))
    x1, y1 = max(x0 + 4, int(np.ceil(box[2]))), max(y0 + 4, int(np.ceil(box[3])))
    xs = np.clip(np.arange(x0, x1), 0, image.shape[1] - 1)
    ys = np.clip(np.arange(y0, y1), 0, image.shape[0] - 1)
    return image[np.ix_(ys, xs)].astype(np.float32), np.array([x0, y0], np.float32)


def build(context: PartContext) -> OpenCvTemplate:  # noqa: ARG001
    """The tracker with its default settings; it needs no weights."""
    return OpenCvTemplate()
