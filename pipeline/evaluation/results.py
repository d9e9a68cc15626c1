"""What the results of all benchmarks share: a JSON document kept up to date, and the facts about the machine in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from model_zoo.files import write_atomically
from pipeline.cli.stopping import run_and_report

PACKAGES = ("label-studio-ivos", "numpy", "opencv-python-headless", "torch", "segment-anything", "transformers")


@dataclass(frozen=True)
class Results:
    """The JSON document of what is measured so far: written after each step, and shown at the end.

    Attributes:
        document: makes the document; its argument says whether everything was measured.
        json: the file to keep up to date; None writes none.
    """

    document: Callable[[bool], dict[str, Any]]
    json: Path | None

    def write(self, *, complete: bool = False) -> dict[str, Any]:
        """Bring the file up to date, and return the document.

        Raises:
            OSError: it cannot be written.
        """
        document = self.document(complete)
        if self.json is not None:
            write_json(document, self.json)
        return document

    def run_and_report(
        self,
        run: Callable[[], None],
        show: Callable[[dict[str, Any]], object],
        kept: Callable[[], str],
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        """Run a benchmark, then write and show what it measured, also after Ctrl-C or an error.

        Args:
            run: measures, and calls `write` after each step.
            show: shows the document.
            kept: what is kept of a stopped run, in words.
            errors: what `run` may raise that is said in one line.

        Raises:
            typer.Exit: it was stopped (130), or something went wrong (1).
        """
        run_and_report(run, lambda complete: show(self.write(complete=complete)), kept, errors)


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a document in one step, so that an interruption leaves the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def peak_rss_mib() -> float:
    """The most memory this process ever held, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def machine(device: str) -> dict[str, Any]:
    """Where the figures were measured."""
    import platform

    import torch

    cuda = torch.device(device).type == "cuda"
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if cuda else _cpu_name(),
        "cpu_name": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the figures."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
