"""What is left of the segmenter when a part is taken away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model_zoo.lite.decoder import N_PLANES, Plane
from model_zoo.lite.network import load_lite
from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tools.train_lite import ablation as module
from tools.train_lite.__main__ import app
from tools.train_lite.ablation import Blinded, Variant


def test_every_variant_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VARIANTS", {"as it is": Variant(), "blind": Variant((Plane.EVIDENCE,), flow=False)})
    write_rendered_clip(tmp_path, "two", 3)
    words = ["ablation", "--data", str(tmp_path), "--clips", "two", "--json", str(tmp_path / "ablation.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "ablation.json").read_text())
    assert found["clips"]["two"].keys() == {"as it is", "blind", "without leaving contested pixels"}
    assert all(0 <= iou <= 1 for iou in found["clips"]["two"].values())
    assert found["clips"]["two"]["as it is"] > 0.3
    for kinds in found["prompts"].values():
        assert kinds.keys() == {"box", "box_clicks", "click"}


def test_a_blinded_network_does_not_see_its_planes() -> None:
    network = load_lite()
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 64, 3), np.uint8)
    planes = np.zeros((N_PLANES, 64, 64), np.float32)
    planes[Plane.VALID], planes[Plane.BOX] = 1, 1
    with_evidence = planes.copy()
    with_evidence[Plane.EVIDENCE] = rng.uniform(-1, 1, (64, 64))
    features = network.features([crop])
    blind = Blinded(network, (Plane.EVIDENCE,))
    (plain, _), (hidden, _) = (blind.masks(features, [crop], [each])[0] for each in (planes, with_evidence))
    np.testing.assert_array_equal(plain, hidden)
    ((seen, _),) = network.masks(features, [crop], [with_evidence])
    assert not np.array_equal(seen, hidden)
