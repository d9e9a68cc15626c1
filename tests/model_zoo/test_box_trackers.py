"""Box trackers: OSTrack by its authors' code, NanoTrack and ViT tracker by OpenCV."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo.box_trackers import load_ostrack, nanotrack, vittrack
from model_zoo.checkpoints import CheckpointError
from model_zoo.official_code import OfficialCodeError
from tests.tiny_onnx import write_nanotrack, write_vittrack
from tests.weights import MIRROR, has_shared_weights

CODE = Path(__file__).parents[1] / "stand_ins" / "ostrack"


class Settings:
    """Posed as an object of the training code, which is not here when the file is read."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def saved_as_trained(path: Path, monkeypatch: pytest.MonkeyPatch, **extra: object) -> Path:
    settings = Settings()
    with monkeypatch.context() as patch:
        module = type(sys)("lib.train.admin.settings")
        module.Settings = Settings  # type: ignore[attr-defined]
        for name in ("lib", "lib.train", "lib.train.admin", module.__name__):
            patch.setitem(sys.modules, name, module)
        patch.setattr(Settings, "__module__", module.__name__)
        weights = {"certainty": torch.tensor(0.5)}
        torch.save({"epoch": 300, "net": weights, "net_info": None, "settings": settings, **extra}, path)
    return path


def test_random_weights_need_no_file() -> None:
    network = load_ostrack(CODE, None)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert "lib" not in sys.modules


def test_weights_come_from_a_file_that_holds_objects_of_the_training_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_ostrack(CODE, saved_as_trained(tmp_path / "OSTrack_ep0300.pth.tar", monkeypatch))
    assert network.state_dict()["certainty"] == 0.5


def test_nothing_in_the_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "executed"
    path = saved_as_trained(tmp_path / "OSTrack_ep0300.pth.tar", monkeypatch, stats=Payload(mark))
    with pytest.raises(CheckpointError, match=r"OSTrack_ep0300\.pth\.tar") as caught:
        load_ostrack(CODE, path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not weights", "download it again"),
        ({"net": {"other": torch.zeros(1)}}, "certainty is missing"),
        ({"net": {"certainty": torch.zeros(3)}}, r"certainty is \(3,\), not \(\)"),
        ({"epoch": 300}, "a dictionary with other things in it: epoch"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "OSTrack_ep0300.pth.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_ostrack(CODE, path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_code_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OfficialCodeError, match="ivos models pull ostrack"):
        load_ostrack(tmp_path / "code", None)
    file = tmp_path / "lib" / "models" / "ostrack" / "ostrack.py"
    file.parent.mkdir(parents=True)
    file.write_text("answer = 42\n")
    with pytest.raises(OfficialCodeError, match="function build_ostrack"):
        load_ostrack(tmp_path, None)


@pytest.fixture
def nano_files(tmp_path: Path) -> tuple[Path, Path]:
    """NanoTrack's published files where they are at hand, else tiny ones; copies that a test may damage."""
    tiny = write_nanotrack(tmp_path)
    if has_shared_weights():
        for path in tiny:
            shutil.copyfile(MIRROR / "nanotrack_v2" / path.name, path)
    return tiny


def test_every_call_makes_a_tracker_of_its_own(nano_files: tuple[Path, Path]) -> None:
    create = nanotrack(*nano_files)
    first, second = create(), create()
    image = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    first.init(image, (10, 10, 30, 30))
    second.init(image, (70, 30, 30, 30))
    (_, (first_x, *_)), (_, (second_x, *_)) = first.update(image), second.update(image)
    assert first_x < 40 < second_x


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no such file; bring it"),
        (truncated, "OpenCV cannot read"),
        (lambda path: path.write_bytes(b""), "OpenCV cannot read"),
        (lambda path: path.write_text("<html>404</html>"), "OpenCV cannot read"),
    ],
)
@pytest.mark.parametrize("which", [0, 1], ids=["backbone", "head"])
def test_a_missing_or_damaged_file_of_nanotrack(
    nano_files: tuple[Path, Path], damage: Callable[[Path], object], message: str, which: int
) -> None:
    damage(nano_files[which])
    with pytest.raises(CheckpointError, match=message) as caught:
        nanotrack(*nano_files)
    assert str(nano_files[which]) in str(caught.value)
    assert "ivos models pull nanotrack_v2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_in_the_wrong_order(nano_files: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"in the wrong order.*ivos models pull nanotrack_v2"):
        nanotrack(*reversed(nano_files))


def test_files_of_the_vit_tracker(tmp_path: Path, nano_files: tuple[Path, Path]) -> None:
    path = write_vittrack(tmp_path)
    assert vittrack(path)() is not vittrack(path)()
    with pytest.raises(CheckpointError, match=r"another model's.*ivos models pull vittrack"):
        vittrack(nano_files[0])
    truncated(path)
    with pytest.raises(CheckpointError, match=r"OpenCV cannot read.*ivos models pull vittrack"):
        vittrack(path)
