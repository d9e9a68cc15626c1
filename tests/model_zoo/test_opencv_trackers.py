"""Files of OpenCV's network trackers: a missing, damaged or wrong one is one line that names it and the command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_zoo.box_trackers import nanotrack, vittrack
from model_zoo.checkpoints import CheckpointError
from tests.tiny_onnx import write_nanotrack, write_vittrack
from tests.weights import MIRROR, has_shared_weights


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
