"""Checkpoints load into the model they belong to, and any other file is refused in one line that says what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import segment_anything
import torch

from model_zoo.sam import load_sam
from tests.tiny_sam import build_tiny_sam, register, save_checkpoint


def refusal(model_type: str, checkpoint: Path) -> str:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - callers compare the message
        load_sam(model_type, checkpoint)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_loaded_model_has_the_files_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "vit_b")
    model = load_sam("vit_b", save_checkpoint(tmp_path / "sam.pth", seed=5))
    wanted = build_tiny_sam(seed=5).state_dict()
    assert model.state_dict().keys() == wanted.keys()
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], atol=0, rtol=0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_model_type_registered_by_others_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "vit_tiny", width=16, depth=1)
    model = load_sam("vit_tiny", save_checkpoint(tmp_path / "sam.pth", width=16, depth=1))
    assert model.image_encoder.patch_embed.proj.out_channels == 16


def test_an_unknown_type(tmp_path: Path) -> None:
    message = refusal("vit_x", tmp_path / "sam.pth")
    assert message == "unknown SAM model type 'vit_x'; known are vit_b, vit_h, vit_l"


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal("vit_b", tmp_path / "sam.pth")
    assert "no such file" in refusal("vit_b", tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", bytes(2000), b"PK\x03\x04 cut"])
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(content)
    message = refusal("vit_b", path)
    assert str(path) in message
    assert "cannot be read as one" in message


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.9999])
def test_a_download_that_broke_off(tmp_path: Path, kept: float) -> None:
    path = save_checkpoint(tmp_path / "sam.pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    message = refusal("vit_b", path)
    assert "cannot be read as one" in message
    assert "download it again" in message


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "sam.pth", tmp_path / "trace"
    torch.save({"weights": _Malicious(trace)}, path)
    assert "cannot be read as one" in refusal("vit_b", path)
    assert not trace.exists()


class _Malicious:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._trace,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {"a": torch.zeros(1)}}, "a dictionary with other things in it: model"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
    ],
)
def test_a_file_of_torch_that_is_no_state_dictionary(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "sam.pth"
    torch.save(content, path)
    assert words in refusal("vit_b", path)


def published(width: int, depth: int) -> dict[str, torch.Tensor]:
    """What tells the published checkpoints apart: the true patch embedding, and blocks by name."""
    weights = {"image_encoder.patch_embed.proj.weight": torch.zeros((width, 3, 16, 16))}
    return weights | {f"image_encoder.blocks.{block}.norm1.weight": torch.zeros(width) for block in range(depth)}


@pytest.mark.parametrize(
    ("builder", "name", "other"),
    [("vit_b", "vit_b", "vit_l"), ("vit_l", "vit_l", "vit_b"), ("vit_h", "vit_h", "vit_b")],
)
def test_a_checkpoint_of_another_type_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: str, name: str, other: str
) -> None:
    with torch.device("meta"):
        encoder = segment_anything.sam_model_registry[builder]().image_encoder
    path = tmp_path / "sam.pth"
    torch.save(published(encoder.patch_embed.proj.out_channels, len(encoder.blocks)), path)
    register(monkeypatch, other)
    message = refusal(other, path)
    assert f"expected a checkpoint of SAM {other}" in message
    assert f"holds one of {name} " in message


def test_a_variant_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "vit_b")
    message = refusal("vit_b", save_checkpoint(tmp_path / "sam.pth", width=64, depth=3))
    assert "an unknown variant, its encoder 64 wide with 3 blocks" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("mask_decoder.iou_token.weight"), "mask_decoder.iou_token.weight is missing"),
        (
            lambda weights: weights.update({"mask_decoder.hf_token.weight": torch.zeros(1)}),
            "hf_token.weight is not part",
        ),
    ],
)
def test_a_relative_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, torch.Tensor]], object],
    words: str,
) -> None:
    """A model that shares the encoder but not the decoder."""
    register(monkeypatch, "vit_b")
    weights = build_tiny_sam().state_dict()
    change(weights)
    torch.save(weights, tmp_path / "sam.pth")
    assert words in refusal("vit_b", tmp_path / "sam.pth")


def test_another_network_altogether(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "vit_b")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "sam.pth")
    assert "none with an image encoder of segment-anything" in refusal("vit_b", tmp_path / "sam.pth")
