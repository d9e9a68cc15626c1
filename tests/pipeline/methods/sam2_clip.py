"""A short clip, prompts on it, and the method sam2 on a small random model, for the tests of that method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.methods.sam2 import Sam2
from pipeline.methods.sam2_model.network import Sam2Network
from pipeline.methods.sam2_model.video import Sam2Settings, Sam2Video
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.tiny_sam2 import MODELS, build_tiny_sam2

N_FRAMES = 8
IMAGES, MASKS = moving_square(N_FRAMES)
SIZE = IMAGES[0].shape[:2]
BOX = (20.0, 40.0, 60.0, 80.0)
every_model = pytest.mark.parametrize("name", MODELS)


@cache
def network(name: str = MODELS[0], present: bool = True) -> Sam2Network:
    """One for all tests, as in a process."""
    return Sam2Network(build_tiny_sam2(name, present=present), name=name)


def tiny_method(
    name: str = MODELS[0], *, settings: Sam2Settings | None = None, cache_mib: float = 256, present: bool = True
) -> Sam2:
    return Sam2(network(name, present), EmbeddingCache(cache_mib), settings or Sam2Settings())


def clicks(*points: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None) -> ObjectPrompts:
    return ObjectPrompts(
        np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        np.array([point[2] for point in points], np.bool_),
        box,
    )


PROMPTS: dict[str, ObjectPrompts | BoolMask] = {
    "box": clicks(box=BOX),
    "click": clicks((40, 60, True)),
    "clicks": clicks((40, 60, True), (120, 30, False), (30, 50, True)),
    "box and click": clicks((40, 60, True), box=BOX),
    "mask": MASKS[0],
}
OTHER = clicks((100, 90, True), (60, 60, False))


def opened(method: Sam2, n_frames: int = N_FRAMES) -> Sam2Video:
    return method.open(ArrayFrames([IMAGES[index % N_FRAMES] for index in range(n_frames)]))


def task(*anchors: Anchor, object_id: int = 1) -> ObjectRound:
    return ObjectRound(object_id, 1, anchors, frozenset(range(N_FRAMES)))


def first_mask(video: Sam2Video, frame_index: int, given: ObjectPrompts | BoolMask, object_id: int = 1) -> Anchor:
    """What a session would make of a frame's first prompts."""
    if isinstance(given, np.ndarray):
        return Anchor(frame_index, given)
    memory = video.begin_round(task(object_id=object_id))
    found = video.segment_prompted(frame_index, given, prior=None, memory=memory)
    return Anchor(frame_index, np.asarray(found.logits > 0), given)


def by_frame(estimates: Sequence[Estimate]) -> dict[int, FloatMap]:
    return {estimate.frame_index: estimate.logits for estimate in estimates}
