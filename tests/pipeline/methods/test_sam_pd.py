"""SAM-PD's boxes, similarity and refinement do what the paper says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Anchor, BatchedVideo, ObjectRound, PropagationPass
from pipeline.methods.per_object.denoising_video import (
    DenoisingVideo,
    correlation_peak,
    deepest_point,
    jittered_boxes,
    masked_crop,
    negative_point,
)
from pipeline.methods.sam_pd import SamPd, SamPdSettings
from pipeline.segmenters.base import Segmenter
from pipeline.session.session import Session
from pipeline.types import BoolMask, MaskPrompt, RunLengthMask
from pipeline.video.frames import FrameSource
from tests.oracle.methods import ious, mask_prompt, masks_of, oracle_method
from tests.oracle.scenes import BLUE, RED, Body, rendered, scene
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter

IMAGES, MASKS = moving_square(n_frames=6)


def test_eighteen_boxes_lie_on_a_grid_of_tenths_in_two_sizes() -> None:
    boxes = np.array(jittered_boxes((100, 50, 200, 90), SamPdSettings(), (480, 854)))
    assert len({tuple(box) for box in boxes.tolist()}) == 18
    assert boxes[0].tolist() == [100, 50, 200, 90]
    centres = {((x0 + x1) / 2 - 150, (y0 + y1) / 2 - 70) for x0, y0, x1, y1 in boxes.tolist()}
    assert {(round(x, 3), round(y, 3)) for x, y in centres} == {(x, y) for x in (-10, 0, 10) for y in (-4, 0, 4)}
    widths = sorted({round(float(w), 3) for w in boxes[:, 2] - boxes[:, 0]})
    assert widths == [100, 105]


def test_boxes_at_the_border_stay_in_the_image_and_keep_a_pixel() -> None:
    boxes = np.array(jittered_boxes((0, 0, 10, 10), SamPdSettings(grid_step=2.0), (40, 60)))
    assert boxes.min() >= 0
    assert ((boxes[:, 2] - boxes[:, 0]) >= 1).all()
    assert ((boxes[:, 3] - boxes[:, 1]) >= 1).all()


def test_correlation_equals_a_plain_loop_over_all_shifts() -> None:
    generator = torch.Generator().manual_seed(0)
    template, crop = (torch.randn(size, generator=generator) for size in ((3, 4, 5), (3, 6, 3)))
    best = -float("inf")
    for dy in range(-3, 6):
        for dx in range(-4, 3):
            total = 0.0
            for y in range(4):
                for x in range(5):
                    if 0 <= y + dy < 6 and 0 <= x + dx < 3:
                        total += float((template[:, y, x] * crop[:, y + dy, x + dx]).sum())
            best = max(best, total)
    assert float(correlation_peak(template, crop)) == pytest.approx(best, rel=1e-4)


def test_a_crop_is_the_mask_s_features_alone() -> None:
    features = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(2, 4, 4)
    logits = np.full((16, 16), -1.0, np.float32)
    logits[4:12, 8:16] = 1.0
    logits[8:12, 12:16] = -1.0
    crop = masked_crop(features, logits)
    assert crop.shape == (2, 2, 2)
    assert crop[0].tolist() == [[6, 7], [10, 0]]
    empty = masked_crop(features, np.full((16, 16), -1.0, np.float32))
    assert float(correlation_peak(crop, empty)) == -float("inf")


def test_the_deepest_point_is_in_the_thickest_part_even_at_the_border() -> None:
    mask = np.zeros((20, 40), np.bool_)
    mask[:, 0:3] = True
    mask[6:15, 20:29] = True
    assert deepest_point(mask).tolist() == [24, 10]


def square(x_px: int, y_px: int, side_px: int = 11) -> BoolMask:
    """A mask of the clip's size whose middle is (x, y)."""
    mask = np.zeros_like(MASKS[0])
    reach = side_px // 2
    mask[y_px - reach : y_px + reach + 1, x_px - reach : x_px + reach + 1] = True
    return mask


def object_round(object_id: int, mask: BoolMask, others: Mapping[int, BoolMask] | None = None) -> ObjectRound:
    known = {other_id: RunLengthMask.encode(other) for other_id, other in (others or {}).items()}
    return ObjectRound(object_id, 1, (Anchor(0, mask),), frozenset(range(1, 6)), lambda _: known)


def opened(segmenter: Segmenter, frames: FrameSource | None = None, **settings: Any) -> DenoisingVideo:
    return SamPd(segmenter, EmbeddingCache(64), SamPdSettings(**settings)).open(frames or ArrayFrames(IMAGES))


def passes_of(video: DenoisingVideo, *tasks: ObjectRound) -> list[PropagationPass]:
    return [PropagationPass(task.anchors[0], range(1, 6), video.begin_round(task)) for task in tasks]


@pytest.mark.parametrize("keep", ["largest", "like_previous"])
def test_a_step_segments_all_boxes_at_once_and_refines_with_the_others_as_negatives(keep: str) -> None:
    """Objects without a pass on the frame count with the mask they have there; one that is not there does not."""
    segmenter = RecordingSegmenter(uses_mask_prior=True)
    video = opened(segmenter, keep=keep)
    assert isinstance(video, BatchedVideo)
    task = object_round(1, MASKS[0], {2: square(105, 10), 3: np.zeros_like(MASKS[0])})
    estimates = list(video.propagate(Anchor(0, MASKS[0]), range(1, 6), video.begin_round(task)))
    assert [estimate.frame_index for estimate in estimates] == [1, 2, 3, 4, 5]
    coarse, refine = segmenter.calls[:2]
    assert len(coarse.prompts) == 18
    for prompts in coarse.prompts:
        assert prompts.positive.tolist() == [False]
        assert prompts.points_xy_px.tolist() == [[105, 10]]
    assert not coarse.multimask
    assert refine.multimask
    assert refine.prompts[0].positive.tolist() == [True, False]
    assert refine.prompts[0].points_xy_px[1].tolist() == [105, 10]
    union = (estimates[-1].logits > 0) | MASKS[5]
    assert ((estimates[-1].logits > 0) & MASKS[5]).sum() / union.sum() > 0.8


def test_objects_on_one_frame_are_asked_for_together_and_every_one_keeps_off_the_others() -> None:
    """The first stage has the others' last masks, the second one the coarse masks of all on this frame."""
    segmenter = RecordingSegmenter(uses_mask_prior=True)
    video = opened(segmenter)
    there = square(130, 20)
    passes = passes_of(video, object_round(1, MASKS[0], {2: there}), object_round(2, there, {1: MASKS[0]}))
    found = list(video.propagate_together(passes))
    assert [(position, each.frame_index) for position, each in found] == [(n, k) for k in range(1, 6) for n in (0, 1)]
    assert [len(call.prompts) for call in segmenter.calls] == [36, 2] * 5
    coarse, refine = segmenter.calls[:2]
    assert {tuple(each.points_xy_px[0]) for each in coarse.prompts[:18]} == {(130, 20)}
    middle = tuple(deepest_point(MASKS[0]))
    assert {tuple(each.points_xy_px[0]) for each in coarse.prompts[18:]} == {middle}
    # The segmenter finds the red square for both; so each one's positive point is in what it found, and both coarse
    # masks are the same: nobody knows whose the pixels are.
    assert [each.positive.tolist() for each in refine.prompts] == [[True], [True]]


def test_passes_of_other_frames_and_directions_take_turns() -> None:
    video = opened(RecordingSegmenter(uses_mask_prior=True))
    first, second = passes_of(video, object_round(1, MASKS[0]), object_round(2, square(130, 20)))
    back = PropagationPass(Anchor(5, MASKS[5]), range(4, 2, -1), second.memory)
    found = video.propagate_together([first, back])
    assert [(position, each.frame_index) for position, each in found] == [
        *((0, 1), (1, 4), (0, 2), (1, 3), (0, 3), (0, 4), (0, 5))
    ]


@pytest.mark.parametrize("broken", [frozenset[int](), frozenset({3})])
def test_from_a_frame_without_the_object_come_sure_empty_masks(broken: frozenset[int]) -> None:
    segmenter = RecordingSegmenter(uses_mask_prior=True)
    video = opened(segmenter, ArrayFrames(IMAGES, broken))
    nothing = np.zeros_like(MASKS[0])
    first, second = passes_of(video, object_round(1, nothing, {2: MASKS[0]}), object_round(2, MASKS[0], {1: MASKS[0]}))
    estimates = list(video.propagate(first.anchor, first.frame_indices, first.memory))
    assert [each.frame_index for each in estimates] == [k for k in range(1, 6) if k not in broken]
    assert all(each.score == 1 and not (each.logits > 0).any() for each in estimates)
    assert segmenter.calls == []
    together = list(video.propagate_together([first, second]))
    assert all((each.logits > 0).any() == (position == 1) for position, each in together)
    assert all(not len(prompts.positive) for prompts in segmenter.calls[0].prompts), "what is not there is no negative"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (square(20, 20), (80, 60)),
        (square(60, 60, 31), (80, 60)),
        (square(80, 60, 21) & (np.abs(np.arange(160) - 80) < 4), (73, 53)),
        (square(80, 60, 61), (80, 60)),
        (square(80, 60, 23), None),
    ],
    ids=["apart", "touches", "overlaps in the middle", "has grown over it", "nearly the same"],
)
def test_a_negative_point_does_not_cut_into_the_object(own: BoolMask, expected: tuple[int, int] | None) -> None:
    other = square(80, 60, 21)
    point = negative_point(own, other, deepest_point(other))
    if expected is None:
        assert point is None
    else:
        assert point is not None
        assert np.abs(point - expected).max() <= 1


SMALL_IN_FRONT = [Body(lambda t: (70 + 120 * t, 96, 44, 44), RED), Body(lambda t: (40 + 176 * t, 96, 14, 14), BLUE)]
ALONG_WITH_IT = [Body(lambda t: (70 + 120 * t, 96, 48, 48), RED), Body(lambda t: (80 + 120 * t, 96, 16, 16), BLUE)]
TOUCHING = [
    Body(lambda t: (102 - 52 * abs(2 * t - 1), 96, 26, 26), RED),
    Body(lambda t: (154 + 52 * abs(2 * t - 1), 96, 26, 26), RED),
]


@pytest.mark.parametrize("bodies", [SMALL_IN_FRONT, ALONG_WITH_IT, TOUCHING])
def test_objects_keep_off_each_other(bodies: list[Body]) -> None:
    """A small one that passes in front of a large one, one that moves along with it, and two alike that touch.

    Without its negative point the large one takes the small one in, which then has no pixel left.
    """
    shown = rendered(bodies, 24)
    session = Session(shown.frames, oracle_method("sam_pd", keep="like_previous"))
    list(session.run_round([mask_prompt(shown, 0, object_id) for object_id in (1, 2)], object_ids=[1, 2]))
    for object_id in (1, 2):
        assert np.mean(ious(session, shown, object_id)) > 0.8
        assert ious(session, shown, object_id)[-1] > 0.8


def test_a_frame_said_not_to_show_the_object_clears_the_masks_after_it() -> None:
    shown = scene("moves")
    session = Session(shown.frames, oracle_method("sam_pd", keep="like_previous"))
    given = [mask_prompt(shown, 0)]
    list(session.run_round(given, object_ids=[1]))
    assert all(mask.any() for mask in masks_of(session).values())
    nothing = RunLengthMask.encode(np.zeros_like(shown.masks[1][0]))
    list(session.run_round([*given, MaskPrompt(1, 10, nothing)], object_ids=[1]))
    found = masks_of(session)
    assert not any(found[frame].any() for frame in range(10, len(shown.images)))
    assert all(result.score > 0.9 for result in session.results(1) if result.frame_index > 10)


def test_an_unknown_choice_of_the_refined_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="largest, like_previous"):
        SamPdSettings(keep="best")
