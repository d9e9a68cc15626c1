"""Imports modules of official code from a folder without a trace in the rest of the process.

Research code has top-level packages named ``utils``, ``lib`` or ``nets`` and expects to be the only program. Here it
is imported under a lock, seen by the importing thread alone, and taken out of ``sys.modules`` afterwards, where
whatever had those names before is put back. Its functions keep working, as they hold their modules themselves.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from model_zoo.extras import MissingExtraError

_LOCK = threading.RLock()


class OfficialCodeError(ValueError):
    """A folder of official code is missing or not what it should be; the message is one line."""


@contextmanager
def importing(
    folder: Path, *, part: str, packages: Mapping[str, str] | None = None
) -> Iterator[Callable[[str], ModuleType]]:
    """Import modules from a folder of official code; the value is a function from dotted name to module.

    While the block runs, the folder comes first for imports of this thread and of no other. Code whose functions
    import more of the folder when they are called must be called in the block. The random state of torch is left as
    it was, as some code seeds it on import. No bytecode is written into the folder.

    Args:
        folder: holds the top-level modules and packages of the code.
        part: who needs it, for messages, such as "point tracker pips".
        packages: what the code needs beyond the project's own dependencies, by name imported, with the name to install
            it by: ``{"tree": "dm-tree"}``.

    Raises:
        OfficialCodeError: the folder or a file in it is missing, or it cannot be imported.
        MissingExtraError: the code needs a package that is not installed.
    """
    if not folder.is_dir():
        raise OfficialCodeError(
            f"{part} runs the official code of its authors, expected in {folder}, but there is no such folder; "
            f"bring it with: ivos models pull {part.split()[-1]}"
        )
    tops = _top_level_names(folder)
    with _LOCK, torch.random.fork_rng(devices=[]), _only_here(folder, tops):
        try:
            yield importlib.import_module
        except ModuleNotFoundError as error:
            raise _explained(error, folder, part, packages or {}) from error
        except (ImportError, SyntaxError) as error:
            reason = " ".join(str(error).split())
            raise OfficialCodeError(
                f"the official code of {part} in {folder} cannot be imported ({reason}); "
                f"pull it again with: ivos models pull {part.split()[-1]}"
            ) from error


def load_module(folder: Path, module: str, *, part: str, packages: Mapping[str, str] | None = None) -> ModuleType:
    """One module of a folder of official code; see `importing` for arguments and errors."""
    with importing(folder, part=part, packages=packages) as load:
        return load(module)


def _top_level_names(folder: Path) -> frozenset[str]:
    """What can be imported from a folder: its Python files and folders."""
    names = (entry.stem if entry.suffix in SOURCE_SUFFIXES else entry.name for entry in folder.iterdir())
    return frozenset(name for name in names if name.isidentifier())


@contextmanager
def _only_here(folder: Path, tops: frozenset[str]) -> Iterator[None]:
    """Let this thread import from the folder; afterwards ``sys.modules`` is as it was."""
    finder = _FolderFinder(folder, tops)
    same_names = [name for name in list(sys.modules) if name.partition(".")[0] in tops]
    displaced = {name: sys.modules.pop(name) for name in same_names}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.found:
            sys.modules.pop(name, None)
        sys.modules.update(displaced)


class _FolderFinder(MetaPathFinder):
    """Finds the modules of one folder, for the thread that made it."""

    def __init__(self, folder: Path, tops: frozenset[str]) -> None:
        self._folder, self._tops, self._thread = folder, tops, threading.get_ident()
        self.found: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if threading.get_ident() != self._thread or fullname.partition(".")[0] not in self._tops:
            return None
        for place in [str(self._folder)] if path is None else path:
            spec = FileFinder(place, (_SourceOnly, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                self.found.add(fullname)
                return spec
        return None


class _SourceOnly(SourceFileLoader):
    """Keeps bytecode out of the folder, so that it stays as it was pulled."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def _explained(error: ModuleNotFoundError, folder: Path, part: str, packages: Mapping[str, str]) -> Exception:
    """A missing module is taken for a missing file, unless the code is known to need a package of that name."""
    missing = error.name or str(error)
    package = packages.get(missing.partition(".")[0])
    if package is None:
        return OfficialCodeError(
            f"expected {missing.replace('.', '/')}.py (or a package of that name) in the official code of {part}, but "
            f"{folder} has none; pull it again with: ivos models pull {part.split()[-1]}"
        )
    return MissingExtraError(
        f"the official code of {part} needs the package {package}, which is not installed; "
        f"install it with: uv pip install {package} (or pip install, likewise)"
    )
