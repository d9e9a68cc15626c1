"""MobileSAM gives what the official code gave for the same weights, and its encoder what the one of HQ-SAM gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_zoo.sam import load_hq_sam, load_mobile_sam
from model_zoo.tiny_vit import TinyViTEncoder
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.segmenters.sam import SamSegmenter
from tests.parity.record_mobile_sam import (
    POINTS_XY_PX,
    POSITIVE,
    RECORDING,
    seeded_image,
    seeded_weights,
    signature,
    thinned,
)

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    with np.load(RECORDING) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """From a file whose parameters have the names and shapes of the official model's."""
    with np.load(RECORDING) as arrays:
        lines = str(arrays["signature"]).split("\n")
    shapes = {}
    for line in lines:
        name, sizes = line.split(" ", 1)
        shapes[name] = tuple(int(size) for size in sizes.strip("()").split(",") if size)
    path: Path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(seeded_weights(shapes), path)
    yield load_mobile_sam(path)
    path.unlink()


def test_parameters_are_those_of_the_official_model(recorded: dict[str, Any], loaded: Any) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in loaded.state_dict().items()}
    assert "\n".join(signature(shapes)) == str(recorded["signature"])


def test_features_and_masks_are_those_of_the_official_code(recorded: dict[str, Any], loaded: Any) -> None:
    segmenter = SamSegmenter(loaded, name="mobile_sam")
    embedding = segmenter.embed(seeded_image())
    found = segmenter.segment(embedding, PromptBatch((ObjectPrompts(POINTS_XY_PX, POSITIVE),)), multimask=True)
    for name, values in (("features", embedding.features), ("low_res_logits", found.low_res_logits)):
        assert recorded[name].std() > 1000 * TOLERANCE
        np.testing.assert_allclose(thinned(values), recorded[name], atol=TOLERANCE, rtol=0)
    scores = recorded["predicted_iou"].clip(0, 1)
    np.testing.assert_allclose(found.predicted_iou[0], scores, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def reference() -> Any:
    """The same network in the package, with random weights of its own."""
    encoder = load_hq_sam("vit_tiny", None).image_encoder
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    encoder.load_state_dict(seeded_weights(shapes, seed=5))
    # It gathers the attention's biases when the mode is set.
    return encoder.eval()


def test_the_encoder_is_that_of_the_package(reference: Any) -> None:
    ours = TinyViTEncoder().eval()
    ours.load_state_dict(reference.state_dict())
    image = torch.randn((1, 3, 1024, 1024), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, wanted = ours(image), reference(image)[0]
    assert wanted.std() > 1000 * TOLERANCE
    torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=0)
