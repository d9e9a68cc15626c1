"""SAM-PD's boxes, similarity and refinement do what the paper says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Anchor, ObjectRound
from pipeline.methods.per_object.denoising_video import (
    correlation_peak,
    deepest_point,
    jittered_boxes,
    masked_crop,
)
from pipeline.methods.sam_pd import SamPd, SamPdSettings
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


@pytest.mark.parametrize("keep", ["largest", "like_previous"])
def test_a_step_segments_all_boxes_at_once_and_refines_with_the_others_as_negatives(keep: str) -> None:
    segmenter = RecordingSegmenter(uses_mask_prior=True)
    method = SamPd(segmenter, EmbeddingCache(64))
    method = SamPd(segmenter, EmbeddingCache(64), type(method.settings)(keep=keep))
    video = method.open(ArrayFrames(IMAGES))
    other = np.zeros_like(MASKS[0])
    other[5:16, 100:111] = True
    task = ObjectRound(1, 1, (Anchor(0, MASKS[0]),), frozenset(range(1, 6)), lambda _: [other, np.zeros_like(other)])
    memory = video.begin_round(task)
    estimates = list(video.propagate(Anchor(0, MASKS[0]), range(1, 6), memory))
    assert [estimate.frame_index for estimate in estimates] == [1, 2, 3, 4, 5]
    coarse, refine = segmenter.calls[:2]
    assert len(coarse.prompts) == 18
    assert refine.multimask
    assert refine.prompts[0].positive.tolist() == [True, False]
    assert refine.prompts[0].points_xy_px[1].tolist() == [105, 10]
    union = (estimates[-1].logits > 0) | MASKS[5]
    assert ((estimates[-1].logits > 0) & MASKS[5]).sum() / union.sum() > 0.8


def test_an_unknown_choice_of_the_refined_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="largest, like_previous"):
        SamPdSettings(keep="best")
