"""What else could answer the same prompts on the same frames: a loop over objects without a cache, SAM 2, EdgeTAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.evaluation.speed.measurement import SpeedBench
from pipeline.methods import MethodChoice, build_method
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.session.session import Session
from pipeline.types import BoxPrompt, RunLengthMask

NAIVE = "loop over objects, no cache"
NAIVE_FRAMES = 2
VIDEO_MODEL_FRAMES = 4
VIDEO_MODELS = ("sam2_1_hiera_tiny", "edgetam")
VIDEO_MODEL_RAM_MIB = 1024


@dataclass(frozen=True)
class Compared:
    """One row of the comparison: seconds per frame of the clip for so many objects, on ``frames_timed`` of its frames.

    ``weights`` is "published", "random" or "none needed"; ``problem`` says in one line why there is no figure.
    """

    name: str
    objects: int
    frames_timed: int = 0
    seconds_per_frame: float | None = None
    weights: str = ""
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        return asdict(self)


def weights_used(name: str, store: ModelStore) -> str:
    """Which weights a part has here where random ones stand in for missing ones."""
    if name not in load_registry():
        return "none needed"
    return "published" if store.has(name) else "random"


def naive_loop(bench: SpeedBench, n_objects: int, weights: str) -> Compared:
    """Object by object and frame by frame: read, embed, decode from the same box, write the mask; nothing is kept."""
    n_frames = min(NAIVE_FRAMES, len(bench.clip))
    begin_s = bench.now_s()
    for box in bench.boxes[:n_objects]:
        prompts = PromptBatch((ObjectPrompts(box_xyxy_px=box),))
        for frame_index in range(n_frames):
            embedding = bench.segmenter.embed(bench.clip.frame(frame_index))
            found = bench.segmenter.segment(embedding, prompts)
            logits = bench.segmenter.to_full_size(embedding, found.low_res_logits[0, 0])
            RunLengthMask.encode(np.asarray(logits > 0))
    seconds = bench.now_s() - begin_s
    return Compared(NAIVE, n_objects, n_frames, seconds / n_frames, weights)


def video_model(bench: SpeedBench, name: str, store: ModelStore) -> Compared:
    """A video model of transformers in this project's method sam2: one object from the same box.

    Raises:
        ValueError: its packages are not installed, or the device cannot be used.
    """
    method = build_method(
        MethodChoice("sam2", name),
        store=store,
        device=bench.device,
        embeddings=EmbeddingCache(VIDEO_MODEL_RAM_MIB),
        random_weights=True,
    )
    n_frames = min(VIDEO_MODEL_FRAMES, len(bench.clip))

    def one_round(frames_shown: int) -> float:
        session = Session(bench.clip.first(frames_shown), method)
        begin_s = bench.now_s()
        list(session.run_round([BoxPrompt(1, 0, bench.boxes[0])], object_ids=[1]))
        return bench.now_s() - begin_s

    one_round(1)
    return Compared(f"sam2, {name}", 1, n_frames, one_round(n_frames) / n_frames, weights_used(name, store))


def comparisons(bench: SpeedBench, store: ModelStore, weights: str) -> list[tuple[Compared, Callable[[], Compared]]]:
    """Everything to compare with: the row that stands where it cannot be measured, and what measures it.

    Args:
        bench: whose clip, segmenter and boxes are taken.
        store: the model zoo on this machine.
        weights: of the segmenter, as `weights_used` names them.
    """
    loops = [
        (Compared(NAIVE, n_objects), partial(naive_loop, bench, n_objects, weights))
        for n_objects in dict.fromkeys((1, bench.n_objects))
    ]
    return [
        *loops,
        *((Compared(f"sam2, {name}", 1), partial(video_model, bench, name, store)) for name in VIDEO_MODELS),
    ]
