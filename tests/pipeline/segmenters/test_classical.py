"""The classical segmenter obeys prompts, and its parts do what they claim."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.memory.bank import MemoryBank
from pipeline.methods import MethodChoice
from pipeline.segmenters.base import FloatMap, ObjectPrompts, PromptBatch, ReferenceFrame
from pipeline.segmenters.classical import ClassicalSegmenter
from pipeline.segmenters.classical.boundary import geodesic_distance, graph_cut
from pipeline.segmenters.classical.features import WORK_LONG_SIDE_PX, embed
from pipeline.segmenters.classical.pixel_model import PixelModel
from pipeline.types import BoolMask, FrameRGB
from tests.built_methods import built

torch.set_num_threads(1)  # as build_method does: small networks crawl when their threads fight for cores
SEGMENTER = ClassicalSegmenter()


def scene() -> tuple[FrameRGB, BoolMask, BoolMask]:
    """A blue ellipse (object) that touches an orange disc (not object) on textured grey."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(0, 40, (240, 320, 1)).astype(np.float32), (0, 0), 1.5)[..., None] * 2
    image = np.full((240, 320, 3), 128.0) + noise
    ys, xs = np.mgrid[:240, :320]
    ellipse = ((xs - 130) / 60) ** 2 + ((ys - 120) / 40) ** 2 < 1
    disc = (xs - 210) ** 2 + (ys - 120) ** 2 < 28**2
    image[ellipse] += (-70, -40, 80)
    image[disc & ~ellipse] += (90, 20, -70)
    return np.clip(image, 0, 255).astype(np.uint8), ellipse, disc & ~ellipse


IMAGE, OBJECT, NEIGHBOUR = scene()
EMBEDDING = SEGMENTER.embed(IMAGE)


def iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / (first | second).sum())


def clicks(*points: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None) -> ObjectPrompts:
    xy = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    return ObjectPrompts(xy, np.array([point[2] for point in points], np.bool_), box)


def segment(prompts: ObjectPrompts, prior: BoolMask | None = None) -> BoolMask:
    given_prior = None if prior is None else np.where(prior, 4.0, -4.0).astype(np.float32)
    found = SEGMENTER.segment(EMBEDDING, PromptBatch((prompts,)), mask_prior=[given_prior])
    assert found.low_res_logits.shape == (1, 1, 240, 320)
    assert found.low_res_logits.dtype == np.float32
    assert 0.0 <= found.predicted_iou[0, 0] <= 1.0
    return np.asarray(SEGMENTER.to_full_size(EMBEDDING, found.low_res_logits[0, 0]) > 0)


BOX = (68.0, 78.0, 192.0, 162.0)


@pytest.mark.parametrize(
    ("prompts", "floor"),
    [
        (clicks(box=BOX), 0.85),
        (clicks((130, 120, True), box=BOX), 0.85),
        (clicks((130, 120, True), (210, 120, False), box=(68, 78, 240, 162)), 0.8),
        (clicks((130, 120, True)), 0.7),
        (clicks((110, 120, True), (150, 120, True), (215, 120, False)), 0.7),
    ],
    ids=["box", "box and click", "loose box and clicks", "one click", "three clicks"],
)
def test_prompts_alone_find_the_object(prompts: ObjectPrompts, floor: float) -> None:
    assert iou(segment(prompts), OBJECT) > floor


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 319), st.integers(0, 239), st.booleans()), min_size=1, max_size=5),
    st.sampled_from([None, (40.0, 40.0, 280.0, 200.0)]),
    st.booleans(),
)
def test_every_click_is_obeyed(
    points: list[tuple[int, int, bool]], box: tuple[float, float, float, float] | None, corrects: bool
) -> None:
    apart = [p for k, p in enumerate(points) if all(abs(p[0] - q[0]) + abs(p[1] - q[1]) > 30 for q in points[:k])]
    mask = segment(clicks(*apart, box=box), OBJECT | NEIGHBOUR if corrects else None)
    for x, y, positive in apart:
        assert mask[y, x] == positive


def test_a_box_bounds_the_object() -> None:
    mask = segment(clicks(box=(100, 90, 160, 150)))
    assert mask.any()
    outside = np.ones_like(mask)
    outside[88:152, 98:162] = False
    assert not (mask & outside).any()


def test_a_positive_click_outside_the_box_is_obeyed() -> None:
    mask = segment(clicks((150, 120, True), box=(75, 85, 135, 155)))
    assert mask[120, 150]


def test_a_negative_click_removes_the_wrongly_covered_region_and_keeps_the_rest() -> None:
    mask = segment(clicks((212, 120, False)), OBJECT | NEIGHBOUR)
    assert (mask & NEIGHBOUR).sum() < 0.1 * NEIGHBOUR.sum()
    assert (mask & OBJECT).sum() > 0.95 * OBJECT.sum()


def test_a_positive_click_adds_the_missing_region() -> None:
    half = OBJECT.copy()
    half[:, 130:] = False
    mask = segment(clicks((160, 120, True)), half)
    assert iou(mask, OBJECT) > 0.9


def test_negative_clicks_alone_mean_no_object() -> None:
    assert not segment(clicks((130, 120, False))).any()


def follow(image: FrameRGB, carried: FloatMap | None) -> BoolMask:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    tracked = PromptBatch((ObjectPrompts(tracked=True),))
    found = SEGMENTER.segment(SEGMENTER.embed(image), tracked, mask_prior=[carried], appearance=[learnt])
    return np.asarray(found.low_res_logits[0, 0] > 0)


def test_following_finds_the_object_and_tells_when_it_is_gone() -> None:
    moved = np.roll(IMAGE, 12, axis=1)
    prior = np.where(OBJECT, 4.0, -4.0).astype(np.float32)
    assert iou(follow(moved, prior), np.roll(OBJECT, 12, axis=1)) > 0.85
    away = IMAGE.copy()
    away[OBJECT] = np.flip(IMAGE, 0)[:, ::-1][:1, :1].reshape(3)
    assert not follow(away, prior).any()
    assert iou(follow(moved, None), np.roll(OBJECT, 12, axis=1)) > 0.85


def test_tracked_prompts_need_an_appearance() -> None:
    with pytest.raises(ValueError, match="call learn first"):
        SEGMENTER.segment(EMBEDDING, PromptBatch((ObjectPrompts(tracked=True),)))


def test_the_memory_corrects_an_earlier_pass_and_alpha_one_leaves_it_out() -> None:
    learnt = SEGMENTER.learn([ReferenceFrame(EMBEDDING, OBJECT)])
    tracked = PromptBatch((ObjectPrompts(tracked=True),))
    logits = np.where(OBJECT, 4.0, -4.0).astype(np.float32)
    first = SEGMENTER.segment(EMBEDDING, tracked, mask_prior=[logits], appearance=[learnt])
    bank = MemoryBank(64)
    bank.store(0, SEGMENTER.memorise(EMBEDDING, first.queries[0], logits), interaction=True)
    leaked = np.where(OBJECT | NEIGHBOUR, 0.6, -0.6).astype(np.float32)
    masks = {}
    for alpha in (0.0, 1.0):
        readout = bank.read(first.queries[0], 10, alpha)
        found = SEGMENTER.segment(EMBEDDING, tracked, mask_input=[leaked], appearance=[learnt], readout=[readout])
        masks[alpha] = found.low_res_logits[0, 0] > 0
    assert iou(masks[0.0], OBJECT) > 0.9
    assert iou(masks[1.0], OBJECT | NEIGHBOUR) > 0.9


def test_refinement_takes_the_frame_s_own_colours() -> None:
    tracked = PromptBatch((ObjectPrompts(tracked=True),))
    ragged = cv2.erode(OBJECT.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    vague = np.where(ragged, 0.5, -0.3).astype(np.float32)
    found = SEGMENTER.segment(EMBEDDING, tracked, mask_input=[vague])
    assert iou(found.low_res_logits[0, 0] > 0, OBJECT) > iou(ragged, OBJECT) + 0.1


def test_later_passes_obey_a_person_s_clicks() -> None:
    vague = np.where(OBJECT, 0.5, -0.5).astype(np.float32)
    prompts = PromptBatch((clicks((130, 120, False), (20, 20, True)),))
    mask = SEGMENTER.segment(EMBEDDING, prompts, mask_input=[vague]).low_res_logits[0, 0] > 0
    assert not mask[120, 130]
    assert mask[20, 20]


@pytest.mark.parametrize("size_hw_px", [(480, 854), (854, 480), (33, 47), (9, 12), (1080, 1920)])
def test_embeddings_of_any_size_are_reduced_and_small(size_hw_px: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size_hw_px, 3), np.uint8)
    embedding = embed(image)
    assert max(embedding.work_size_hw_px) <= max(WORK_LONG_SIDE_PX, 12)
    assert embedding.nbytes < 7 * 2**20
    found = SEGMENTER.segment(embedding, PromptBatch((clicks(box=(1, 1, 8, 7)),)))
    assert SEGMENTER.to_full_size(embedding, found.low_res_logits[0, 0]).shape == size_hw_px


def test_full_size_logits_are_as_strong_as_the_evidence() -> None:
    sides = np.where(OBJECT, 1.0, -1.0).astype(np.float32)
    sure, unsure = (SEGMENTER.to_full_size(EMBEDDING, strength * sides) for strength in (6.0, 0.5))
    np.testing.assert_array_equal(sure > 0, unsure > 0)
    core = cv2.erode(OBJECT.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.bool_)
    assert sure[core].min() > 6 * unsure[core].max() > 0
    assert sure.max() <= 4.0


def test_the_cut_follows_the_edge_and_obeys_hard_pixels() -> None:
    lab = np.full((40, 60, 3), 60, np.uint8)
    lab[:, 30:] = 180
    logits = np.zeros((40, 60), np.float32)
    logits[:, :10], logits[:, 50:] = 2.0, -2.0
    assert np.array_equal(graph_cut(logits, lab), lab[..., 0] == 60)
    inside, outside = np.zeros((40, 60), np.bool_), np.zeros((40, 60), np.bool_)
    inside[20, 55], outside[20, 5] = True, True
    mask = graph_cut(logits, lab, inside=inside, outside=outside)
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


def test_the_pixel_model_learns_and_is_reproducible() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 5)).astype(np.float32)
    labels = features[:, 0] * features[:, 1] > 0
    models = [PixelModel.train(features, labels, steps=400, seed=3) for _ in range(2)]
    first, second = (model.logits(features) for model in models)
    assert ((first > 0) == labels).mean() > 0.93
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("name", "segmenter", "box_tracker", "device", "message"),
    [
        ("other", "classical", "mask_box", "cpu", "i_pt"),
        ("i_pt", "other", "mask_box", "cpu", "classical"),
        ("i_pt", "classical", "other", "cpu", "opencv_template"),
        ("i_pt", "classical", "mask_box", "abacus", "auto, cpu, cuda"),
        ("i_pt", "classical", "mask_box", "cuda:99", "cannot be used|use auto"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    name: str, segmenter: str, box_tracker: str, device: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        built(MethodChoice(name, segmenter, box_tracker=box_tracker), device=device)


def test_importing_the_session_does_not_import_torch() -> None:
    code = "import sys, pipeline.session.session, pipeline.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
