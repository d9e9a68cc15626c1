"""`ivos models` as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ls_backend.cli.main import app
from model_zoo import registry
from model_zoo.registry import load_registry
from pipeline.cli.console import transfer_progress

TOML = """
[toy]
task = "segmenter"
title = "Toy"
licence = "MIT"
paper = "none"
package = "this project"
extra = "hq"
[[toy.files]]
name = "toy.pth"
url = "https://weights.test/toy.pth"
size_bytes = {size}
sha256 = "{sha256}"
source = "this test"

[strange]
task = "box tracker"
title = "Strange"
licence = "CC-BY-NC-4.0"
licence_note = "no commercial use"
commercial = false
paper = "none"
package = "this project"
manual_page = "https://page.test"
manual_note = "the big one"
[[strange.files]]
name = "strange.pth"
sha256 = "unverified"
"""
WEIGHTS = b"weights" * 300_000


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of two models, a mirror with both, and an empty folder for models."""
    for name in [name for name in os.environ if name.startswith("IVOS_")]:
        monkeypatch.delenv(name)
    text = TOML.format(size=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest())
    two = registry.parse_registry(text)
    monkeypatch.setattr("pipeline.cli.models.load_registry", lambda: two)
    monkeypatch.setattr(registry, "load_registry", lambda: two)
    monkeypatch.setenv("IVOS_MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("IVOS_MODEL_MIRROR", str(tmp_path / "mirror"))
    for name in two:
        (tmp_path / "mirror" / name).mkdir(parents=True)
        (tmp_path / "mirror" / name / f"{name}.pth").write_bytes(WEIGHTS)
    return tmp_path


def models(*arguments: str) -> Result:
    """Run the command with a screen wide enough that no message is wrapped."""
    return CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "200"})


def row(result: Result, name: str) -> list[str]:
    """The cells of a model's row."""
    (line,) = (line for line in result.stdout.splitlines() if line.split()[:1] == [name])
    return re.split(r"\s{2,}", line.strip())


def test_list() -> None:
    listed = models("list")
    assert listed.exit_code == 0
    assert row(listed, "toy") == ["toy", "2 MiB", "MIT", "no", "hq", "known"]
    assert row(listed, "strange") == ["strange", "?", "CC-BY-NC-4.0 *", "no", "-", "unverified"]
    assert "* no commercial use" in listed.stdout
    assert models("pull", "toy").exit_code == 0
    assert row(models("list"), "toy")[3] == "yes"


def test_list_fits_on_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cli.models.load_registry", load_registry)
    listed = CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "80"})
    assert all(len(line) <= 80 for line in listed.stdout.splitlines()[:-1])
    for model in load_registry().values():
        assert row(listed, model.name)[2].startswith(model.licence)


def test_list_as_json(folders: Path) -> None:
    models("pull", "toy")
    toy, strange = json.loads(models("list", "--json").stdout)
    assert (toy["name"], toy["here"], toy["size_bytes"], toy["verified"]) == ("toy", True, len(WEIGHTS), True)
    assert toy["files"][0]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert toy["folder"] == str(folders / "models" / "toy")
    assert (strange["here"], strange["size_bytes"], strange["commercial"]) == (False, None, False)
    assert strange["files"][0]["sha256"] == "unverified"


def test_pull_of_a_model_with_a_checksum(folders: Path) -> None:
    pulled = models("pull", "toy")
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert pulled.exit_code == 0
    assert pulled.stdout == f"{folders}/models/toy/toy.pth: sha256 {digest}, as the registry states\n"
    assert pulled.stderr.splitlines()[-1] == "toy.pth: 2.0 of 2.0 MiB"
    assert models("pull", "toy").stdout == "toy is here already: as the registry states\n"


def test_pull_of_a_model_without_a_checksum(folders: Path) -> None:
    pulled = models("pull", "strange")
    assert pulled.exit_code == 0
    assert hashlib.sha256(WEIGHTS).hexdigest() in pulled.stdout
    assert "this file cannot be verified" in pulled.stdout
    assert pulled.stderr.splitlines()[0] == "strange: CC-BY-NC-4.0: no commercial use."
    assert models("verify").stdout == "strange: as it was pulled, unverified: strange.pth\n"
    path = folders / "models" / "strange" / "strange.pth"
    before = path.stat()
    path.write_bytes(WEIGHTS[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert models("verify").exit_code == 1


def test_a_failed_pull_continues_with_the_next_model(folders: Path) -> None:
    (folders / "mirror" / "toy" / "toy.pth").write_bytes(WEIGHTS[::-1])
    pulled = models("pull", "toy", "strange")
    assert pulled.exit_code == 1
    (error,) = (line for line in pulled.stderr.splitlines() if line.startswith("error: "))
    assert "expected toy.pth with sha256" in error
    assert (folders / "models" / "strange" / "strange.pth").read_bytes() == WEIGHTS
    assert not (folders / "models" / "toy" / "toy.pth").exists()


def test_pull_of_a_file_that_needs_a_browser(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IVOS_MODEL_MIRROR")
    pulled = models("pull", "strange")
    assert pulled.exit_code == 1
    assert f"see https://page.test (the big one) and put it at {folders}/models/strange/strange.pth" in pulled.stderr


def test_unknown_model() -> None:
    for command in ("pull", "verify", "where"):
        failed = models(command, "toi")
        assert failed.exit_code == 1
        assert failed.stderr == "error: no model is called 'toi'; did you mean toy? known are toy, strange\n"


@pytest.mark.parametrize(
    "words", [("models", "list"), ("models", "speed", "mask_box"), ("segment", "clip", "-p", "p.json", "-o", "out")]
)
def test_wrong_setting(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IVOS_MODEL_MIROR", "x")
    failed = CliRunner().invoke(app, words)
    assert failed.exit_code == 1
    assert "unknown setting IVOS_MODEL_MIROR" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_interrupted_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.cli.models.ModelStore.pull", interrupt)
    pulled = models("pull", "toy")
    assert pulled.exit_code == 130
    assert pulled.stderr.endswith("interrupted: what was downloaded is kept, and the next pull continues from there\n")


def test_verify(folders: Path) -> None:
    assert models("verify").stdout == f"No models in {folders}/models.\n"
    models("pull", "toy")
    assert models("verify").stdout == "toy: as the registry states\n"
    path = folders / "models" / "toy" / "toy.pth"
    path.write_bytes(WEIGHTS[:-1])
    wrong = models("verify")
    assert wrong.exit_code == 1
    assert f"expected {path} with {len(WEIGHTS)} bytes, but it has {len(WEIGHTS) - 1}" in wrong.stderr
    assert "ivos models pull toy" in wrong.stderr
    missing = models("verify", "strange")
    assert missing.exit_code == 1
    assert "strange.pth is missing" in missing.stderr


def test_where(folders: Path) -> None:
    assert models("where").stdout == f"{folders}/models\n"
    here = models("where", "toy")
    assert here.stdout == f"{folders}/models/toy\n"
    assert "ivos models pull toy" in here.stderr
    models("pull", "toy")
    assert models("where", "toy").stderr == ""


def test_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IVOS_MODEL_DIR")
    monkeypatch.setenv("IVOS_CACHE_DIR", str(tmp_path / "cache"))
    assert models("where").stdout == f"{tmp_path}/cache/models\n"


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with transfer_progress() as report:
            report("weights.pth", 0, 2**21)
            report("weights.pth", 2**21, 2**21)
        shown = b""
        # A terminal hands over what has come so far, which need not be all.
        while b"2.0/2.0 MiB" not in shown and select.select([reader], [], [], 5.0)[0]:
            shown += os.read(reader, 100_000)
    os.close(reader)
    assert b"weights.pth" in shown
    assert b"2.0/2.0 MiB" in shown
