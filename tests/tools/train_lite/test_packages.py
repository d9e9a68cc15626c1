"""The sources are complete and in the README; packages of each kind are unpacked, and what goes wrong is said."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.clips import REPOSITORY
from tools.train_lite import packages as module
from tools.train_lite.__main__ import TRUNK_PACKAGE
from tools.train_lite.assets import stamps
from tools.train_lite.packages import KINDS, Kind, PackageError, Source, fetch_all, read_sources

FOLDER = REPOSITORY / "tools" / "train_lite"
GPL_AS_A_WHOLE = ("tuxpaint", "gcompris", "plasma-workspace", "supertuxkart")
SOURCE = Source("@scope/pictures", "npm", "1.0", "MIT", "pictures")


def npm_package(file: Path) -> None:
    """Write a package of one picture."""
    with tarfile.open(file, "w:gz") as archive:
        member = tarfile.TarInfo("package/assets/a.webp")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))


def registry(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a line of Python stand in for npm; it runs in the folder where the package is to come."""
    kind = Kind(lambda _: [sys.executable, "-c", script], KINDS["npm"].unpack)
    monkeypatch.setitem(module.KINDS, "npm", kind)


def copying(file: Path) -> str:
    """A line that fetches a file."""
    return f"import shutil; shutil.copy({str(file)!r}, '.')"


def test_each_source_says_what_it_is() -> None:
    sources = read_sources()
    for source in sources:
        assert all((source.package, source.version, source.licence, source.use)), source
        assert source.kind in KINDS
        assert "GPL" not in source.licence
        if source.package.startswith(GPL_AS_A_WHOLE):
            assert "stamps.toml" in source.use, "only pictures with a licence of their own"
    assert len({source.folder for source in sources}) == len(sources)
    assert TRUNK_PACKAGE in {source.folder for source in sources}


def test_each_stamp_has_a_free_licence_of_its_own() -> None:
    found = stamps()
    assert len({stamp["path"] for stamp in found}) == len(found) > 20
    for stamp in found:
        assert stamp["credit"]
        assert stamp["licence"] == "public domain" or stamp["licence"].startswith("CC-BY"), stamp


def test_the_readme_has_the_same_table() -> None:
    found = re.findall(
        r"^\| (.+) \| (debian|npm|pypi) \| (.+) \| (.+) \| (.+) \|$", (FOLDER / "README.md").read_text(), re.M
    )
    assert found == [(each.package, each.kind, each.version, each.licence, each.use) for each in read_sources()]


def test_the_assets_are_looked_for_where_packages_are_unpacked() -> None:
    text = "".join((FOLDER / name).read_text() for name in ("assets.py", "__main__.py"))
    assert not [source.folder for source in read_sources() if f'"{source.folder}' not in text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[source]]\npackage = "a"\nkind = "npm"\n', "expected package, kind, version, licence and use"),
        ('[[source]]\npackage = "a"\nkind = "cargo"\nversion = "1"\nlicence = "MIT"\nuse = "b"\n', "got 'cargo'"),
    ],
)
def test_wrong_sources_are_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(text)
    with pytest.raises(PackageError, match=said):
        read_sources(file)


def test_a_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_package(tmp_path / "pictures-1.0.tgz")
    registry(monkeypatch, copying(tmp_path / "pictures-1.0.tgz"))
    fetch_all(tmp_path / "packages", [SOURCE])
    assert (tmp_path / "packages/pictures/assets/a.webp").read_bytes() == b"abc"
    assert [path.name for path in (tmp_path / "packages").iterdir()] == ["pictures"]
    registry(monkeypatch, "raise SystemExit(1)")
    fetch_all(tmp_path / "packages", [SOURCE])


def test_another_version_is_taken_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    npm_package(tmp_path / "pictures-2.0.tgz")
    registry(monkeypatch, copying(tmp_path / "pictures-2.0.tgz"))
    fetch_all(tmp_path / "packages", [SOURCE])
    assert "note: expected @scope/pictures 1.0, got pictures-2.0.tgz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no such package')", "ended with 1 and said: no such package; see that"),
        ("", "expected one file of package @scope/pictures, but got none"),
        ("[open(name, 'w') for name in 'ab']", "but got a, b"),
        ("open('pictures-1.0.tgz', 'w').write('?')", "pictures-1.0.tgz cannot be unpacked"),
    ],
)
def test_a_package_that_cannot_be_had_leaves_nothing(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(monkeypatch, script)
    with pytest.raises(PackageError, match=said):
        fetch_all(tmp_path, [SOURCE])
    assert not list(tmp_path.iterdir())


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.KINDS, "npm", Kind(lambda _: ["no-such-tool"], KINDS["npm"].unpack))
    with pytest.raises(PackageError, match="expected no-such-tool, which fetches npm packages"):
        fetch_all(tmp_path, [SOURCE])


@pytest.mark.skipif(shutil.which("dpkg-deb") is None and "CI" not in os.environ, reason="needs dpkg-deb")
def test_a_debian_package_is_unpacked(tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN/control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: a\n"
    )
    (content / "usr").mkdir()
    (content / "usr/picture").write_text("abc")
    subprocess.run(["dpkg-deb", "-b", content, tmp_path / "a.deb"], check=True, capture_output=True)
    (tmp_path / "out").mkdir()
    KINDS["debian"].unpack(tmp_path / "a.deb", tmp_path / "out")
    assert (tmp_path / "out/usr/picture").read_text() == "abc"
