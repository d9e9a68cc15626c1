"""The registry says only what can be relied on."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import ValidationError

from model_zoo.registry import Model, ModelFile, find, load_registry, parse_registry
from tests.clips import REPOSITORY

NAMES = {
    "segmenter": {
        *("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam"),
        *("sam_hq_vit_tiny", "sam_hq_vit_b", "sam_hq_vit_l", "sam_hq_vit_h"),
    },
    "video method": {
        *("sam2_1_hiera_tiny", "sam2_1_hiera_small", "sam2_1_hiera_base_plus", "sam2_1_hiera_large", "edgetam"),
    },
    "point tracker": {"raft_large", "raft_small", "cotracker3", "pips", "tapir", "xfeat"},
    "box tracker": {"nanotrack_v2", "vittrack", "ostrack"},
}
EXTRAS = {"sam_hq_": "hq", "sam2_1_": "sam2", "edgetam": "sam2"}
EVERY_MODEL = pytest.mark.parametrize("model", load_registry().values(), ids=lambda model: model.name)
ENTRY = """
[toy]
task = "segmenter"
title = "Toy"
licence = "MIT"
paper = "none"
package = "this project"
[[toy.files]]
name = "toy.pth"
url = "https://weights.test/toy.pth"
sha256 = "unverified"
"""


def test_names() -> None:
    found = {task: {model.name for model in load_registry().values() if model.task == task} for task in NAMES}
    assert found == NAMES
    assert len(load_registry()) == sum(map(len, NAMES.values()))


@EVERY_MODEL
def test_every_stated_value_has_a_source(model: Model) -> None:
    assert model.licence
    assert model.paper
    assert model.package
    for file in model.files:
        assert file.source or (file.sha256 is None and file.size_bytes is None)
        assert file.url or (model.manual_page and model.manual_note)


@EVERY_MODEL
def test_addresses_are_fixed_where_they_can_be(model: Model) -> None:
    for file in model.files:
        hub = re.match(r"https://huggingface\.co/[^/]+/[^/]+/resolve/([^/]+)/", file.url)
        if hub and file.sha256:
            assert re.fullmatch("[0-9a-f]{40}", hub[1]), f"{file.url} has a checksum but follows a branch"
        if "githubusercontent.com" in file.url:
            assert re.search("/[0-9a-f]{40}/", file.url)
    if model.code:
        assert model.code.commit in model.code.url


@EVERY_MODEL
def test_licences(model: Model) -> None:
    assert re.fullmatch(r"[A-Za-z0-9.-]+", model.licence)
    assert model.commercial == ("-NC-" not in model.licence)
    assert model.commercial or "no commercial use" in model.licence_note


@EVERY_MODEL
def test_extras(model: Model) -> None:
    wanted = next((extra for prefix, extra in EXTRAS.items() if model.name.startswith(prefix)), None)
    needs_trackers = model.code is not None or model.package == "onnxruntime"
    assert model.extra == (wanted or ("trackers" if needs_trackers else ""))


def test_checksums_of_torchvision_agree_with_its_file_names() -> None:
    for name in ("raft_large", "raft_small"):
        (file,) = find(name).files
        assert file.sha256
        assert file.name.removesuffix(".pth").endswith(file.sha256[:8])


def test_names_that_torchvision_uses_today() -> None:
    from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights

    for name, weights in (("raft_large", Raft_Large_Weights.DEFAULT), ("raft_small", Raft_Small_Weights.DEFAULT)):
        assert find(name).files[0].url == weights.url


def test_an_entry() -> None:
    (model,) = parse_registry(ENTRY).values()
    assert model.name == "toy"
    assert model.files == (ModelFile(name="toy.pth", url="https://weights.test/toy.pth", sha256=None),)
    assert model.size_bytes is None
    assert not model.verified
    assert model.file() == model.file("toy.pth") == model.files[0]
    with pytest.raises(ValueError, match=r"toy has no file 'other\.pth'; it has toy\.pth"):
        model.file("other.pth")


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ('sha256 = "unverified"', 'sha256 = "00"'),
        ('sha256 = "unverified"', 'sha256 = "' + "G" * 64 + '"'),
        ('sha256 = "unverified"', 'sha256 = "unverified"\nsize_bytes = 0'),
        ('sha256 = "unverified"', 'sha256 = "unverified"\nmd5 = "00"'),
        ('sha256 = "unverified"', ""),
        ("https://", "http://"),
        ('name = "toy.pth"', 'name = "../toy.pth"'),
        ('name = "toy.pth"', 'name = ".part"'),
        ('task = "segmenter"', 'task = "guesser"'),
        ('licence = "MIT"', ""),
        ("[toy]", "[toy]\ncolour = 1"),
    ],
)
def test_entries_out_of_form(line: str, changed: str) -> None:
    with pytest.raises(ValidationError):
        parse_registry(ENTRY.replace(line, changed))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("mobilesam", "no model is called 'mobilesam'; did you mean mobile_sam\\? known are sam_vit_b, "),
        ("lite", "no model is called 'lite'; known are sam_vit_b, "),
    ],
)
def test_unknown_name(wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(wrong)


def test_wheel_has_the_registry(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("model_zoo/registry.toml") == files("model_zoo").joinpath("registry.toml").read_bytes()
