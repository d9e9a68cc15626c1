"""Choosing a method and its parts by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.methods.choice import MethodChoice
from tests.built_methods import built


@pytest.mark.parametrize(
    ("name", "segmenter", "box_tracker", "device", "message"),
    [
        ("other", "classical", "mask_box", "cpu", "i_pt"),
        ("i_pt", "other", "mask_box", "cpu", "classical"),
        ("i_pt", "classical", "other", "cpu", "opencv_template"),
        ("i_pt", "classical", "mask_box", "abacus", "auto, cpu, cuda"),
        ("i_pt", "classical", "mask_box", "cuda:99", "cannot be used|use auto"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    name: str, segmenter: str, box_tracker: str, device: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        built(MethodChoice(name, segmenter, box_tracker=box_tracker), device=device)


def test_importing_the_session_does_not_import_torch() -> None:
    code = "import sys, pipeline.session.session, pipeline.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
