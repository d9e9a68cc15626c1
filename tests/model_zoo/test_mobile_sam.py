"""MobileSAM loads from files of its own, runs in 16 bits and at other sizes, and is a `Sam` like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segment_anything.modeling import Sam

from model_zoo.checkpoints import CheckpointError
from model_zoo.sam import load_mobile_sam
from model_zoo.tiny_vit import TinyViTEncoder, WindowAttention
from tests.tiny_sam import save_checkpoint


def test_a_fresh_model_is_a_frozen_sam() -> None:
    model = load_mobile_sam(None)
    assert isinstance(model, Sam)
    assert model.image_encoder.img_size == 1024
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_loaded_model_has_the_files_weights(tmp_path: Path) -> None:
    wanted = load_mobile_sam(None).state_dict()
    torch.save(wanted, tmp_path / "mobile_sam.pt")
    for key, tensor in load_mobile_sam(tmp_path / "mobile_sam.pt").state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], atol=0, rtol=0)


def test_a_file_of_sam_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        load_mobile_sam(save_checkpoint(tmp_path / "sam.pth"))
    message = str(raised.value)
    assert "expected a checkpoint of MobileSAM" in message
    assert "another model's" in message
    assert "\n" not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"MobileSAM checkpoint at .* no such file"):
        load_mobile_sam(tmp_path / "mobile_sam.pt")


@pytest.mark.parametrize(("height_px", "width_px"), [(224, 224), (160, 320), (512, 512)])
def test_sizes(height_px: int, width_px: int) -> None:
    with torch.inference_mode():
        features = TinyViTEncoder().eval()(torch.zeros((2, 3, height_px, width_px)))
    assert features.shape == (2, 256, height_px // 16, width_px // 16)
    assert features.is_contiguous()


def test_sixteen_bits_agree() -> None:
    encoder = TinyViTEncoder().eval()
    image = torch.randn((1, 3, 256, 256), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = encoder(image)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(image)
    assert (found - wanted).abs().mean() < 0.05 * wanted.abs().mean()


def test_the_attention_has_one_bias_for_every_distance_and_head() -> None:
    """Set by hand: a bias that only the own cell escapes makes every cell attend to itself."""
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 3)
    with torch.no_grad():
        attention.attention_biases.fill_(-1e4)
        attention.attention_biases[:, 0] = 0
        windows = torch.randn((4, 9, 8))
        values = attention.qkv(attention.norm(windows)).view(4, 9, 2, 3, 4)[..., 2, :].reshape(4, 9, 8)
        torch.testing.assert_close(attention(windows), attention.proj(values))
        # Only the neighbour below or above: in a 3 x 3 window the middle row has two, the others one.
        attention.attention_biases[:, 0] = -1e4
        attention.attention_biases[:, 3] = 0
        middle = (values[:, 0:3] + values[:, 6:9]) / 2
        wanted = attention.proj(torch.cat([values[:, 3:6], middle, values[:, 3:6]], 1))
        torch.testing.assert_close(attention(windows)[:, [0, 1, 2, 6, 7, 8]], wanted[:, [0, 1, 2, 6, 7, 8]])
