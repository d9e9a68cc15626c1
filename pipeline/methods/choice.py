"""A method chosen by name with its parts and options: checked, and built. Nothing heavy is imported before that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_zoo.extras import require_extra
from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.parts.auto import AUTO, VIDEO_MODELS_BEST_FIRST, resolve_box_tracker, resolve_segmenter
from pipeline.parts.context import PartContext
from pipeline.parts.device import limit_torch_threads, resolve_device
from pipeline.parts.registry import (
    BOX_TRACKER,
    METHOD,
    PART_KINDS,
    POINT_TRACKER,
    SEGMENTER,
    build_part,
    known_names,
    load,
    own_names,
    require_known,
)

if TYPE_CHECKING:
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.methods.base import Method

DEFAULT_METHOD = "i_pt"
DEFAULT_ONLINE_METHOD = "lazy"
"""For a video that still arrives, see `pipeline.streaming`: it asks for help where it is uncertain."""


@dataclass(frozen=True)
class MethodChoice:
    """Which method, from which parts.

    Attributes:
        method: one of `known_names` of methods.
        segmenter: one of `known_segmenters`; "auto" is the best one whose weights are on the machine.
        point_tracker: one of `known_names`, for the methods that track points.
        box_tracker: one of `known_box_trackers`, for the methods that track boxes; "auto" is the best one whose weights
            are on the machine.
        checkpoint: the segmenter's weights, instead of its file in the model zoo.
        options: the method's own settings by name, such as ``{"refinement_iterations": 1}``; see `settings_class`.
            Others keep their defaults.
    """

    method: str = DEFAULT_METHOD
    segmenter: str = AUTO
    point_tracker: str = "lucas_kanade"
    box_tracker: str = AUTO
    checkpoint: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Check the names.

        Raises:
            ValueError: one is unknown, with what is known in the message; or a checkpoint goes with no named segmenter.
        """
        if self.checkpoint is not None and self.segmenter == AUTO:
            raise ValueError(f"the checkpoint {self.checkpoint} needs the name of its segmenter, not {AUTO}")
        require_known(METHOD, self.method, known_names(METHOD))
        require_known(SEGMENTER, self.segmenter, known_segmenters())
        require_known(POINT_TRACKER, self.point_tracker, known_names(POINT_TRACKER))
        require_known(BOX_TRACKER, self.box_tracker, known_box_trackers())


def known_segmenters() -> tuple[str, ...]:
    """What can be chosen as segmenter."""
    return (AUTO, *known_names(SEGMENTER))


def known_box_trackers() -> tuple[str, ...]:
    """What can be chosen as box tracker."""
    return (AUTO, *known_names(BOX_TRACKER))


def resolved_parts(choice: MethodChoice, store: ModelStore) -> MethodChoice:
    """The choice with ``auto`` replaced by the segmenter and box tracker that it means on this machine.

    Raises:
        ValueError: no model of method sam2 is here, which has no download-free one.
    """
    return replace(
        choice,
        segmenter=resolve_segmenter(choice.method, choice.segmenter, store),
        box_tracker=resolve_box_tracker(choice.box_tracker, store),
    )


def online_methods() -> tuple[str, ...]:
    """The project's own methods that can follow a video while it arrives, `DEFAULT_ONLINE_METHOD` first."""
    online = [name for name in own_names(METHOD) if works_online(name)]
    return tuple(sorted(online, key=lambda name: (name != DEFAULT_ONLINE_METHOD, name)))


def works_online(method: str) -> bool:
    """Whether a method can follow a video while it arrives: its class says ``works_online = True``.

    Raises:
        ValueError: the method is unknown or cannot be loaded.
    """
    return bool(getattr(load(METHOD, method), "works_online", False))


def settings_class(method: str) -> Any:
    """The frozen dataclass with a method's own settings: what the ``settings`` field of its class has by default.

    Raises:
        ValueError: the method is unknown or cannot be loaded.
    """
    (settings,) = (each for each in fields(load(METHOD, method)) if each.name == "settings")
    return type(settings.default) if settings.default is not MISSING else settings.default_factory


def parts_of(method: str) -> tuple[str, ...]:
    """The kinds of parts that a method is composed of, as the fields of its class say.

    Raises:
        ValueError: the method is unknown or cannot be loaded.
    """
    names = {each.name for each in fields(load(METHOD, method))}
    return tuple(kind for kind in PART_KINDS if kind in names)


def require_installed(choice: MethodChoice, store: ModelStore) -> None:
    """Check that all that the choice needs is on this machine, without building anything.

    Raises:
        ValueError: weights, official code or packages are missing, and the message names the command that gets them; or
            the method cannot use the segmenter.
    """
    resolved = resolved_parts(choice, store)
    for kind in parts_of(choice.method):
        name = getattr(resolved, kind)
        if kind == SEGMENTER:
            _require_fitting(choice.method, name)
        model = load_registry().get(name)
        if model is not None:
            require_extra(model.extra, f"{kind.replace('_', ' ')} {name}")
            if model.code is not None:
                store.code(model)
            for file in () if kind == SEGMENTER and choice.checkpoint is not None else model.files:
                store.file(model, file.name)


def build_method(
    choice: MethodChoice,
    *,
    store: ModelStore,
    device: str,
    embeddings: EmbeddingCache[Any],
    random_weights: bool = False,
) -> Method:
    """Build a method once for the whole process.

    Args:
        choice: method, parts and options.
        store: the model zoo on this machine.
        device: auto, cpu, cuda, cuda:N or mps.
        embeddings: the cache of image embeddings, which bounds those of all videos together.
        random_weights: let random weights stand in for missing ones: for timing and tests, never for masks.

    Raises:
        ValueError: a name or option is unknown, weights or packages are missing, the checkpoint does not fit, or the
            device cannot be used; the message says what is known or what to do.
    """
    choice.check()
    limit_torch_threads()
    settings = _settings(choice.method, choice.options)
    context = PartContext(store, resolve_device(device), choice.checkpoint, random_weights)
    resolved = resolved_parts(choice, store)
    names = {kind: getattr(resolved, kind) for kind in parts_of(choice.method)}
    if SEGMENTER in names:
        _require_fitting(choice.method, names[SEGMENTER])
    parts = {kind: build_part(kind, name, context) for kind, name in names.items()}
    method: Method = load(METHOD, choice.method)(**parts, embeddings=embeddings, settings=settings)
    return method


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """Settings by name from ``NAME=VALUE`` words; `build_method` checks names and values.

    Raises:
        ValueError: a word is something else, or a name comes twice.
    """
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise ValueError(f"an option of the method needs the form NAME=VALUE, but got {word!r}")
        if name.strip() in options:
            raise ValueError(f"option {name.strip()} of the method is given twice")
        options[name.strip()] = value.strip()
    return options


def option_words(options: Mapping[str, Any]) -> list[str]:
    """The words of settings, in order of their names: what `parse_options` reads."""
    return sorted(f"{name}={value}" for name, value in options.items())


def _settings(method: str, options: Mapping[str, Any]) -> Any:
    """The method's settings with some changed.

    Raises:
        ValueError: an option is unknown, or its value is of the wrong type or range.
    """
    from pydantic import TypeAdapter, ValidationError

    kind = settings_class(method)
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"unknown option {', '.join(unknown)} of method {method}; known are {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "options"
        raise ValueError(f"option {place} of method {method}: {problem['msg']}; got {problem['input']!r}") from error


def _require_fitting(method: str, segmenter: str) -> None:
    """Check that method and segmenter go together: a class says ``takes_video_models = True``, or takes the others.

    Raises:
        ValueError: they do not.
    """
    is_video_model = segmenter in VIDEO_MODELS_BEST_FIRST
    takes_video_models = bool(getattr(load(METHOD, method), "takes_video_models", False))
    if is_video_model and not takes_video_models:
        images = [name for name in known_names(SEGMENTER) if name not in VIDEO_MODELS_BEST_FIRST]
        raise ValueError(
            f"{segmenter} is a video model, which method {method} cannot use; choose the method sam2, or "
            f"one of {', '.join(images)} as segmenter"
        )
    if takes_video_models and not is_video_model:
        raise ValueError(
            f"method {method} cannot use the segmenter {segmenter}; choose one of "
            f"{', '.join(VIDEO_MODELS_BEST_FIRST)}, or another method"
        )
