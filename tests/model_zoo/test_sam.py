"""SAM, MobileSAM and HQ-SAM from checkpoint files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import segment_anything
import torch
from segment_anything.modeling import Sam

from model_zoo import sam as hq_sam
from model_zoo.checkpoints import CheckpointError
from model_zoo.extras import MissingExtraError
from model_zoo.sam import load_hq_sam, load_mobile_sam, load_sam
from model_zoo.tiny_vit import TinyViTEncoder, WindowAttention
from tests.tiny_hq_sam import build_tiny_hq_sam
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


def test_a_fresh_model_is_a_frozen_sam() -> None:
    model = load_mobile_sam(None)
    assert isinstance(model, Sam)
    assert model.image_encoder.img_size == 1024
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_mobile_sam_has_the_weights_of_its_file(tmp_path: Path) -> None:
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


def test_a_missing_file_of_mobile_sam(tmp_path: Path) -> None:
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


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vit_b mean a tiny model."""
    monkeypatch.setitem(hq_sam._hq_registry("vit_b"), "vit_b", lambda: build_tiny_hq_sam(seed=99))


def write(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save(weights, path)
    return path


@pytest.mark.usefixtures("registered")
def test_hq_sam_has_the_weights_of_its_file(tmp_path: Path) -> None:
    wanted = build_tiny_hq_sam(seed=5).state_dict()
    model = load_hq_sam("vit_b", write(tmp_path / "sam_hq.pth", wanted))
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], atol=0, rtol=0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("with_classifier", [True, False])
def test_the_light_model_needs_no_classifier_and_attends_with_its_own_biases(
    tmp_path: Path, with_classifier: bool
) -> None:
    weights = load_hq_sam("vit_tiny", None).state_dict()
    name = "image_encoder.layers.1.blocks.0.attn.attention_biases"
    weights[name] = torch.randn_like(weights[name])
    if not with_classifier:
        unused = ("image_encoder.norm_head.", "image_encoder.head.")
        weights = {key: tensor for key, tensor in weights.items() if not key.startswith(unused)}
    model = load_hq_sam("vit_tiny", write(tmp_path / "sam_hq_vit_tiny.pth", dict(weights)))
    attention = model.image_encoder.layers[1].blocks[0].attn
    torch.testing.assert_close(attention.ab, weights[name][:, attention.attention_bias_idxs])


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("mask_decoder.hf_token.weight"), "mask_decoder.hf_token.weight is missing"),
        (lambda weights: weights.update(a=torch.zeros(1)), "a is not part of it"),
        (lambda weights: weights.update({"image_encoder.pos_embed": torch.zeros((1, 64, 64, 7))}), "(1, 64, 64, 7)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    """The package itself would leave whatever is missing at random values."""
    weights = dict(build_tiny_hq_sam().state_dict())
    change(weights)
    with pytest.raises(CheckpointError) as raised:
        load_hq_sam("vit_b", write(tmp_path / "sam_hq.pth", weights))
    message = str(raised.value)
    assert "expected a checkpoint of HQ-SAM vit_b" in message
    assert words in message
    assert "\n" not in message


@pytest.mark.usefixtures("registered")
def test_a_file_of_plain_sam_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint of HQ-SAM vit_b"):
        load_hq_sam("vit_b", save_checkpoint(tmp_path / "sam.pth"))


def test_an_unknown_type_of_hq_sam() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown HQ-SAM model type 'vit_x'; known are vit_b, vit_h, vit_l, vit_tiny$"
    ):
        load_hq_sam("vit_x", None)


def test_a_missing_file_of_hq_sam(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_hq_sam("vit_tiny", tmp_path / "sam_hq_vit_tiny.pth")


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segment_anything_hq", None)
    with pytest.raises(MissingExtraError, match=r"^segmenter sam_hq_vit_tiny needs .*'label-studio-ivos\[hq\]'"):
        load_hq_sam("vit_tiny", None)


def test_a_user_sees_nothing_of_the_imports_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    def warned(load: Callable[[], object]) -> int:
        """How many warnings a first import gives."""
        for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything_hq"]:
            monkeypatch.delitem(sys.modules, name)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            load()
        return len(seen)

    assert warned(lambda: import_module("segment_anything_hq")) > 0
    assert warned(lambda: hq_sam._hq_registry("vit_b")) == 0
