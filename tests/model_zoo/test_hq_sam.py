"""HQ-SAM loads from files that fit, in full, and without the package's noise."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from model_zoo import sam as hq_sam
from model_zoo.checkpoints import CheckpointError
from model_zoo.extras import MissingExtraError
from model_zoo.sam import load_hq_sam
from tests.tiny_hq_sam import build_tiny_hq_sam
from tests.tiny_sam import save_checkpoint


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vit_b mean a tiny model."""
    monkeypatch.setitem(hq_sam._hq_registry("vit_b"), "vit_b", lambda: build_tiny_hq_sam(seed=99))


def write(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save(weights, path)
    return path


@pytest.mark.usefixtures("registered")
def test_a_loaded_model_has_the_files_weights(tmp_path: Path) -> None:
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


def test_an_unknown_type() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown HQ-SAM model type 'vit_x'; known are vit_b, vit_h, vit_l, vit_tiny$"
    ):
        load_hq_sam("vit_x", None)


def test_a_missing_file(tmp_path: Path) -> None:
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
