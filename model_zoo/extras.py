"""Packages that only some models need, and the one line that says how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ValueError):
    """A part was chosen whose packages are not installed; the message names the command that installs them."""


def require(module: str, *, extra: str, part: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: its dotted name.
        extra: the project's extra that brings it: hq, sam2, trackers or gpu.
        part: who needs it, for the message, such as "segmenter sam_hq_vit_b".

    Raises:
        MissingExtraError: it, or something it imports, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise MissingExtraError(
            f"{part} needs the package {missing}, which is not installed; install it with: "
            f"uv pip install 'label-studio-ivos[{extra}]' (or pip install, likewise)"
        ) from error
