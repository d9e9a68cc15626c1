"""The pipeline on a CUDA device gives the masks it gives on the CPU."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.methods import build_method
from pipeline.sample_clip import SampleClip, render_sample_clip
from pipeline.session import Session
from pipeline.types import BoxPrompt
from tests.pipeline.frame_sources import ArrayFrames

pytestmark = pytest.mark.cuda


def masks_on(device: str, clip: SampleClip) -> tuple[list[np.ndarray], float]:
    """Masks of object 1 from a box on frame 0, and seconds per frame."""
    method = build_method(
        "i_pt",
        segmenter="classical",
        box_tracker="opencv_template",
        device=device,
        embedding_ram_mib=512,
    )
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
