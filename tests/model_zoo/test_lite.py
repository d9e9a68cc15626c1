"""The network whose weights come with the package: sizes, batches, and that the file is as small as promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo.checkpoints import CheckpointError
from model_zoo.lite.decoder import N_PLANES, Decoder
from model_zoo.lite.network import WEIGHTS_FILE, load_lite
from model_zoo.lite.trunk import CHANNELS, Trunk

MAX_BYTES = 15_000_000


def test_the_weights_are_small_and_have_a_card() -> None:
    assert WEIGHTS_FILE.stat().st_size < MAX_BYTES
    card = (WEIGHTS_FILE.parent / "MODEL_CARD.md").read_text()
    for word in ("Licence", "Data", "Figures", "Limits"):
        assert f"## {word}" in card


@pytest.mark.parametrize("side", [64, 96])
def test_the_trunk_has_maps_at_five_strides(side: int) -> None:
    maps = Trunk()(torch.zeros(2, 3, side, side))
    assert [tuple(each.shape) for each in maps] == [
        (2, channels, side // stride, side // stride)
        for channels, stride in zip(CHANNELS, (2, 4, 8, 16, 32), strict=True)
    ]


def test_the_decoder_answers_at_full_size() -> None:
    trunk, decoder = Trunk().eval(), Decoder().eval()
    image = torch.zeros(2, 3, 64, 64)
    logits, iou = decoder(trunk(image), torch.zeros(2, N_PLANES, 64, 64), image)
    assert (tuple(logits.shape), tuple(iou.shape)) == ((2, 64, 64), (2,))


def test_crops_of_several_sizes_in_one_call_get_what_each_gets_alone() -> None:
    network = load_lite()
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (side, side, 3), np.uint8) for side in (64, 96, 64, 64)]
    planes = [rng.normal(size=(N_PLANES, *crop.shape[:2])).astype(np.float32) for crop in crops]
    together = network.masks(network.features(crops), crops, planes)
    for crop, plane, (logits, iou) in zip(crops, planes, together, strict=True):
        ((alone, iou_alone),) = network.masks(network.features([crop]), [crop], [plane])
        np.testing.assert_allclose(logits, alone, atol=1e-3)
        assert iou == pytest.approx(iou_alone, abs=1e-4)
        assert 0 <= iou <= 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lite.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"lite\.safetensors"):
        load_lite(file=file)
