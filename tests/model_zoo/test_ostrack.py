"""OSTrack from a stand-in for its official code and from files as a training run leaves them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from model_zoo.box_trackers import load_ostrack
from model_zoo.checkpoints import CheckpointError
from model_zoo.official_code import OfficialCodeError

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
