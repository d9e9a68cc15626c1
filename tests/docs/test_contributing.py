"""The example package of CONTRIBUTING.md, installed and used as a reader would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.clips import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
IVOS = (sys.executable, "-c", "from ls_backend.cli.main import app; app()")


def example(name: str) -> str:
    """The fenced block that stands under the example's name."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"CONTRIBUTING.md has no example {name}"
    return found[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example package is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("my_trackers.py", "pyproject.toml"):
        (source / name).write_text(example(name))
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--offline",
    ]
    subprocess.run([*command, "--python", sys.executable, "--target", target, source], check=True)
    return os.environ | {"PYTHONPATH": str(target), "COLUMNS": "300"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of a picture that moves by 5 px to the right and 2 px down, and a prompts file of it."""
    folder = tmp_path_factory.mktemp("clip")
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 4)
    cv2.rectangle(picture, (100, 100), (160, 150), (255, 40, 40), -1)
    (folder / "frames").mkdir()
    for frame_index in range(4):
        moved = np.roll(picture, (2 * frame_index, 5 * frame_index), (0, 1))
        cv2.imwrite(str(folder / "frames" / f"{frame_index:05d}.png"), moved)
    prompt = {"frame_index": 0, "box_xyxy_px": [100, 100, 161, 151]}
    (folder / "prompts.json").write_text(json.dumps({"version": 1, "objects": [{"object_id": 1, "prompts": [prompt]}]}))
    return folder


def test_a_tracker_of_another_package_is_used(installed: dict[str, str], clip: Path, tmp_path: Path) -> None:
    words = ["segment", clip / "frames", "-p", clip / "prompts.json", "-o", tmp_path / "out", "--segmenter", "lite"]
    subprocess.run([*IVOS, *words, "--point-tracker", "camera_motion", "--device", "cpu"], check=True, env=installed)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["point_tracker"], summary["complete"]) == ("camera_motion", True)


def test_it_tracks(installed: dict[str, str], clip: Path) -> None:
    code = f"""
import numpy as np
from pathlib import Path
from model_zoo.store import ModelStore
from pipeline.parts.context import PartContext
from pipeline.parts.registry import build_part, known_names
from pipeline.trackers.points.base import PointQueries
from pipeline.video.frames import ImageFileFrames
assert known_names("point_tracker")[-1] == "camera_motion"
tracker = build_part("point_tracker", "camera_motion", PartContext(ModelStore(Path("nowhere"))))
frames = ImageFileFrames.from_folder(Path({str(clip / "frames")!r}))
tracks = tracker.track(frames, PointQueries(0, np.float32([[130, 125]])), range(4)).tracks_xy_px
assert np.allclose(tracks[:, 0], [(130 + 5 * t, 125 + 2 * t) for t in range(4)], atol=0.5), tracks
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=installed)


def test_the_example_is_short() -> None:
    lines = [line for line in example("my_trackers.py").splitlines() if line.strip()]
    assert len(lines) <= 20
