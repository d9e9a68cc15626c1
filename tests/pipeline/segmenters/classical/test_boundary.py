"""Where the border of a mask lies: graph cut, geodesic distance, local colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.masks import reduced_mask
from pipeline.segmenters.classical.boundary import (
    geodesic_distance,
    graph_cut,
    local_colour_logits,
    local_colour_statistics,
    refine_border,
)
from pipeline.segmenters.classical.features import embed
from pipeline.types import BoolMask
from tests.pipeline.segmenters.classical.scene import disc_frame


def test_the_cut_follows_the_edge_and_obeys_hard_pixels() -> None:
    lab = np.full((40, 60, 3), 60, np.uint8)
    lab[:, 30:] = 180
    logits = np.zeros((40, 60), np.float32)
    logits[:, :10], logits[:, 50:] = 2.0, -2.0
    assert np.array_equal(graph_cut(logits, lab), lab[..., 0] == 60)
    inside, outside = np.zeros((40, 60), np.bool_), np.zeros((40, 60), np.bool_)
    inside[20, 55], outside[20, 5] = True, True
    mask = graph_cut(logits, lab, foreground=inside, background=outside)
    assert mask[20, 55]
    assert not mask[20, 5]


def test_geodesic_distance_pays_for_pixels_and_for_edges() -> None:
    flat = np.zeros((20, 30, 3), np.float32)
    seeds = np.zeros((20, 30), np.bool_)
    seeds[10, 5] = True
    distance = geodesic_distance(seeds, flat)
    assert distance[10, 5] == 0
    assert distance[10, 15] == pytest.approx(10, abs=1e-3)
    assert distance[13, 9] == pytest.approx(7, abs=1e-3)
    edge = flat.copy()
    edge[:, 10:] = 1.0
    assert geodesic_distance(seeds, edge)[10, 15] > distance[10, 15] + 25
    assert np.isinf(geodesic_distance(np.zeros_like(seeds), flat)).all()


@pytest.mark.parametrize("size_hw_px", [(480, 854), (300, 200), (1080, 1920)])
def test_a_coarse_border_moves_to_the_edge_of_the_local_colours(size_hw_px: tuple[int, int]) -> None:
    frame, mask = disc_frame((175, 110, 70), size_hw_px)
    embedding = embed(frame)
    exact = reduced_mask(mask, embedding.work_size_hw_px)
    careless = cv2.dilate(exact.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    fine = refine_border(careless, embedding)
    assert fine.shape == embedding.fine_lab_u8.shape[:2]
    truth = cv2.resize(mask.astype(np.uint8), fine.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    before = cv2.resize(careless.astype(np.uint8), fine.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0

    def iou(found: BoolMask) -> float:
        return float((found & truth).sum() / (found | truth).sum())

    assert iou(fine) > max(0.95, iou(before) + 0.02)
    assert not refine_border(np.zeros_like(exact), embedding).any()


def test_local_colours_count_only_where_both_sides_are_seen() -> None:
    lab = np.zeros((60, 80, 3), np.float32)
    lab[:, 40:] = 1.0
    left = np.zeros((60, 80), np.bool_)
    left[:, 20:38] = True
    right = np.zeros((60, 80), np.bool_)
    right[:, 42:60] = True
    ratio = local_colour_logits(lab, local_colour_statistics(lab, left, 4.0), local_colour_statistics(lab, right, 4.0))
    assert ratio[30, 36] > 1.0
    assert ratio[30, 43] < -1.0
    assert np.abs(ratio[:, :2]).max() < 0.1
