"""The colour segmenter with embeddings that take long to make, so that storing them pays; it counts them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from pipeline.parts import registry
from pipeline.parts.context import PartContext
from pipeline.types import FrameRGB
from tests.colour_segmenter import ColourSegmenter, Difference

NAME = "slow_colour"
MIB = 2**20
_made: Counter[bytes] = Counter()


def use_it(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Offer it under `NAME`; returns how often each image is embedded from now on."""
    _made.clear()
    group = registry.entry_point_group(registry.SEGMENTER)
    offered = EntryPoint(NAME, f"{__name__}:{SlowColourSegmenter.__name__}", group)
    installed = registry.entry_points
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: [*installed(group=group), *([offered] if group == offered.group else [])],
    )
    return _made


@dataclass(frozen=True)
class LargeDifference(Difference):
    """As if it took 1 MiB of memory."""

    @property
    def nbytes(self) -> int:
        return MIB


class SlowColourSegmenter(ColourSegmenter):
    """See `pipeline.embeddings.cache.StorableEmbeddings`."""

    name = NAME
    stored_as = f"{NAME}|of this test"

    def __init__(self, context: PartContext) -> None:
        super().__init__(context)

    def embed(self, frame_rgb: FrameRGB) -> LargeDifference:
        _made[frame_rgb.tobytes()] += 1
        made = super().embed(frame_rgb)
        return LargeDifference(made.values, made.size_hw_px)

    def pack(self, embedding: LargeDifference) -> bytes:
        return np.array([*embedding.size_hw_px, *embedding.values.shape], np.int32).tobytes() + (
            embedding.values.astype(np.float32).tobytes()
        )

    def unpack(self, data: bytes) -> LargeDifference:
        height_px, width_px, *shape = np.frombuffer(data[:16], np.int32).tolist()
        return LargeDifference(np.frombuffer(data[16:], np.float32).reshape(shape), (height_px, width_px))
