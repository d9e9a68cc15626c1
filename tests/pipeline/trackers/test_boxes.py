"""Box trackers follow a square, both ways, and survive borders and missing frames."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.trackers.boxes.base import BoxQuery, BoxTracker
from pipeline.trackers.boxes.mask_box import MaskBox
from pipeline.trackers.boxes.opencv import OpenCvMil, OpenCvTemplate
from pipeline.types import BoolMask
from tests.pipeline.frame_sources import ArrayFrames, moving_square

TRACKERS = [MaskBox(), OpenCvTemplate(), OpenCvMil()]


def box_of(mask: BoolMask) -> tuple[float, float, float, float]:
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def box_iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common)


@pytest.mark.parametrize("tracker", [OpenCvTemplate(), OpenCvMil()], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("frame_range", [range(0, 8), range(7, -1, -1)], ids=["forward", "backward"])
def test_it_follows_a_moving_square(tracker: BoxTracker, frame_range: range) -> None:
    images, masks = moving_square()
    query = BoxQuery(frame_range[0], box_of(masks[frame_range[0]]))
    tracks = tracker.track(ArrayFrames(images), query, frame_range)
    assert tracks.boxes_xyxy_px.shape == (8, 4)
    final = tuple(float(v) for v in tracks.boxes_xyxy_px[-1])
    still = box_iou(query.box_xyxy_px, box_of(masks[frame_range[-1]]))
    assert box_iou(final, box_of(masks[frame_range[-1]])) > max(0.6, still)


@pytest.mark.parametrize("tracker", TRACKERS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("box", [(0, 0, 12, 12), (150, 100, 160, 120), (0, 0, 160, 120), (70, 50, 73, 52)])
def test_boxes_at_the_border_and_tiny_ones_do_no_harm(tracker: BoxTracker, box: tuple[int, int, int, int]) -> None:
    images, _ = moving_square(4)
    tracks = tracker.track(ArrayFrames(images), BoxQuery(0, tuple(float(v) for v in box)), range(4))  # type: ignore[arg-type]
    assert np.isfinite(tracks.boxes_xyxy_px).all()
    assert tracks.scores[0] == 1.0
    assert ((tracks.scores >= 0) & (tracks.scores <= 1)).all()


@pytest.mark.parametrize("tracker", [OpenCvTemplate(), OpenCvMil()], ids=lambda t: type(t).__name__)
def test_an_unreadable_frame_keeps_the_last_box_with_score_zero(tracker: BoxTracker) -> None:
    images, masks = moving_square(5)
    frames = ArrayFrames(images, frozenset({2}))
    tracks = tracker.track(frames, BoxQuery(0, box_of(masks[0])), range(5))
    assert tracks.scores[2] == 0.0
    assert tracks.boxes_xyxy_px[2].tolist() == tracks.boxes_xyxy_px[1].tolist()
    assert tracks.scores[3] > 0.0


def test_the_template_tracker_gives_the_same_answer_twice() -> None:
    images, masks = moving_square()
    query = BoxQuery(0, box_of(masks[0]))
    first, second = (OpenCvTemplate().track(ArrayFrames(images), query, range(8)) for _ in range(2))
    assert np.array_equal(first.boxes_xyxy_px, second.boxes_xyxy_px)
