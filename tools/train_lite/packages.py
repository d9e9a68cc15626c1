"""Fetch the packages of ``sources.toml`` with the tools of their registries, and unpack them side by side."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCES_FILE = Path(__file__).parent / "sources.toml"


class PackageError(RuntimeError):
    """A package could not be fetched or unpacked; the message is one line."""


@dataclass(frozen=True)
class Source:
    """A package whose pictures, or weights, are used.

    Attributes:
        package: name in its registry.
        kind: a key of `KINDS`.
        version: what the weights of the package were trained with.
        licence: of what is used of it.
        use: what is used of it, and for what.
    """

    package: str
    kind: str
    version: str
    licence: str
    use: str

    @property
    def folder(self) -> str:
        """Where it is unpacked: its name without npm's scope."""
        return self.package.split("/")[-1]


@dataclass(frozen=True)
class Kind:
    """How packages of a kind are fetched into the working directory, and unpacked from a file into a new directory."""

    command: Callable[[Source], list[str]]
    unpack: Callable[[Path, Path], object]


def read_sources(file: Path = SOURCES_FILE) -> tuple[Source, ...]:
    """The sources, in the file's order.

    Raises:
        PackageError: one lacks a field, has one that is not known, or is of an unknown kind.
    """
    found = []
    for table in tomllib.loads(file.read_text(encoding="utf-8"))["source"]:
        try:
            source = Source(**table)
        except TypeError as error:
            raise PackageError(
                f"expected package, kind, version, licence and use of each source in {file}, "
                f"but got {table}; correct it"
            ) from error
        if source.kind not in KINDS:
            raise PackageError(
                f"expected one of {', '.join(KINDS)} as kind of {source.package} in {file}, but got {source.kind!r}"
            )
        found.append(source)
    return tuple(found)


def fetch_all(folder: Path, sources: Iterable[Source]) -> None:
    """Bring each package into a directory of its own below ``folder``; those already there are left alone.

    Raises:
        PackageError: one could not be fetched or unpacked. Those before it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if not (folder / source.folder).exists():
            print(f"fetching {source.package}", flush=True)
            _fetch(folder, source)


def _fetch(folder: Path, source: Source) -> None:
    """Fetch and unpack one package; its directory appears only when it is complete."""
    with TemporaryDirectory(dir=folder, prefix=".") as name:
        fetched, unpacked = Path(name, "fetched"), Path(name, "unpacked")
        fetched.mkdir()
        _run(KINDS[source.kind].command(source), fetched, source)
        files = [file for file in fetched.iterdir() if file.is_file()]
        if len(files) != 1:
            names = ", ".join(sorted(file.name for file in files)) or "none"
            raise PackageError(f"expected one file of package {source.package}, but got {names}; fetch it by hand")
        if source.version not in unquote(files[0].name):
            print(f"note: expected {source.package} {source.version}, got {unquote(files[0].name)}", flush=True)
        unpacked.mkdir()
        try:
            KINDS[source.kind].unpack(files[0], unpacked)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, subprocess.CalledProcessError) as error:
            raise PackageError(
                f"expected a {source.kind} package, but {files[0].name} cannot be unpacked ({error}); run it again"
            ) from error
        unpacked.rename(folder / source.folder)


def _run(command: list[str], folder: Path, source: Source) -> None:
    """Run a registry's tool in a directory."""
    by_hand = f"or unpack the package into a folder {source.folder} yourself"
    if shutil.which(command[0]) is None:
        raise PackageError(
            f"expected {command[0]}, which fetches {source.kind} packages, but it is not here; install it, {by_hand}"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise PackageError(
            f"expected `{' '.join(command)}` to fetch {source.package}, but it ended with {done.returncode} "
            f"and said: {said}; see that its registry can be reached and has the package, {by_hand}"
        )


def _unpack_npm(file: Path, out: Path) -> None:
    """An npm package holds everything in one folder, named package; that folder is left out."""
    with tarfile.open(file) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name:
                archive.extract(member, out, filter="data")


def _unpack_zip(file: Path, out: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(out)


KINDS = {
    "debian": Kind(
        lambda source: ["apt-get", "download", source.package],
        lambda file, out: subprocess.run(["dpkg-deb", "-x", file, out], check=True, capture_output=True),
    ),
    "npm": Kind(lambda source: ["npm", "pack", f"{source.package}@{source.version}"], _unpack_npm),
    "pypi": Kind(
        lambda source: [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            f"{source.package}=={source.version}",
        ],
        _unpack_zip,
    ),
}
"""By the name that ``sources.toml`` uses."""
