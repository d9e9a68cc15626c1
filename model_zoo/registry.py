"""The models of ``registry.toml``, with address, size, checksum, licence and paper of each."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNVERIFIED = "unverified"
"""In the registry: no public source states a checksum."""
SHA256_DIGITS = 64

_CONFIG = ConfigDict(extra="forbid")

Task = Literal["segmenter", "video method", "point tracker", "box tracker"]
Https = Annotated[str, Field(pattern=r"^https://\S+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha1 = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[
    Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None,
    BeforeValidator(lambda value: None if value == UNVERIFIED else value),
]


@dataclass(frozen=True, config=_CONFIG)
class ModelFile:
    """One file of a model.

    Attributes:
        name: its name in the model's folder.
        sha256: 64 hexadecimal digits, or the first 8 or more where the publisher states only those; None: unverified.
        url: the official address; empty where a person has to fetch the file (see `Model.manual_page`).
        size_bytes: None where no public source states it.
        source: where ``sha256`` and ``size_bytes`` were read; empty only if neither is stated.
    """

    name: FileName
    sha256: Sha256
    url: Https | Literal[""] = ""
    size_bytes: Annotated[int, Field(gt=0)] | None = None
    source: str = ""

    def accepts(self, digest: str) -> bool:
        """Whether a file with this SHA-256 is the published one; any is accepted where no checksum is known."""
        return digest.startswith(self.sha256 or "")

    @property
    def expected(self) -> str:
        """The checksum for messages."""
        if self.sha256 is None:
            return UNVERIFIED
        return self.sha256 if len(self.sha256) == SHA256_DIGITS else f"{self.sha256}..."


@dataclass(frozen=True, config=_CONFIG)
class OfficialCode:
    """The authors' own code, brought as an archive because it is no installable package.

    Attributes:
        url: the archive (tar.gz) of one commit, everything below one top folder.
        commit: the full SHA-1 of the commit.
        tree: the SHA-1 of the commit's tree: what the unpacked files are checked against.
        licence: of the code, an SPDX identifier.
    """

    url: Https
    commit: Sha1
    tree: Sha1
    licence: str

    @property
    def archive_name(self) -> str:
        """The archive's file name in a model's folder and in a mirror."""
        return f"code-{self.commit}.tar.gz"


@dataclass(frozen=True, config=_CONFIG)
class Model:
    """One row of the registry.

    Attributes:
        name: the name of the part in settings, and of the model's folder.
        licence: of the weights, an SPDX identifier where there is one.
        licence_note: what a user must know beside it; empty: nothing.
        commercial: whether the licence allows commercial use of the weights.
        package: what builds the network.
        extra: the project's extra that brings the package; empty: none needed.
        manual_page: where a person finds files without an address.
        manual_note: which file of that page it is.
    """

    name: FileName
    task: Task
    title: str
    licence: str
    paper: str
    package: str
    files: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    licence_note: str = ""
    commercial: bool = True
    extra: Literal["", "hq", "sam2", "trackers"] = ""
    code: OfficialCode | None = None
    manual_page: Https | Literal[""] = ""
    manual_note: str = ""

    @property
    def size_bytes(self) -> int | None:
        """All files together; None where the size of one is not known."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def verified(self) -> bool:
        """Whether a checksum is known of every file."""
        return all(file.sha256 is not None for file in self.files)

    def file(self, name: str = "") -> ModelFile:
        """A file by name; by default the first.

        Raises:
            ValueError: the model has no such file.
        """
        for file in self.files:
            if name in ("", file.name):
                return file
        raise ValueError(f"{self.name} has no file {name!r}; it has {', '.join(file.name for file in self.files)}")


def parse_registry(text: str) -> Mapping[str, Model]:
    """Models by name from TOML, one table each.

    Raises:
        pydantic.ValidationError: an entry is incomplete or out of form.
        tomllib.TOMLDecodeError: the text is no TOML.
    """
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    named = {name: {"name": name, **table} for name, table in tables.items()}
    return MappingProxyType(TypeAdapter(dict[str, Model]).validate_python(named))


@cache
def load_registry() -> Mapping[str, Model]:
    """The models of the package's own ``registry.toml``, by name, in its order."""
    return parse_registry(files("model_zoo").joinpath("registry.toml").read_text(encoding="utf-8"))


def find(name: str) -> Model:
    """A model by name.

    Raises:
        ValueError: there is none of this name; the message lists those there are.
    """
    models = load_registry()
    if name in models:
        return models[name]
    close = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"no model is called {name!r}; {hint}known are {', '.join(models)}")
