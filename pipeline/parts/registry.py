"""Methods, segmenters and trackers by name, as entry points of installed packages: this project's and others'.

The group of an entry point is ``label_studio_ivos.`` and the kind in the plural, such as
``label_studio_ivos.point_trackers``. For a method the entry point names its class, for a part a function that takes a
`pipeline.parts.context.PartContext`. Reading names imports none of these modules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, PackageNotFoundError, distribution, entry_points
from typing import Any

from pipeline.parts.context import PartContext

Factory = Callable[[PartContext], Any]

METHOD, SEGMENTER, POINT_TRACKER, BOX_TRACKER = KINDS = ("method", "segmenter", "point_tracker", "box_tracker")
PART_KINDS = KINDS[1:]
"""The parts that a method may ask for: the names of these fields of its class."""
_PROJECT = "label-studio-ivos"


def entry_point_group(kind: str) -> str:
    """The group of the entry points of a kind, such as ``label_studio_ivos.point_trackers``."""
    return f"label_studio_ivos.{kind}s"


@cache
def _own_entry_points() -> EntryPoints:
    try:
        return distribution(_PROJECT).entry_points
    except PackageNotFoundError:
        return EntryPoints()


def own_names(kind: str) -> tuple[str, ...]:
    """The project's own names of a kind, in alphabetical order.

    Raises:
        ValueError: the project's installed metadata lists none, as it is missing or older than the code.
    """
    names = sorted(point.name for point in _own_entry_points().select(group=entry_point_group(kind)))
    if not names:
        raise ValueError(
            f"the installed {_PROJECT} lists no {kind.replace('_', ' ')}; "
            "install it again with `make install` or `pip install --editable .`"
        )
    return tuple(names)


def known_names(kind: str) -> tuple[str, ...]:
    """All names of a kind, each once: the project's own first, then those of other packages."""
    others = sorted(point.name for point in entry_points(group=entry_point_group(kind)))
    return tuple(dict.fromkeys([*own_names(kind), *others]))


def require_known(kind: str, name: str, known: tuple[str, ...]) -> None:
    """Check a name.

    Raises:
        ValueError: it is unknown; the message lists what is known.
    """
    if name not in known:
        kind = kind.replace("_", " ")
        raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(known)}; choose one of these")


def load(kind: str, name: str) -> Any:
    """The class of a method, or the function that builds a part.

    Args:
        kind: one of `KINDS`.
        name: one of `known_names`. A name of the project's own always means the project's own.

    Raises:
        ValueError: the name is unknown or offered by two packages, or another package's code cannot be loaded.
    """
    require_known(kind, name, known_names(kind))
    group = entry_point_group(kind)
    for own in _own_entry_points().select(group=group, name=name):
        return own.load()
    return _load_from_package(kind, name, [point for point in entry_points(group=group) if point.name == name])


def build_part(kind: str, name: str, context: PartContext) -> Any:
    """Build a part.

    Args:
        kind: one of `PART_KINDS`.
        name: one of `known_names`.
        context: where its weights are, and the device.

    Raises:
        ValueError: as `load`, or the part's weights or packages are missing.
    """
    factory: Factory = load(kind, name)
    return factory(context)


def _load_from_package(kind: str, name: str, points: list[EntryPoint]) -> Any:
    offers = {point.value: point for point in points}
    if len(offers) > 1:
        raise ValueError(
            f"{kind.replace('_', ' ')} {name!r} is offered by more than one package ({', '.join(sorted(offers))}); "
            "uninstall all but one"
        )
    (offer,) = offers.values()
    try:
        return offer.load()
    except Exception as error:  # Another package's import can fail in any way.
        raise ValueError(
            f"{kind.replace('_', ' ')} {name!r} of the package at {offer.value} cannot be loaded "
            f"({type(error).__name__}: {error}); repair or uninstall that package"
        ) from error
