"""XFeat from its file: the real one from the mirror, and files that are something else."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model_zoo.checkpoints import CheckpointError
from model_zoo.extras import MissingExtraError
from model_zoo.xfeat import load_xfeat
from tests.tiny_xfeat import write_like_xfeat
from tests.weights import MIRROR, has_shared_weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real network, or in a clone without the mirror a generated one of the same shapes."""
    if has_shared_weights():
        return MIRROR / "xfeat" / "xfeat.onnx"
    return write_like_xfeat(tmp_path_factory.mktemp("xfeat") / "xfeat.onnx")


def test_descriptors_are_of_unit_length_and_tell_places_apart(checkpoint: Path) -> None:
    image = np.kron(np.random.default_rng(0).integers(0, 255, (24, 32)), np.ones((20, 20))).astype(np.uint8)
    found = load_xfeat(checkpoint).descriptors(image)
    assert found.shape == (60, 80, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1.0, atol=1e-5)
    assert float(found[20, 30] @ found[40, 60]) < 0.95


def test_descriptors_move_with_the_image(checkpoint: Path) -> None:
    """Two cells to the right and one down, rows and columns not confused."""
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 255, (140, 180)), np.ones((4, 4))).astype(np.uint8)
    network = load_xfeat(checkpoint)
    here = network.descriptors(np.ascontiguousarray(wide[16:496, 32:672]))
    there = network.descriptors(np.ascontiguousarray(wide[8:488, 16:656]))
    inner = here[20:40, 20:60]
    agreement = (inner * there[21:41, 22:62]).sum(axis=2)
    assert np.median(agreement) > 0.95
    assert np.median((inner * there[22:42, 21:61]).sum(axis=2)) < np.median(agreement) - 0.1


def test_threads_get_the_same(checkpoint: Path) -> None:
    network = load_xfeat(checkpoint, threads=1)
    images = np.random.default_rng(1).integers(0, 255, (4, 480, 640), np.uint8)
    alone = [network.descriptors(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(network.descriptors, images), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_cuda_in_the_build_a_cuda_device_still_runs(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    asked: list[list[str]] = []
    session = onnxruntime.InferenceSession

    def spy(path: str, options: object, providers: list[str]) -> object:
        asked.append(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    for available in (
        ["CPUExecutionProvider"],
        ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    ):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda available=available: available)
        load_xfeat(checkpoint, "cuda:0")
        load_xfeat(checkpoint, "cpu")
    assert asked == [
        ["CPUExecutionProvider"],
        ["CPUExecutionProvider"],
        ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ["CPUExecutionProvider"],
    ]


@pytest.mark.parametrize("content", [b"", b"no network at all", None], ids=["empty", "text", "missing"])
def test_a_file_that_is_no_network_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "xfeat.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="XFeat") as caught:
        load_xfeat(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size_hw", "name"), [((240, 320), "feats"), ((480, 640), "features")], ids=["another size", "another output"]
)
def test_another_network_is_refused(tmp_path: Path, size_hw: tuple[int, int], name: str) -> None:
    path = write_like_xfeat(tmp_path / "other.onnx", input_hw=size_hw, output_name=name)
    with pytest.raises(CheckpointError, match="use the file that the registry names"):
        load_xfeat(path)


def test_without_onnxruntime_the_extra_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"label-studio-ivos\[trackers\]"):
        load_xfeat(checkpoint)
