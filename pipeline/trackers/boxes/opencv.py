"""OpenCV's own trackers behind one adapter: MIL, Nano, Vit, and CSRT where OpenCV has its contrib modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.parts.context import PartContext
from pipeline.trackers.boxes.base import BoxQuery, BoxTracks, nothing_found
from pipeline.trackers.frames import reduced
from pipeline.video.frames import FrameSource

_MIN_SIDE_PX = 8
"""Smallest box given to a tracker; a smaller one is widened around its centre and narrowed again in the result."""


class Engine(Protocol):
    """One of OpenCV's trackers, following one box; images are (H, W, 3) BGR uint8, boxes x, y, width, height.

    It may also have ``getTrackingScore()``, which rates the last update.
    """

    def init(self, image: NDArray[np.uint8], boundingBox: Sequence[int]) -> None:
        """Start from a box."""
        ...

    def update(self, image: NDArray[np.uint8]) -> tuple[bool, Sequence[float]]:
        """Whether the object was found in the next image, and where."""
        ...


NewEngine = Callable[[], Engine]


@dataclass(frozen=True)
class OpenCvTracker:
    """See `pipeline.trackers.boxes.base.BoxTracker`. Every call of `track` has an engine of its own.

    Attributes:
        new_engine: makes a tracker that has seen nothing yet.
        long_side_px: frames larger than this are reduced.
        bordered: continue the image beyond its border, for an engine that reads there without looking.
        lost_score, sure_score: the engine's own scores that become 0 and 1, in between linear. Where they were
            measured, boxes scored from 0.2 to 0.4 are right as often as the template tracker's: in four of ten cases.
        found_score: of a box from an engine that does not rate itself.
    """

    new_engine: NewEngine
    long_side_px: int = 960
    bordered: bool = False
    lost_score: float = 0.0
    sure_score: float = 1.0
    found_score: float = 0.5

    def track(self, frames: FrameSource, query: BoxQuery, frame_range: range) -> BoxTracks:
        """Follow the box over a range of frames; where the engine finds nothing, the last box stays with score 0."""
        boxes, scores = nothing_found(query, frame_range)
        image, scale = reduced(frames, frame_range[0], self.long_side_px)
        if image is None:
            return BoxTracks(frame_range, boxes, scores)
        wanted = np.array(query.box_xyxy_px, np.float64) * scale
        start = _within(wanted, image.shape[:2])
        # The engine's box is of whole pixels, inside the image, not tiny; what that changed is undone in its answers.
        corners = ((wanted.reshape(2, 2) - start[:2]) / start[2:]).astype(np.float64)
        margin_px = int(max(*start[2:], 40)) if self.bordered else 0
        engine = self.new_engine()
        engine.init(_prepared(image, margin_px), (*(start[:2] + margin_px).tolist(), *start[2:].tolist()))
        scores[0] = 1.0
        for row, frame_index in enumerate(frame_range[1:], start=1):
            image, _ = reduced(frames, frame_index, self.long_side_px)
            boxes[row] = boxes[row - 1]
            found = None if image is None else self._update(engine, _prepared(image, margin_px))
            if found is not None:
                xywh, scores[row] = found
                boxes[row] = ((xywh[:2] - margin_px + corners * xywh[2:]) / scale).reshape(4)
        return BoxTracks(frame_range, boxes, scores)

    def _update(self, engine: Engine, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float] | None:
        """The box (4,), x, y, width, height, and its score in [0, 1]; None where the object was not found."""
        try:
            found, box = engine.update(image)
        except cv2.error:  # The engine's box has left the image: it has nothing to look at.
            return None
        xywh = np.asarray(box, np.float64)
        if not found or not np.isfinite(xywh).all() or (xywh[2:] <= 0).any():
            return None
        rate: Callable[[], float] | None = getattr(engine, "getTrackingScore", None)
        if rate is None:
            return xywh, self.found_score
        score = (float(rate()) - self.lost_score) / (self.sure_score - self.lost_score)
        return xywh, float(np.clip(np.nan_to_num(score), 0.0, 1.0))


def mil() -> OpenCvTracker:
    """MIL (Babenko et al., CVPR 2009). It seeds itself from the clock, so two runs differ; about 0.2 s a frame."""
    return OpenCvTracker(cv2.TrackerMIL.create, long_side_px=320, bordered=True)


def nano(new_engine: NewEngine) -> OpenCvTracker:
    """NanoTrack V2; ``new_engine`` comes from `model_zoo.box_trackers.nanotrack`.

    Its score is (1 - w) * p + w * window with w = 0.455, never far below w even where there is nothing to find, and p
    falls with the box's distance from the frame's corner as OpenCV computes it. Hence the small frame: measured on
    it, a box of a score under 0.907 overlaps the true one by half in a third of all cases, and in seven of eight above.
    """
    return OpenCvTracker(new_engine, long_side_px=480, lost_score=0.87, sure_score=0.96)


def vit(new_engine: NewEngine) -> OpenCvTracker:
    """OpenCV's ViT tracker; ``new_engine`` comes from `model_zoo.box_trackers.vittrack`.

    Its score is a centre probability times a distance window; below 0.2 OpenCV itself calls the object lost.
    What the score is worth has not been measured: the published weights were never run here.
    """
    return OpenCvTracker(new_engine)


def csrt(new_engine: NewEngine | None = None, opencv_module: Any = cv2) -> OpenCvTracker:
    """CSRT (Lukezic et al., CVPR 2017), which only builds of OpenCV with contrib modules have; no confidence.

    Args:
        new_engine: makes the engine; None takes OpenCV's own.
        opencv_module: where that is looked for.

    Raises:
        ValueError: this OpenCV has no CSRT; in one line, with the command that brings one that has.
    """
    return OpenCvTracker(new_engine or _csrt_of(opencv_module), long_side_px=640)


def _csrt_of(opencv: Any) -> NewEngine:
    for place in (opencv, getattr(opencv, "legacy", None)):
        create: NewEngine | None = getattr(place, "TrackerCSRT_create", None)
        if create is not None:
            return create
    raise ValueError(
        "box tracker opencv_csrt needs OpenCV with its contrib modules, but the installed OpenCV "
        f"{opencv.__version__} has none; replace it with: uv pip uninstall opencv-python-headless && "
        "uv pip install opencv-contrib-python-headless (or pip, likewise)"
    )


def _within(box_xyxy_px: NDArray[np.float64], size_hw_px: tuple[int, ...]) -> NDArray[np.int64]:
    """The nearest box x, y, width, height of whole pixels inside an image, `_MIN_SIDE_PX` or more where that fits."""
    limit = np.array([size_hw_px[1], size_hw_px[0]], np.float64)
    low, high = np.clip(np.sort(np.nan_to_num(box_xyxy_px).reshape(2, 2), axis=0), 0, limit)
    side = np.minimum(np.maximum(np.round(high - low), _MIN_SIDE_PX), limit)
    corner = np.clip(np.round((low + high - side) / 2), 0, limit - side)
    return np.asarray(np.concatenate([corner, side]), np.int64)


def _prepared(image: NDArray[np.uint8], margin_px: int) -> NDArray[np.uint8]:
    """An RGB image as the BGR that OpenCV's trackers expect, continued beyond its border where asked."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not margin_px:
        return np.asarray(bgr, np.uint8)
    sides = (margin_px,) * 4
    return np.asarray(cv2.copyMakeBorder(bgr, *sides, cv2.BORDER_REPLICATE), np.uint8)


def build_mil(context: PartContext) -> OpenCvTracker:  # noqa: ARG001
    """See `mil`."""
    return mil()


def build_csrt(context: PartContext) -> OpenCvTracker:  # noqa: ARG001
    """See `csrt`."""
    return csrt()


def build_nanotrack(context: PartContext) -> OpenCvTracker:
    """See `nano`; with the published weights."""
    from model_zoo.box_trackers import nanotrack

    files = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")
    return nano(nanotrack(*(context.store.file("nanotrack_v2", file) for file in files)))


def build_vittrack(context: PartContext) -> OpenCvTracker:
    """See `vit`; with the published weights."""
    from model_zoo.box_trackers import vittrack

    return vit(vittrack(context.store.file("vittrack")))
