"""Embeddings of networks as bytes and back: equal embeddings, one key per set of weights, errors for damaged bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.embeddings.cache import StorableEmbeddings
from pipeline.methods.sam2_model.network import FrameContext, Sam2Network
from pipeline.segmenters.hq_sam import HqSamSegmenter
from pipeline.segmenters.sam import SamSegmenter
from tests.pipeline.frame_sources import moving_square
from tests.tiny_hq_sam import build_tiny_hq_sam
from tests.tiny_sam import build_tiny_sam
from tests.tiny_sam2 import MODELS, build_tiny_sam2

IMAGES, MASKS = moving_square(2)
BUILT: dict[str, Callable[[int], Any]] = {
    "sam": lambda seed: SamSegmenter(build_tiny_sam(seed=seed), name="sam"),
    "hq_sam": lambda seed: HqSamSegmenter(build_tiny_hq_sam(seed=seed), name="hq_sam"),
    "sam2": lambda seed: Sam2Network(build_tiny_sam2(seed=seed), name="sam2"),
    "sam2 in 16 bits": lambda seed: Sam2Network(build_tiny_sam2(seed=seed), name="sam2", half=True),
    "edgetam": lambda seed: Sam2Network(build_tiny_sam2(MODELS[1], seed=seed), name="edgetam"),
}
every_network = pytest.mark.parametrize("name", BUILT)


def parts(embedding: Any) -> list[torch.Tensor]:
    """The tensors of an embedding."""
    fields = [value if isinstance(value, tuple) else (value,) for value in vars(embedding).values()]
    return [part for field in fields for part in field if isinstance(part, torch.Tensor)]


@every_network
def test_unpacked_embeddings_equal_packed_ones(name: str) -> None:
    segmenter = BUILT[name](0)
    assert isinstance(segmenter, StorableEmbeddings)
    embedding = segmenter.embed(IMAGES[0])
    back = segmenter.unpack(segmenter.pack(embedding))
    assert type(back) is type(embedding)
    assert len(parts(back)) == len(parts(embedding)) > 0
    for part, expected in zip(parts(back), parts(embedding), strict=True):
        assert part.dtype == expected.dtype
        assert torch.equal(part, expected)
    others = {field: value for field, value in vars(embedding).items() if field.endswith("_px")}
    assert {field: getattr(back, field) for field in others} == others
    assert back.nbytes == embedding.nbytes


@every_network
def test_other_weights_have_another_key(name: str) -> None:
    one, same, other = BUILT[name](0), BUILT[name](0), BUILT[name](1)
    assert one.stored_as == same.stored_as != other.stored_as
    assert one.name in one.stored_as


@every_network
@pytest.mark.parametrize("damage", ["cut", "empty", "something else"])
def test_damaged_bytes_are_refused(name: str, damage: str) -> None:
    segmenter = BUILT[name](0)
    data = segmenter.pack(segmenter.embed(IMAGES[0]))
    broken = {"cut": data[: len(data) // 2], "empty": b"", "something else": b"[1, 2]" * 99}[damage]
    with pytest.raises(ValueError, match="expected a packed"):
        segmenter.unpack(broken)


def test_bytes_of_another_network_are_refused() -> None:
    sam, hq_sam = BUILT["sam"](0), BUILT["hq_sam"](0)
    with pytest.raises(ValueError, match="expected a packed HqSamEmbedding"):
        hq_sam.unpack(sam.pack(sam.embed(IMAGES[0])))


@pytest.mark.parametrize("name", ["sam2", "edgetam"])
def test_a_video_model_continues_from_stored_features_alone(name: str) -> None:
    """The restarted network never ran its encoder, which also computes the positions that its memory needs."""
    before, restarted = BUILT[name](0), BUILT[name](0)
    stored = [before.pack(before.embed(image)) for image in IMAGES]
    masks = []
    for network, features in (
        (before, [before.embed(image) for image in IMAGES]),
        (restarted, [restarted.unpack(data) for data in stored]),
    ):
        learnt = network.take_mask(features[0], FrameContext(0, 2), MASKS[0]).memory
        found = network.track(features[1], FrameContext(1, 2, {0: learnt}))
        masks.append(network.full_size(found.logits, IMAGES[0].shape[:2]))
    np.testing.assert_array_equal(masks[0], masks[1])
