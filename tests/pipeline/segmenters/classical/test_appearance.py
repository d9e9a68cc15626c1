"""What the appearance model learns from prompted frames and from the frames between them."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.masks import reduced_mask
from pipeline.segmenters.base import FloatMap, ReferenceFrame
from pipeline.segmenters.classical.appearance import AppearanceModel, PixelNetwork, adaptation_pixels
from pipeline.segmenters.classical.features import (
    ClassicalEmbedding,
    Region,
    pixel_features,
    pixel_features_at,
)
from pipeline.types import BoolMask
from tests.pipeline.segmenters.classical.scene import SEGMENTER, disc_frame


def logits_of(mask: BoolMask, embedding: ClassicalEmbedding) -> FloatMap:
    return SEGMENTER.to_low_res(embedding, np.where(mask, 4.0, -4.0).astype(np.float32))


def test_adapting_teaches_new_colours_without_forgetting_the_prompted_one() -> None:
    frame, mask = disc_frame((180, 60, 60))
    changed, _ = disc_frame((60, 70, 190))
    first, second = SEGMENTER.embed(frame), SEGMENTER.embed(changed)
    model = SEGMENTER.learn([ReferenceFrame(first, mask)])
    adapted = model
    for _ in range(8):
        adapted = SEGMENTER.adapt(adapted, second, logits_of(mask, second))
    work_mask = reduced_mask(mask, first.work_size_hw_px)
    whole = Region.whole(work_mask.shape)

    def certainty(appearance: AppearanceModel, embedding: ClassicalEmbedding) -> float:
        return float(appearance.logits(embedding, whole)[work_mask].mean())

    assert certainty(adapted, second) > certainty(model, second) + 0.3
    assert certainty(adapted, first) > 2.0
    again = model
    for _ in range(8):
        again = SEGMENTER.adapt(again, second, logits_of(mask, second))
    assert certainty(again, second) == certainty(adapted, second)
    assert model.recent == ()


def test_an_empty_mask_teaches_nothing() -> None:
    frame, mask = disc_frame((180, 60, 60))
    embedding = SEGMENTER.embed(frame)
    model = SEGMENTER.learn([ReferenceFrame(embedding, mask)])
    assert SEGMENTER.adapt(model, embedding, logits_of(np.zeros_like(mask), embedding)) is model


def test_adaptation_pixels_keep_away_from_the_border() -> None:
    mask = np.zeros((120, 200), np.bool_)
    mask[40:80, 60:110] = True
    rows, far = adaptation_pixels(mask, np.random.default_rng(0))
    border = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) != cv2.erode(mask.astype(np.uint8), np.ones((3, 3)))
    assert mask.ravel()[rows].any()
    assert not mask.ravel()[rows].all()
    assert not border.ravel()[rows].any()
    assert not mask.ravel()[far].any()
    thin = np.zeros_like(mask)
    thin[50, 20:90] = True
    assert not len(adaptation_pixels(thin, np.random.default_rng(0))[0])


def test_features_of_single_pixels_are_those_of_the_whole_frame() -> None:
    frame, mask = disc_frame((180, 60, 60))
    embedding = SEGMENTER.embed(frame)
    projected = SEGMENTER.learn([ReferenceFrame(embedding, mask)]).projection(embedding)
    rows = np.random.default_rng(0).integers(0, mask.shape[0] // 2 * 400, 300)
    whole = pixel_features(embedding, projected, Region.whole(embedding.work_size_hw_px))
    at = pixel_features_at(embedding, projected, rows)
    assert np.abs(at - whole.reshape(-1, whole.shape[2])[rows]).max() < 0.05


def test_the_pixel_network_learns_and_is_reproducible() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 5)).astype(np.float32)
    labels = features[:, 0] * features[:, 1] > 0
    networks = [PixelNetwork.train(features, labels, steps=400) for _ in range(2)]
    first, second = (network.logits(features) for network in networks)
    assert ((first > 0) == labels).mean() > 0.93
    assert np.array_equal(first, second)
