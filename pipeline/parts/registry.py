"""Segmenters and trackers by name: the project's own, and those that other packages bring by an entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pipeline.parts.builtin import BOX_TRACKERS, POINT_TRACKERS, SEGMENTERS
from pipeline.parts.context import PartContext

Factory = Callable[[PartContext], Any]

BUILT_IN: Mapping[str, Mapping[str, Factory]] = {
    "segmenter": SEGMENTERS,
    "point_tracker": POINT_TRACKERS,
    "box_tracker": BOX_TRACKERS,
}
"""Kind of part, then name, then what builds it."""


def entry_point_group(kind: str) -> str:
    """Where another package offers parts of a kind: ``label_studio_ivos.point_trackers``, for instance."""
    return f"label_studio_ivos.{kind}s"


def known_parts(kind: str) -> tuple[str, ...]:
    """Names of all parts of a kind, the project's own first, each once."""
    return tuple(dict.fromkeys([*BUILT_IN[kind], *(point.name for point in _offered(kind))]))


def require_known(kind: str, name: str, known: tuple[str, ...]) -> None:
    """Check a name.

    Raises:
        ValueError: it is unknown; the message lists what is known.
    """
    if name not in known:
        raise ValueError(f"unknown {kind.replace('_', ' ')} {name!r}; known are {', '.join(known)}")


def build_part(kind: str, name: str, context: PartContext) -> Any:
    """Build a part.

    Args:
        kind: segmenter, point_tracker or box_tracker.
        name: one of `known_parts`. A name of the project's own means the project's own part.
        context: where its weights are, and the device.

    Raises:
        ValueError: the name is unknown or offered by two packages, the part's weights or packages are missing, or the
            other package's code cannot be loaded.
    """
    require_known(kind, name, known_parts(kind))
    own = BUILT_IN[kind].get(name)
    return own(context) if own is not None else _from_package(kind, name)(context)


def _offered(kind: str) -> list[EntryPoint]:
    return sorted(entry_points(group=entry_point_group(kind)), key=lambda point: point.name)


def _from_package(kind: str, name: str) -> Factory:
    offers = {point.value: point for point in _offered(kind) if point.name == name}
    if len(offers) > 1:
        raise ValueError(
            f"{kind.replace('_', ' ')} {name!r} is offered by more than one package ({', '.join(sorted(offers))}); "
            "uninstall all but one"
        )
    (offer,) = offers.values()
    try:
        factory: Factory = offer.load()
    except Exception as error:  # Another package's import can fail in any way.
        raise ValueError(
            f"{kind.replace('_', ' ')} {name!r} of the package at {offer.value} cannot be loaded "
            f"({type(error).__name__}: {error}); repair or uninstall that package"
        ) from error
    return factory
