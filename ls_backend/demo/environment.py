"""Label Studio's own virtual environment, because its pinned versions do not go with this project's.

uv installs it from ``label_studio.lock``, which pins versions and hashes. It is kept in the user's cache, in a folder
named after the hash of that file.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ls_backend.demo.local_server import POLL_S, DemoError, Progress, silent

LOCK_PATH = Path(__file__).with_name("label_studio.lock")
ENVIRONMENTS_KEPT = 2
"""More environments, of other locks or Python versions, are deleted, least recently used first (0.8 GB each)."""

_COMPLETE = ".complete"


def environments_folder() -> Path:
    """Where the environments live: a folder in the user's cache."""
    return user_cache_path("label-studio-ivos") / "label-studio"


def environment_name(lock_path: Path = LOCK_PATH) -> str:
    """The name of an environment: a hash of the lock, and the Python version."""
    digest = hashlib.sha256(lock_path.read_bytes()).hexdigest()[:16]
    return f"{digest}-py{sys.version_info.major}.{sys.version_info.minor}"


def label_studio_python(
    folder: Path | None = None, *, lock_path: Path = LOCK_PATH, on_progress: Progress = silent
) -> Path:
    """The interpreter of an environment that holds exactly the packages of the lock. It is installed on first use.

    If several processes call this at once, one installs and the others wait for it.

    Args:
        folder: where environments are kept; by default `environments_folder`.
        lock_path: a requirements file with hashes.
        on_progress: called with what is being done.

    Raises:
        DemoError: the installation failed; the message shows the output of uv.
    """
    folder = folder or environments_folder()
    environment = folder / environment_name(lock_path)
    python = environment / "bin" / "python"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock", on_progress):
            if not ((environment / _COMPLETE).is_file() and python.exists()):
                _install(environment, lock_path, on_progress)
            (environment / _COMPLETE).touch()
            _delete_unused(folder)
    except OSError as error:
        raise DemoError(f"Label Studio's environment cannot be written to {folder}: {error}") from error
    return python


def _install(environment: Path, lock_path: Path, on_progress: Progress) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    on_progress("creating Label Studio's environment")
    _uv(["venv", "--python", sys.executable, str(environment)], environment, on_progress)
    sync = ["pip", "sync", "--require-hashes", "--python", str(environment / "bin" / "python"), str(lock_path)]
    _uv(sync, environment, on_progress)


def _uv(arguments: list[str], environment: Path, on_progress: Progress) -> None:
    log_path = environment.with_name(f"{environment.name}.log")
    command = [sys.executable, "-m", "uv", "--no-progress", *arguments]
    started_s = time.monotonic()
    with log_path.open("wb") as log, _started(command, environment.parent, log) as process:
        while process.poll() is None:
            lines = log_path.read_text(errors="replace").strip().splitlines()
            latest = f": {lines[-1].strip()}" if lines else ""
            on_progress(f"installing Label Studio ({time.monotonic() - started_s:.0f} s){latest}")
            time.sleep(POLL_S)
    if process.returncode != 0:
        output = log_path.read_text(errors="replace").strip()
        raise DemoError(f"Label Studio's installation failed (uv exit code {process.returncode}). uv said:\n{output}")


@contextmanager
def _started(command: list[str], folder: Path, log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that is terminated if the block ends before it does."""
    # No pyproject.toml is above this folder, so no project's uv settings apply, only the user's.
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


@contextmanager
def _locked(path: Path, on_progress: Progress) -> Iterator[None]:
    """Hold a file lock. While another process holds it, report progress, which may raise to stop waiting."""
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_progress("waiting for another process that installs Label Studio")
            time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


def _delete_unused(folder: Path) -> None:
    stamps = sorted(folder.glob(f"*/{_COMPLETE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for stamp in stamps[ENVIRONMENTS_KEPT:]:
        shutil.rmtree(stamp.parent, ignore_errors=True)
