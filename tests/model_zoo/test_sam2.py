"""SAM 2.1 and EdgeTAM are built from local folders without the network, and anything else is refused in one line."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model_zoo.checkpoints import CheckpointError
from model_zoo.extras import MissingExtraError
from model_zoo.registry import find
from model_zoo.sam2 import MODELS, load_sam2, new_inference_session
from tests import tiny_sam2

both = pytest.mark.parametrize("name", tiny_sam2.MODELS)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something asked for the network")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def refusal(folder: Path, name: str = tiny_sam2.MODELS[0]) -> str:
    with pytest.raises(CheckpointError) as raised:
        load_sam2(folder, name)
    message = str(raised.value)
    assert "\n" not in message
    assert name in message
    assert str(folder) in message
    return message


@both
def test_a_folder_s_model_has_its_weights(name: str, tmp_path: Path) -> None:
    model = load_sam2(tiny_sam2.save_folder(tmp_path / name, name, seed=5), name)
    wanted = tiny_sam2.build_tiny_sam2(name, seed=5).state_dict()
    assert model.state_dict().keys() == wanted.keys()
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], atol=0, rtol=0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@both
def test_a_session_is_the_model_s_own(name: str) -> None:
    model = tiny_sam2.build_tiny_sam2(name)
    session = new_inference_session(model)
    assert type(session).__name__ == type(model).__name__.removesuffix("Model") + "InferenceSession"
    assert session.dtype == torch.float32
    assert torch.device(session.inference_device) == torch.device("cpu")


def safetensors_bytes(weights: Mapping[str, torch.Tensor]) -> int:
    """How long the file with these weights is: names, shapes and offsets as compact JSON, then the numbers."""
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(weights, key=lambda name: (-weights[name].element_size(), name)):
        tensor = weights[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + end


@both
def test_the_length_of_a_file_is_known(name: str, tmp_path: Path) -> None:
    file = tiny_sam2.save_folder(tmp_path, name) / "model.safetensors"
    assert safetensors_bytes(tiny_sam2.build_tiny_sam2(name).state_dict()) == file.stat().st_size


@pytest.mark.parametrize("name", MODELS)
def test_without_a_folder_the_network_fits_the_published_file_to_the_byte(name: str) -> None:
    """Numbers and names of its weights alike: both are in the file's length."""
    with torch.device("meta"):
        model = load_sam2(None, name, "meta")
    assert safetensors_bytes(model.state_dict()) == find(name).file("model.safetensors").size_bytes
    assert model.config.image_size == 1024
    assert (model.config.num_maskmem, model.config.max_object_pointers_in_encoder) == (7, 16)


def test_random_weights_differ_from_call_to_call_and_are_there() -> None:
    model = load_sam2(None, "edgetam")
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert float(model.vision_encoder.neck.convs[0].weight.std()) > 0


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'sam3'; known are sam2_1_hiera_tiny, .*, edgetam"):
        load_sam2(None, "sam3")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "the folder"])
def test_missing_files(missing: str, tmp_path: Path) -> None:
    folder = tiny_sam2.save_folder(tmp_path / "model")
    if missing == "the folder":
        folder = tmp_path / "elsewhere"
        missing = "config.json"
    else:
        (folder / missing).unlink()
    assert f"there is no {missing}" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", b"\xff\xfe\x00", b"{"])
def test_a_configuration_that_is_no_json(content: bytes, tmp_path: Path) -> None:
    folder = tiny_sam2.save_folder(tmp_path / "model")
    (folder / "config.json").write_bytes(content)
    assert "cannot be read as JSON" in refusal(folder)


@pytest.mark.parametrize("content", [[], {}, {"model_type": "sam"}, "sam2_video"])
def test_a_configuration_of_something_else(content: Any, tmp_path: Path) -> None:
    folder = tiny_sam2.save_folder(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(content))
    assert "of model type sam2_video" in refusal(folder)


@pytest.mark.parametrize(
    ("saved", "asked"), [("edgetam", "sam2_1_hiera_tiny"), ("sam2_1_hiera_tiny", "edgetam")], ids=["EdgeTAM", "SAM 2"]
)
def test_a_folder_of_the_other_kind(saved: str, asked: str, tmp_path: Path) -> None:
    assert "choose the model that belongs to the folder" in refusal(tiny_sam2.save_folder(tmp_path, saved), asked)


@both
@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.5, 0.9999])
def test_weights_that_broke_off(name: str, kept: float, tmp_path: Path) -> None:
    folder = tiny_sam2.save_folder(tmp_path / "model", name)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    assert "cannot be read as one" in refusal(folder, name)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads((folder / "config.json").read_text())
    edit(content)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda content: content.update(num_maskmem=5), "memory_temporal_positional_encoding is"),
        (lambda content: content.update(memory_attention_num_layers=3), "is missing"),
        (lambda content: content.update(memory_attention_num_layers=1), "is not part of it"),
        (lambda content: content.update(num_maskmem="many"), "no model can be built"),
        (lambda content: content["vision_config"].update(fpn_hidden_size=64), "("),
    ],
    ids=["other shape", "weight missing", "weight too many", "no number", "other width"],
)
def test_weights_and_configuration_that_do_not_belong_together(
    edit: Callable[[dict[str, Any]], object], words: str, tmp_path: Path
) -> None:
    assert words in refusal(change(tiny_sam2.save_folder(tmp_path / "model"), edit))


@both
def test_what_newer_or_older_writers_add_does_no_harm(name: str, tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content.update(torch_dtype="float32", transformers_version="4.57.0", something_new={"a": [1]})
        content["vision_config"]["backbone_config"].update(num_classes=1000, label_names=["tench"], do_pooling=True)

    folder = change(tiny_sam2.save_folder(tmp_path / "model", name), edit)
    assert load_sam2(folder, name).config.model_type == ("edgetam_video" if name == "edgetam" else "sam2_video")


def test_nothing_in_a_folder_is_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = tiny_sam2.save_folder(tmp_path / "model")
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(trace)!r}).touch()\nConfig = Model = object\n"
    )
    change(folder, lambda c: c.update(auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}))
    load_sam2(folder, "sam2_1_hiera_tiny")
    # Pickled weights are not looked at, whatever they hold.
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "there is no model.safetensors" in refusal(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("package", "name"), [("transformers", "sam2_1_hiera_tiny"), ("transformers", "edgetam"), ("timm", "edgetam")]
)
def test_a_missing_package_is_named_with_the_command(package: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*uv pip install 'label-studio-ivos\[sam2\]'"):
        load_sam2(None, name)


def test_a_package_that_is_too_old_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(__version__="4.56.0")
    monkeypatch.setattr("model_zoo.sam2.require", lambda *_, **__: old)
    with pytest.raises(MissingExtraError, match=r"needs transformers 4\.57 or newer, but 4\.56\.0 is installed"):
        load_sam2(None, "edgetam")
