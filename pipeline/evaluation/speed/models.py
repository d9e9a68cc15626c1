"""`ivos models speed`: seconds per frame of each segmenter and tracker, random weights replace missing ones."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.evaluation.options import ROUNDS_EMBEDDING_RAM_MIB
from pipeline.methods.choice import MethodChoice, build_method
from pipeline.parts.auto import VIDEO_MODELS_BEST_FIRST
from pipeline.parts.context import PartContext
from pipeline.parts.registry import BOX_TRACKER, POINT_TRACKER, SEGMENTER, build_part, own_names
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.session.session import Session
from pipeline.trackers.boxes.base import BoxQuery
from pipeline.trackers.points.base import PointQueries
from pipeline.types import BoxPrompt, FrameRGB
from pipeline.video.sample_clip import render_sample_clip

N_POINTS = 32
FEWEST_FRAMES = 2


@dataclass(frozen=True)
class ModelSpeed:
    """The time of one model: ``seconds_per_frame`` of one object (trackers: one box, or 32 points) at 854 x 480.

    ``frames`` were timed, after a first one that was not. ``weights`` is "published", "random" or "none needed".
    ``problem`` says in one line why a model could not be timed; then there is no figure.
    """

    name: str
    task: str
    weights: str = ""
    frames: int = 0
    seconds_per_frame: float | None = None
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SampleFrames:
    """The clip that all models are timed on: rendered, 854 x 480, with one object in a box."""

    images: tuple[FrameRGB, ...]
    box_xyxy_px: tuple[float, float, float, float]

    @staticmethod
    def render(n_frames: int) -> SampleFrames:
        """Draw it."""
        clip = render_sample_clip(n_frames)
        ys, xs = np.nonzero(clip.labels[0] == 1)
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        return SampleFrames(tuple(clip.frames), box)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """See `pipeline.video.frames.FrameSource`."""
        return self.images[0].shape[0], self.images[0].shape[1]

    def frame(self, frame_index: int) -> FrameRGB:
        """See `pipeline.video.frames.FrameSource`."""
        return self.images[frame_index]


TASK_BY_NAME = {
    **dict.fromkeys(own_names(SEGMENTER), "segmenter"),
    **dict.fromkeys(VIDEO_MODELS_BEST_FIRST, "video method"),
    **dict.fromkeys(own_names(POINT_TRACKER), "point tracker"),
    **dict.fromkeys(own_names(BOX_TRACKER), "box tracker"),
}
"""Everything that can be timed."""


def time_model(
    name: str, frames: SampleFrames, store: ModelStore, *, device: str = "cpu", budget_s: float = 30.0
) -> ModelSpeed:
    """Time one model. What keeps it from running is the ``problem`` of the result.

    Args:
        name: one of `TASK_BY_NAME`.
        frames: at least 3.
        store: the model zoo on this machine.
        device: a torch device.
        budget_s: a segmenter is timed on as many frames as fit into so many seconds, but at least 2.
    """
    task = TASK_BY_NAME[name]
    weights = "none needed"
    if name in load_registry():
        weights = "published" if store.has(name) else "random"
    context = PartContext(store, device, random_weights=True)
    gc.collect()  # The hooks of the previous model form cycles, which would keep it in memory.
    try:
        n_frames, seconds = _TIMERS[task](name, frames, context, budget_s)
    except (ValueError, OSError) as error:
        return ModelSpeed(name, task, problem=str(error))
    return ModelSpeed(name, task, weights, n_frames, seconds / n_frames)


def _segmenter(name: str, frames: SampleFrames, context: PartContext, budget_s: float) -> tuple[int, float]:
    """Image encoder and one decoding from a box, frame by frame."""
    segmenter = build_part("segmenter", name, context)
    prompts = PromptBatch((ObjectPrompts(box_xyxy_px=frames.box_xyxy_px),))

    def one(frame: FrameRGB) -> None:
        segmenter.segment(segmenter.embed(frame), prompts)

    one(frames.images[0])
    started_s = time.perf_counter()
    for n_frames, frame in enumerate(frames.images[1:], start=1):
        one(frame)
        spent_s = time.perf_counter() - started_s
        if n_frames >= FEWEST_FRAMES and spent_s > budget_s:
            break
    return n_frames, spent_s


def _video_method(name: str, frames: SampleFrames, context: PartContext, _budget_s: float) -> tuple[int, float]:
    """A round of method sam2 from a box on the first frame, image encoder included."""
    method = build_method(
        MethodChoice("sam2", name),
        store=context.store,
        device=context.device,
        embeddings=EmbeddingCache(ROUNDS_EMBEDDING_RAM_MIB),
        random_weights=True,
    )

    def one_round(clip: SampleFrames) -> None:
        list(Session(clip, method).run_round([BoxPrompt(1, 0, frames.box_xyxy_px)], object_ids=[1]))

    one_round(SampleFrames(frames.images[:1], frames.box_xyxy_px))
    return _timed(len(frames), lambda: one_round(frames))


def _point_tracker(name: str, frames: SampleFrames, context: PartContext, _budget_s: float) -> tuple[int, float]:
    import torch

    tracker = build_part("point_tracker", name, context)
    if name.startswith("raft") and not context.store.has(name):
        # Random flow loses every point at once, and then the other frames cost nothing; no flow keeps them.
        for parameter in tracker.network.update_block.flow_head.conv2.parameters():
            torch.nn.init.zeros_(parameter)
    points = np.random.default_rng(0).uniform(frames.box_xyxy_px[:2], frames.box_xyxy_px[2:], (N_POINTS, 2))
    queries = PointQueries(0, points.astype(np.float32))
    tracker.track(frames, queries, range(2))
    return _timed(len(frames), lambda: tracker.track(frames, queries, range(len(frames))))


def _box_tracker(name: str, frames: SampleFrames, context: PartContext, _budget_s: float) -> tuple[int, float]:
    tracker = build_part("box_tracker", name, context)
    query = BoxQuery(0, frames.box_xyxy_px)
    tracker.track(frames, query, range(2))
    return _timed(len(frames), lambda: tracker.track(frames, query, range(len(frames))))


def _timed(n_frames: int, work: Callable[[], Any]) -> tuple[int, float]:
    started_s = time.perf_counter()
    work()
    return n_frames, time.perf_counter() - started_s


_TIMERS: dict[str, Callable[[str, SampleFrames, PartContext, float], tuple[int, float]]] = {
    "segmenter": _segmenter,
    "video method": _video_method,
    "point tracker": _point_tracker,
    "box tracker": _box_tracker,
}
