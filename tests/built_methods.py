"""Methods for tests, built as the process builds them, with weights from nowhere."""

from __future__ import annotations

from pathlib import Path

from model_zoo.lite.network import load_lite
from model_zoo.store import ModelStore
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Method
from pipeline.methods.choice import MethodChoice, build_method
from pipeline.segmenters.lite.segmenter import LiteSegmenter

NOWHERE = ModelStore(Path("/nonexistent/models"))


def built(choice: MethodChoice | None = None, *, device: str = "cpu", embedding_ram_mib: int = 256) -> Method:
    """The default method with the segmenter that comes with the package, or another choice."""
    return build_method(
        choice or MethodChoice(segmenter="lite"),
        store=NOWHERE,
        device=device,
        embeddings=EmbeddingCache(embedding_ram_mib),
    )


def lite_segmenter() -> LiteSegmenter:
    """The segmenter that comes with the package, by itself."""
    return LiteSegmenter(load_lite())
