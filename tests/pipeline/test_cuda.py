"""The pipeline on a CUDA device gives the masks it gives on the CPU."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.memory.bank import MemoryBank
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.segmenters.sam import SamSegmenter
from pipeline.session.session import Session
from pipeline.types import BoxPrompt
from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests.built_methods import built
from tests.pipeline.frame_sources import ArrayFrames
from tests.tiny_sam import build_tiny_sam

pytestmark = pytest.mark.cuda


def masks_on(device: str, clip: SampleClip) -> tuple[list[np.ndarray], float]:
    """Masks of object 1 from a box on frame 0, and seconds per frame."""
    method = built(device=device, embedding_ram_mib=512)
    ys, xs = np.nonzero(clip.labels[0] == 1)
    box = BoxPrompt(1, 0, (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)))
    seconds = []
    # The first round also pays for the device's start.
    for _ in range(2):
        session = Session(ArrayFrames(clip.frames), method)
        started = time.perf_counter()
        list(session.run_round([box], object_ids=[1]))
        seconds.append(time.perf_counter() - started)
    return [result.mask.decode() for result in session.results(1)], seconds[-1] / len(clip.frames)


def test_cuda_agrees_with_the_cpu() -> None:
    clip = render_sample_clip(n_frames=20)
    on_cpu, cpu_s = masks_on("cpu", clip)
    on_cuda, cuda_s = masks_on("cuda", clip)
    print(f"{cpu_s:.3f} s a frame on the CPU, {cuda_s:.3f} s with CUDA")
    overlaps = [(a & b).sum() / max(1, (a | b).sum()) for a, b in zip(on_cpu, on_cuda, strict=True)]
    assert len(overlaps) == len(clip.frames)
    assert min(overlaps) > 0.9


def test_sam_in_16_bits_on_cuda_agrees_with_32_bits_on_the_cpu() -> None:
    frame = render_sample_clip(n_frames=8).frames[0]
    prompts = PromptBatch((ObjectPrompts(np.array([[200, 200]], np.float32), np.array([True]), (100, 100, 400, 400)),))
    found = []
    for device in ("cpu", "cuda"):
        segmenter = SamSegmenter(build_tiny_sam(), name="tiny", device=device)
        embedding = segmenter.embed(frame)
        first = segmenter.segment(embedding, prompts)
        bank = MemoryBank(64)
        entry = segmenter.memorise(embedding, first.queries[0], first.low_res_logits[0, 0])
        bank.store(0, entry, interaction=True)
        readout = bank.read(first.queries[0], 20, 0.5)
        second = segmenter.segment(embedding, prompts, mask_input=[first.low_res_logits[0, 0]], readout=[readout])
        found.append(second.low_res_logits)
    scale = float(np.abs(found[0]).max())
    assert found[1].dtype == np.float32
    assert float(np.abs(found[0] - found[1]).max()) < 0.05 * scale
