"""The models on this machine: where each file is, whether it is the right one, and how to pull what is missing."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from model_zoo.archives import ArchiveError, git_tree, unpack_commit
from model_zoo.download import DownloadError, Report, copy, download, no_report, sha256_of
from model_zoo.files import write_atomically
from model_zoo.registry import Model, ModelFile, find

LOCK_NAME = ".lock"
RECEIPTS_NAME = "checked.json"
"""Says which files of a model's folder were checked, so that gigabytes are not hashed at every start."""


class MissingModelError(ValueError):
    """A model is not on this machine, or incomplete. The message is one line and says how to get it."""


class ManualDownloadError(DownloadError):
    """A file can only be downloaded by a person; the message says from where, and where to put it."""


@dataclass(frozen=True)
class Pulled:
    """A file after a pull. ``checked`` says whether its ``sha256`` was compared with a published checksum."""

    path: Path
    sha256: str
    checked: bool


class ModelStore:
    """A folder with ``<model>/<file>`` for each model, and ``<model>/code/<commit>/`` where it needs its authors' code.

    Args:
        folder: made when the first model is pulled.
        mirror: where pulls come from instead of the official addresses: a folder or an http(s) address laid out like
            ``folder``; empty: the official addresses.
    """

    def __init__(self, folder: Path, mirror: str = "") -> None:
        self.folder = folder
        self.mirror = mirror

    def folder_of(self, model: str | Model) -> Path:
        """Where a model's files are, or would be.

        Raises:
            ValueError: the registry has no such model.
        """
        return self.folder / _model(model).name

    def has(self, model: str | Model) -> bool:
        """Whether all files and the code are here, at their published size (their checksums are not computed)."""
        model = _model(model)
        files_here = all(_is_here(self.folder / model.name / file.name, file) for file in model.files)
        return files_here and (model.code is None or self._code_folder(model).is_dir())

    def file(self, model: str | Model, filename: str = "") -> Path:
        """The path of a file that is on this machine and, where a checksum is known, is the published one.

        A file that someone put here by hand is checked once; a receipt next to it says so.

        Args:
            model: its name, or its row of the registry.
            filename: by default the model's first file.

        Raises:
            MissingModelError: it is not here, or it is another file than the registry states.
            ValueError: the registry has no such model or file.
        """
        model = _model(model)
        file = model.file(filename)
        path = self.folder / model.name / file.name
        if not path.is_file():
            raise MissingModelError(_missing("the weights", model))
        problem = _problem(path, file, again=False)
        if problem:
            raise MissingModelError(f"{problem}; get it again with: ivos models pull {model.name}")
        return path

    def code(self, model: str | Model) -> Path:
        """The folder with the official code of a model.

        Raises:
            MissingModelError: it is not here.
            ValueError: the model needs none, or the registry has no such model.
        """
        model = _model(model)
        folder = self._code_folder(model)
        if not folder.is_dir():
            raise MissingModelError(_missing("the official code", model))
        return folder

    def verify(self, model: str | Model) -> list[str]:
        """Read every byte again. Returns one line per problem; none if everything is here and right.

        A file without a published checksum passes as long as it is what it was when it was pulled.
        """
        model = _model(model)
        problems = []
        for file in model.files:
            path = self.folder / model.name / file.name
            problem = _problem(path, file, again=True) if path.is_file() else f"{path} is missing"
            problems += [problem] * bool(problem)
        if model.code is not None:
            folder = self._code_folder(model)
            problems += [_code_problem(folder, model.code.tree)] if folder.is_dir() else [f"{folder} is missing"]
        return [problem for problem in problems if problem]

    def pull(
        self,
        model: str | Model,
        report: Report = no_report,
        waiting: Callable[[str], None] | None = None,
    ) -> list[Pulled]:
        """Download what `verify` finds missing or wrong, and keep the rest. Only one process at a time pulls a model.

        Args:
            model: its name, or its row of the registry.
            report: called as bytes arrive.
            waiting: called with one line if another process is pulling this model already.

        Raises:
            DownloadError: something cannot be downloaded, or the folder cannot be written.
            ManualDownloadError: everything else is here, but one file a person has to fetch.
        """
        model = _model(model)
        if self.verify(model):
            with self._lock(model, waiting):
                if model.code is not None:
                    self._pull_code(model, report)
                for file in model.files:
                    self._pull_file(model, file, report)
        return [_pulled(self.folder / model.name / file.name, file) for file in model.files]

    def _pull_file(self, model: Model, file: ModelFile, report: Report) -> None:
        path = self.folder / model.name / file.name
        if path.is_file() and not _problem(path, file, again=True):
            return
        if not file.url and not self.mirror:
            raise ManualDownloadError(
                f"{file.name} of {model.name} cannot be fetched by a program: see {model.manual_page} "
                f"({model.manual_note}) and put it at {path}"
            )
        _write_receipt(path, self._bring(model, file, path, report))

    def _pull_code(self, model: Model, report: Report) -> None:
        assert model.code is not None
        folder = self._code_folder(model)
        if folder.is_dir() and not _code_problem(folder, model.code.tree):
            return
        archive = ModelFile(name=model.code.archive_name, url=model.code.url, sha256=None)
        path = self.folder / model.name / archive.name
        self._bring(model, archive, path, report)
        folder.parent.mkdir(exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            unpack_commit(path, folder, model.code.tree)
        except ArchiveError as error:
            path.unlink()
            raise DownloadError(f"the code of {model.name} was thrown away: {error}; pull it again") from error

    def _bring(self, model: Model, file: ModelFile, path: Path, report: Report) -> str:
        if self.mirror.startswith(("http://", "https://")):
            return download(file, f"{self.mirror.rstrip('/')}/{model.name}/{file.name}", path, report)
        if self.mirror:
            return copy(file, Path(self.mirror).expanduser() / model.name / file.name, path, report)
        return download(file, file.url, path, report)

    def _code_folder(self, model: Model) -> Path:
        if model.code is None:
            raise ValueError(f"{model.name} needs no code of its authors")
        return self.folder / model.name / "code" / model.code.commit

    @contextmanager
    def _lock(self, model: Model, waiting: Callable[[str], None] | None) -> Iterator[None]:
        folder = self.folder / model.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK_NAME)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if waiting is not None:
                    waiting(f"another process is pulling {model.name}; waiting for it")
                lock.acquire()
            try:
                yield
            finally:
                lock.release()
        except OSError as error:
            raise DownloadError(_unwritable(folder, error)) from error


def _unwritable(folder: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {folder} is full; make room, or set IVOS_MODEL_DIR to a folder with more"
    return f"{folder} cannot be written ({error.strerror or error}); set IVOS_MODEL_DIR to a folder that can"


def _model(model: str | Model) -> Model:
    return find(model) if isinstance(model, str) else model


def _missing(what: str, model: Model) -> str:
    return f"{what} of {model.name} are not on this machine; get them with: ivos models pull {model.name}"


def _is_here(path: Path, file: ModelFile) -> bool:
    return path.is_file() and file.size_bytes in (None, path.stat().st_size)


def _problem(path: Path, file: ModelFile, *, again: bool) -> str:
    """What is wrong with a file; empty if nothing. With ``again`` it is read even if it has a receipt."""
    n_bytes = path.stat().st_size
    if file.size_bytes not in (None, n_bytes):
        return f"expected {path} with {file.size_bytes} bytes, but it has {n_bytes}"
    receipt = _read_receipt(path)
    if receipt is not None and not again:
        return "" if file.accepts(receipt.sha256) else _differs(path, file.expected, receipt.sha256)
    digest = sha256_of(path)
    if not file.accepts(digest):
        return _differs(path, file.expected, digest)
    if receipt is not None and receipt.sha256 != digest:
        return _differs(path, f"{receipt.sha256}, as when it was last checked", digest)
    _write_receipt(path, digest)
    return ""


def _pulled(path: Path, file: ModelFile) -> Pulled:
    receipt = _read_receipt(path)
    return Pulled(path, receipt.sha256 if receipt else sha256_of(path), file.sha256 is not None)


def _differs(path: Path, expected: str, arrived: str) -> str:
    return f"expected {path} with sha256 {expected}, but it has {arrived}"


def _code_problem(folder: Path, tree: str) -> str:
    try:
        arrived = git_tree(folder)
    except (ArchiveError, OSError) as error:
        return f"{folder} cannot be checked: {error}"
    return "" if arrived == tree else f"expected {folder} with git tree {tree}, but it has {arrived}"


@dataclass(frozen=True)
class _Receipt:
    """A file as it was when its SHA-256 was computed."""

    size_bytes: int
    modified_ns: int
    sha256: str


def _read_receipt(path: Path) -> _Receipt | None:
    """The receipt of a file; None if it has none, or has changed since."""
    receipt = _receipts(path.with_name(RECEIPTS_NAME)).get(path.name)
    state = path.stat()
    if receipt is None or (receipt.size_bytes, receipt.modified_ns) != (state.st_size, state.st_mtime_ns):
        return None
    return receipt


def _write_receipt(path: Path, sha256: str) -> None:
    """Note that a file has been checked. In a folder that may not be written, nothing is noted."""
    state = path.stat()
    book = path.with_name(RECEIPTS_NAME)
    receipts = _receipts(book) | {path.name: _Receipt(state.st_size, state.st_mtime_ns, sha256)}
    with suppress(OSError):
        write_atomically(book, json.dumps({name: asdict(receipt) for name, receipt in receipts.items()}, indent=1))


def _receipts(book: Path) -> dict[str, _Receipt]:
    try:
        return {str(name): _Receipt(**entry) for name, entry in json.loads(book.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
