"""What HQ-SAM adds to SAM's segmenter: embeddings with the HQ features, threads, and methods that use it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo.sam import load_hq_sam
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.evaluation.annotator import AnnotatorSettings
from pipeline.evaluation.datasets import find_clips, read_truth
from pipeline.evaluation.runner import run_clip
from pipeline.methods.base import Method
from pipeline.methods.i_pt import IPt, IPtSettings
from pipeline.methods.sam_pd import SamPd, SamPdSettings
from pipeline.segmenters.base import ObjectPrompts, PromptBatch, Segmenter
from pipeline.segmenters.hq_sam import HqSamEmbedding, HqSamSegmenter
from pipeline.trackers.boxes.mask_box import MaskBox
from pipeline.trackers.points.lucas_kanade import LucasKanade
from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tests.tiny_hq_sam import build_tiny_hq_sam

FEATURE_BYTES = 256 * 64 * 64 * 4
HQ_FEATURE_BYTES = 32 * 256 * 256 * 4
N_FRAMES = 3


@cache
def segmenter() -> HqSamSegmenter:
    return HqSamSegmenter(build_tiny_hq_sam(), name="tiny_hq")


@cache
def embedding() -> HqSamEmbedding:
    made = segmenter().embed(np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8))
    assert isinstance(made, HqSamEmbedding)
    return made


def clicks(n_points: int, seed: int = 0) -> PromptBatch:
    points = np.random.default_rng(seed).random((n_points, 2)) * (160, 90)
    return PromptBatch((ObjectPrompts(points.astype(np.float32), np.ones(n_points, np.bool_)),))


def test_it_is_a_segmenter() -> None:
    checked: Segmenter = segmenter()
    assert checked.name == "tiny_hq"
    assert not checked.uses_mask_prior


def test_an_embedding_counts_the_hq_features_and_survives_the_disk() -> None:
    made = embedding()
    assert made.nbytes == FEATURE_BYTES + HQ_FEATURE_BYTES
    assert made.hq_features.untyped_storage().nbytes() == HQ_FEATURE_BYTES
    read = pickle.loads(pickle.dumps(made))
    torch.testing.assert_close(read.hq_features, made.hq_features)
    assert segmenter().features(read).shape == (256, 64, 64)


def test_the_hq_features_change_the_mask() -> None:
    made = embedding()
    without = HqSamEmbedding(
        made.features, made.original_size_px, made.input_size_px, hq_features=torch.zeros_like(made.hq_features)
    )
    found, bare = (segmenter().segment(each, clicks(3)).low_res_logits for each in (made, without))
    assert np.abs(found - bare).max() > 0.01


def test_multimask_returns_one_mask_because_the_model_chooses() -> None:
    found = segmenter().segment(embedding(), clicks(1), multimask=True)
    assert found.low_res_logits.shape == (1, 1, 256, 256)
    assert found.predicted_iou.shape == (1, 1)


def test_every_thread_gets_the_keys_of_its_own_prompts() -> None:
    made = embedding()
    batches = [clicks(1 + seed % 2, seed) for seed in range(3)]
    alone = [segmenter().segment(made, batch) for batch in batches]
    with ThreadPoolExecutor(len(batches)) as pool:
        together = list(pool.map(lambda batch: segmenter().segment(made, batch), batches * 2))
    for row, found in enumerate(together):
        wanted = alone[row % len(batches)]
        np.testing.assert_allclose(found.low_res_logits, wanted.low_res_logits, atol=1e-5)
        torch.testing.assert_close(found.queries[0].keys, wanted.queries[0].keys, atol=1e-5, rtol=0)
    assert (alone[0].queries[0].keys - alone[2].queries[0].keys).abs().max() > 1e-3


def i_pt(cache: EmbeddingCache[HqSamEmbedding]) -> Method:
    return IPt(segmenter(), LucasKanade(), MaskBox(), cache, IPtSettings(refinement_iterations=1))


def sam_pd(cache: EmbeddingCache[HqSamEmbedding]) -> Method:
    return SamPd(segmenter(), cache, SamPdSettings(scales=(1.0,)))


@pytest.mark.parametrize(("build", "n_rounds"), [(i_pt, 2), (sam_pd, 1)])
def test_a_benchmark_from_end_to_end(
    tmp_path: Path, build: Callable[[EmbeddingCache[HqSamEmbedding]], Method], n_rounds: int
) -> None:
    write_rendered_clip(tmp_path, "clip", N_FRAMES, object_ids=(1,))
    (clip,) = find_clips(tmp_path)
    embeddings: EmbeddingCache[HqSamEmbedding] = EmbeddingCache(64)
    score = run_clip(clip, read_truth(clip), build(embeddings), AnnotatorSettings(seed=3), n_rounds)
    assert [each.round for each in score.rounds] == list(range(1, n_rounds + 1))
    assert score.rounds[0].n_segmented == N_FRAMES
    assert sorted(score.masks[1]) == list(range(N_FRAMES))
    assert len(embeddings) == N_FRAMES
    assert embeddings.held_bytes == N_FRAMES * (FEATURE_BYTES + HQ_FEATURE_BYTES)


def test_the_light_model_with_its_own_encoder() -> None:
    light = HqSamSegmenter(load_hq_sam("vit_tiny", None), name="sam_hq_vit_tiny")
    made = light.embed(np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8))
    assert isinstance(made, HqSamEmbedding)
    assert made.nbytes == FEATURE_BYTES + HQ_FEATURE_BYTES
    found = light.segment(made, clicks(2))
    assert np.isfinite(found.low_res_logits).all()
    assert found.low_res_logits.std() > 0


@pytest.mark.cuda
def test_16_bits_on_cuda_agree_with_32_bits_on_the_cpu() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    found = []
    for device in ("cpu", "cuda"):
        each = HqSamSegmenter(build_tiny_hq_sam(), name="tiny_hq", device=device)
        made = each.embed(image)
        found.append(each.segment(made, clicks(3)).low_res_logits)
        assert made.nbytes == (FEATURE_BYTES + HQ_FEATURE_BYTES) // (1 if device == "cpu" else 2)
    assert np.abs(found[0] - found[1]).max() < 0.05 * np.abs(found[0]).max()
