"""Box trackers follow a square, both ways, and survive borders, odd boxes and missing frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model_zoo.box_trackers import nanotrack, vittrack
from pipeline.trackers.boxes import opencv
from pipeline.trackers.boxes.base import BoxQuery, BoxTracker
from pipeline.trackers.boxes.mask_box import MaskBox
from pipeline.trackers.boxes.opencv import OpenCvTracker
from pipeline.trackers.boxes.template import OpenCvTemplate
from pipeline.types import BoolMask, FrameRGB
from pipeline.video.frames import FrameSource
from tests.clips import davis, has_shared_clips
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.tiny_onnx import write_nanotrack, write_vittrack
from tests.weights import MIRROR, has_shared_weights


def square_on_grey(n_frames: int = 8) -> tuple[list[FrameRGB], list[BoolMask]]:
    """`moving_square` on a grey ground: the tiny networks look for colour."""
    images, masks = moving_square(n_frames)
    return [np.where(mask[..., None], image, image[..., 1:2]) for image, mask in zip(images, masks, strict=True)], masks


def tiny_nano(folder: Path) -> OpenCvTracker:
    return opencv.nano(nanotrack(*write_nanotrack(folder)))


def real_nano(folder: Path) -> OpenCvTracker:
    """NanoTrack with its published weights; in a clone without them, with the tiny ones."""
    if not has_shared_weights():
        return tiny_nano(folder)
    names = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")
    return opencv.nano(nanotrack(*(MIRROR / "nanotrack_v2" / name for name in names)))


def tiny_vit(folder: Path) -> OpenCvTracker:
    return opencv.vit(vittrack(write_vittrack(folder)))


MOVING: dict[str, Callable[[Path], BoxTracker]] = {
    "template": lambda _: OpenCvTemplate(),
    "mil": lambda _: opencv.mil(),
    "nano": real_nano,
    "tiny_nano": tiny_nano,
    "tiny_vit": tiny_vit,
}


EACH_MOVING = [pytest.param(name, marks=pytest.mark.long if name == "mil" else ()) for name in MOVING]
"""OpenCV's MIL takes ten times as long as the others."""


@pytest.fixture(params=EACH_MOVING)
def moving_tracker(request: pytest.FixtureRequest, tmp_path: Path) -> BoxTracker:
    return MOVING[request.param](tmp_path)


@pytest.fixture(params=["mask_box", *EACH_MOVING])
def tracker(request: pytest.FixtureRequest, tmp_path: Path) -> BoxTracker:
    return MaskBox() if request.param == "mask_box" else MOVING[request.param](tmp_path)


def box_of(mask: BoolMask) -> tuple[float, float, float, float]:
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common)


@pytest.mark.parametrize("frame_range", [range(0, 8), range(7, -1, -1)], ids=["forward", "backward"])
def test_it_follows_a_moving_square(moving_tracker: BoxTracker, frame_range: range) -> None:
    images, masks = square_on_grey()
    query = BoxQuery(frame_range[0], box_of(masks[frame_range[0]]))
    tracks = moving_tracker.track(ArrayFrames(images), query, frame_range)
    assert tracks.boxes_xyxy_px.shape == (8, 4)
    final = tuple(float(v) for v in tracks.boxes_xyxy_px[-1])
    still = box_iou(query.box_xyxy_px, box_of(masks[frame_range[-1]]))
    assert box_iou(final, box_of(masks[frame_range[-1]])) > max(0.6, still)


@pytest.mark.parametrize("frame_range", [range(0, 20), range(19, -1, -1)], ids=["forward", "backward"])
def test_nano_follows_a_car(tmp_path: Path, frame_range: range) -> None:
    """Where the published weights and the real clips are at hand; elsewhere a square."""
    frames: FrameSource = ArrayFrames(square_on_grey(20)[0])
    masks = square_on_grey(20)[1]
    if has_shared_weights() and has_shared_clips():
        clip = davis("car-shadow")
        frames, masks = clip.frames, [clip.mask(index) for index in range(20)]
    query = BoxQuery(frame_range[0], box_of(masks[frame_range[0]]))
    tracks = real_nano(tmp_path).track(frames, query, frame_range)
    overlaps = [
        box_iou([float(v) for v in tracks.boxes_xyxy_px[row]], box_of(masks[index]))
        for row, index in enumerate(frame_range)
    ]
    assert np.mean(overlaps) > 0.75
    assert (tracks.scores > 0.4).all()


@pytest.mark.parametrize("size_hw_px", [(120, 160), (9, 7)])
@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 12, 12),
        (150, 100, 160, 120),
        (0, 0, 160, 120),
        (70, 50, 73, 52),
        (5, 5, 6, 6),
        (20.4, 20.4, 20.4, 20.4),
        (-40, -30, 20, 20),
        (-90, 300, -50, 340),
    ],
)
def test_boxes_at_the_border_and_tiny_ones_do_no_harm(
    tracker: BoxTracker, box: tuple[float, ...], size_hw_px: tuple[int, int]
) -> None:
    images = [np.ascontiguousarray(image[: size_hw_px[0], : size_hw_px[1]]) for image in moving_square(3)[0]]
    tracks = tracker.track(ArrayFrames(images), BoxQuery(0, (box[0], box[1], box[2], box[3])), range(3))
    assert np.isfinite(tracks.boxes_xyxy_px).all()
    assert tracks.scores[0] == 1.0
    assert ((tracks.scores >= 0) & (tracks.scores <= 1)).all()


def test_an_unreadable_frame_keeps_the_last_box_with_score_zero(moving_tracker: BoxTracker) -> None:
    images, masks = square_on_grey(5)
    frames = ArrayFrames(images, frozenset({2}))
    tracks = moving_tracker.track(frames, BoxQuery(0, box_of(masks[0])), range(5))
    assert tracks.scores[2] == 0.0
    assert tracks.boxes_xyxy_px[2].tolist() == tracks.boxes_xyxy_px[1].tolist()
    assert tracks.scores[3] > 0.0


@pytest.mark.parametrize("name", ["template", "nano", "tiny_vit"])
def test_the_same_answer_twice(tmp_path: Path, name: str) -> None:
    images, masks = moving_square()
    query, tracker = BoxQuery(0, box_of(masks[0])), MOVING[name](tmp_path)
    first, second = (tracker.track(ArrayFrames(images), query, range(8)) for _ in range(2))
    assert np.array_equal(first.boxes_xyxy_px, second.boxes_xyxy_px)
    assert np.array_equal(first.scores, second.scores)


@pytest.mark.parametrize("name", ["nano", "tiny_nano", "tiny_vit"])
def test_an_object_that_is_gone_scores_less_than_methods_believe(tmp_path: Path, name: str) -> None:
    images, masks = square_on_grey()
    images[4:] = [np.full_like(images[0], 128)] * 4
    scores = MOVING[name](tmp_path).track(ArrayFrames(images), BoxQuery(0, box_of(masks[0])), range(8)).scores
    assert (scores[1:4] > 0.4).all()
    assert (scores[4:] < 0.4).all()


class Mover:
    """An engine that moves its box by (2, 1) per image, and fails as told by ``answers``."""

    def __init__(self, answers: Sequence[str] = ()) -> None:
        self.answers = iter(answers)
        self.images: list[NDArray[np.uint8]] = []

    def init(self, image: NDArray[np.uint8], boundingBox: Sequence[int]) -> None:
        self.images.append(image)
        self.started = self.box = tuple(boundingBox)

    def update(self, image: NDArray[np.uint8]) -> tuple[bool, Sequence[float]]:
        self.images.append(image)
        answer = next(self.answers, "found")
        if answer == "error":
            raise cv2.error("out of the image")
        x, y, width, height = self.box
        self.box = (x + 2, y + 1, width, height)
        return answer == "found", self.box


def test_boxes_come_back_in_pixels_of_the_original_frame() -> None:
    engine = Mover()
    frames = ArrayFrames([np.full((500, 1000, 3), (10, 20, 30), np.uint8)] * 3)
    tracks = OpenCvTracker(lambda: engine, long_side_px=250).track(frames, BoxQuery(0, (101, 40, 203, 90)), range(3))
    assert engine.images[0].shape == (125, 250, 3)
    assert engine.images[0][0, 0].tolist() == [30, 20, 10]
    assert engine.started == (25, 10, 26, 12)
    assert tracks.boxes_xyxy_px == pytest.approx(np.array([[101, 40, 203, 90], [109, 44, 211, 94], [117, 48, 219, 98]]))
    assert tracks.scores.tolist() == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("box", "started"),
    [((50, 50, 51, 51), (46, 46, 8, 8)), ((-10, 95, 10, 130), (0, 92, 10, 8)), ((80, 20, 70, 10), (70, 10, 10, 10))],
)
def test_the_engine_starts_inside_the_image(box: tuple[int, int, int, int], started: tuple[int, ...]) -> None:
    engine = Mover()
    frames = ArrayFrames([np.zeros((100, 100, 3), np.uint8)] * 2)
    tracks = OpenCvTracker(lambda: engine).track(frames, BoxQuery(0, box), range(2))
    assert engine.started == started
    assert tracks.boxes_xyxy_px[1] == pytest.approx(np.add(box, (2, 1, 2, 1)))


def test_a_lost_object_and_an_error_of_the_engine_keep_the_last_box_with_score_zero() -> None:
    frames = ArrayFrames([np.zeros((100, 100, 3), np.uint8)] * 5)
    tracker = OpenCvTracker(lambda: Mover(["found", "lost", "error", "found"]))
    tracks = tracker.track(frames, BoxQuery(0, (10, 10, 30, 30)), range(5))
    assert tracks.scores.tolist() == [1.0, 0.5, 0.0, 0.0, 0.5]
    assert tracks.boxes_xyxy_px[:, 0].tolist() == [10, 12, 12, 12, 16]


def test_csrt_comes_from_either_place_of_a_contrib_build_and_is_asked_for_elsewhere() -> None:
    made = opencv.csrt(Mover)
    images, masks = moving_square()
    tracks = made.track(ArrayFrames(images), BoxQuery(0, box_of(masks[0])), range(8))
    assert tracks.boxes_xyxy_px[7].tolist() == [34.0, 47.0, 74.0, 87.0]
    new = SimpleNamespace(__version__="4.12.0", TrackerCSRT_create=Mover)
    old = SimpleNamespace(__version__="4.5.1", legacy=new)
    assert opencv.csrt(opencv_module=new).new_engine is Mover
    assert opencv.csrt(opencv_module=old).new_engine is Mover
    with pytest.raises(ValueError, match="uv pip install opencv-contrib-python-headless") as caught:
        opencv.csrt(opencv_module=SimpleNamespace(__version__="4.12.0"))
    assert "\n" not in str(caught.value)
