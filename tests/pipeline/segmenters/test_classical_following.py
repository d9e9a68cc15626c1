"""What the classical segmenter learns on the way, and where it finds the border of a followed object."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pipeline.segmenters.base import FloatMap, ReferenceFrame
from pipeline.segmenters.classical import ClassicalSegmenter
from pipeline.segmenters.classical.appearance import Region, features_at, pixel_features, recent_rows
from pipeline.segmenters.classical.features import ClassicalEmbedding, embed
from pipeline.segmenters.classical.local_colour import local_moments, log_ratio, refined
from pipeline.segmenters.classical.segmenter import to_work_mask
from pipeline.types import BoolMask, FrameRGB

torch.set_num_threads(1)  # as build_method does: small networks crawl when their threads fight for cores
SEGMENTER = ClassicalSegmenter()


def disc_frame(colour: tuple[int, int, int], size_hw_px: tuple[int, int] = (480, 854)) -> tuple[FrameRGB, BoolMask]:
    """A disc of one colour on noisy grey."""
    height_px, width_px = size_hw_px
    noise = np.random.default_rng(1).normal(0, 12, (height_px, width_px, 3))
    image = np.full((height_px, width_px, 3), 120.0) + noise
    ys, xs = np.mgrid[:height_px, :width_px]
    disc = (xs - width_px * 0.4) ** 2 + (ys - height_px * 0.5) ** 2 < (0.2 * height_px) ** 2
    image[disc] += np.array(colour) - 120.0
    return np.clip(image, 0, 255).astype(np.uint8), np.asarray(disc)


def known(mask: BoolMask, embedding: ClassicalEmbedding) -> FloatMap:
    return SEGMENTER.to_low_res(embedding, np.where(mask, 4.0, -4.0).astype(np.float32))


def test_adapting_teaches_new_colours_without_forgetting_the_prompted_one() -> None:
    frame, mask = disc_frame((180, 60, 60))
    changed, _ = disc_frame((60, 70, 190))
    first, second = SEGMENTER.embed(frame), SEGMENTER.embed(changed)
    memory = SEGMENTER.learn([ReferenceFrame(first, mask)])
    adapted = memory
    for _ in range(8):
        adapted = SEGMENTER.adapt(adapted, second, known(mask, second))
    work_mask = to_work_mask(mask, first.work_size_hw_px)
    whole = Region.whole(work_mask.shape)

    def certainty(appearance: object, embedding: object) -> float:
        return float(appearance.read(embedding, whole)[work_mask].mean())  # type: ignore[attr-defined]

    assert certainty(adapted, second) > certainty(memory, second) + 0.3
    assert certainty(adapted, first) > 2.0
    again = memory
    for _ in range(8):
        again = SEGMENTER.adapt(again, second, known(mask, second))
    assert certainty(again, second) == certainty(adapted, second)
    assert memory.recent == ()


def test_an_empty_mask_teaches_nothing() -> None:
    frame, mask = disc_frame((180, 60, 60))
    embedding = SEGMENTER.embed(frame)
    memory = SEGMENTER.learn([ReferenceFrame(embedding, mask)])
    assert SEGMENTER.adapt(memory, embedding, known(np.zeros_like(mask), embedding)) is memory


def test_recent_pixels_keep_away_from_the_border() -> None:
    mask = np.zeros((120, 200), np.bool_)
    mask[40:80, 60:110] = True
    rows, far = recent_rows(mask, np.random.default_rng(0))
    border = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) != cv2.erode(mask.astype(np.uint8), np.ones((3, 3)))
    assert mask.ravel()[rows].any()
    assert not mask.ravel()[rows].all()
    assert not border.ravel()[rows].any()
    assert not mask.ravel()[far].any()
    thin = np.zeros_like(mask)
    thin[50, 20:90] = True
    assert not len(recent_rows(thin, np.random.default_rng(0))[0])


def test_features_of_single_pixels_are_those_of_the_whole_frame() -> None:
    frame, mask = disc_frame((180, 60, 60))
    embedding = SEGMENTER.embed(frame)
    projected = SEGMENTER.learn([ReferenceFrame(embedding, mask)]).projection(embedding)
    rows = np.random.default_rng(0).integers(0, mask.shape[0] // 2 * 400, 300)
    whole = pixel_features(embedding, projected, Region.whole(embedding.work_size_hw_px))
    at = features_at(embedding, projected, rows)
    assert np.abs(at - whole.reshape(-1, whole.shape[2])[rows]).max() < 0.05


@pytest.mark.parametrize("size_hw_px", [(480, 854), (300, 200), (1080, 1920)])
def test_a_coarse_border_moves_to_the_edge_of_the_local_colours(size_hw_px: tuple[int, int]) -> None:
    frame, mask = disc_frame((175, 110, 70), size_hw_px)
    embedding = embed(frame)
    exact = to_work_mask(mask, embedding.work_size_hw_px)
    careless = cv2.dilate(exact.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    fine = refined(careless, embedding)
    assert fine.shape == embedding.fine_lab_u8.shape[:2]
    truth = cv2.resize(mask.astype(np.uint8), fine.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    before = cv2.resize(careless.astype(np.uint8), fine.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0

    def iou(found: BoolMask) -> float:
        return float((found & truth).sum() / (found | truth).sum())

    assert iou(fine) > max(0.95, iou(before) + 0.02)
    assert not refined(np.zeros_like(exact), embedding).any()


def test_local_colours_speak_only_where_both_sides_are_seen() -> None:
    lab = np.zeros((60, 80, 3), np.float32)
    lab[:, 40:] = 1.0
    left = np.zeros((60, 80), np.bool_)
    left[:, 20:38] = True
    right = np.zeros((60, 80), np.bool_)
    right[:, 42:60] = True
    ratio = log_ratio(lab, local_moments(lab, left, 4.0), local_moments(lab, right, 4.0))
    assert ratio[30, 36] > 1.0
    assert ratio[30, 43] < -1.0
    assert np.abs(ratio[:, :2]).max() < 0.1
