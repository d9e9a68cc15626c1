"""Boxes of masks at low resolution are those of the masks in the frame."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.masks import bounding_box
from pipeline.methods.common.mask_boxes import MaskBoxes, widened
from pipeline.segmenters.base import Segmenter
from tests.built_methods import lite_segmenter
from tests.oracle.model import oracle_segmenter
from tests.pipeline.frame_sources import ArrayFrames


@pytest.mark.parametrize("new_segmenter", [oracle_segmenter, lite_segmenter])
@pytest.mark.parametrize("size_hw_px", [(192, 256), (250, 120), (480, 854)])
def test_the_box_of_a_mask_is_right_to_a_cell(new_segmenter: type[Segmenter], size_hw_px: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size_hw_px, 3), dtype=np.uint8)
    segmenter = new_segmenter()
    embedding, boxes = segmenter.embed(image), MaskBoxes(segmenter, ArrayFrames([image]))
    mask = np.zeros(size_hw_px, np.bool_)
    mask[40:80, 50:90] = True
    low_res = segmenter.to_low_res(embedding, np.where(mask, 5.0, -5.0).astype(np.float32))
    cell_px = max(size_hw_px) / max(low_res.shape)
    np.testing.assert_allclose(boxes.box(embedding, low_res), bounding_box(mask), atol=1 + cell_px)
    everywhere = boxes.box(embedding, np.ones_like(low_res))
    assert everywhere == (0.0, 0.0, float(size_hw_px[1]), float(size_hw_px[0])), "padding is no part of the frame"
    assert boxes.box(embedding, -np.ones_like(low_res)) is None


def test_a_box_is_widened_on_each_side() -> None:
    assert widened((10.0, 20.0, 30.0, 60.0), 0.1) == (8.0, 16.0, 32.0, 64.0)
