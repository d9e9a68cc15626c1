"""Optional packages that only some models need, and the message that says how to install them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

_MODULES_BY_EXTRA = {
    "hq": ("segment_anything_hq", "timm"),
    "sam2": ("transformers", "timm"),
    "trackers": ("onnxruntime", "einops", "tree", "einshape", "timm"),
}
"""The modules of each extra, by the names under which they are imported."""


class MissingExtraError(ValueError):
    """A part was chosen whose packages are not installed; the message names the command that installs them."""


def is_installed(extra: str) -> bool:
    """Whether all modules of an extra can be imported, without importing them. The empty extra has none."""
    return all(find_spec(module) is not None for module in _MODULES_BY_EXTRA.get(extra, ()))


def require_extra(extra: str, part: str) -> None:
    """Check that an extra is installed, without importing anything.

    Raises:
        MissingExtraError: something of it is missing.
    """
    for module in _MODULES_BY_EXTRA.get(extra, ()):
        if find_spec(module) is None:
            raise _missing(module, extra, part)


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
        raise _missing(error.name or module, extra, part) from error


def _missing(module: str, extra: str, part: str) -> MissingExtraError:
    return MissingExtraError(
        f"{part} needs the package {module}, which is not installed; install it with: "
        f"uv pip install 'label-studio-ivos[{extra}]' (or pip install, likewise)"
    )
