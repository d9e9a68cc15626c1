"""Methods by name. Nothing heavy is imported before a method is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_zoo.extras import require_extra
from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.parts.auto import AUTO, VIDEO_MODELS_BEST_FIRST, resolve_segmenter
from pipeline.parts.context import PartContext
from pipeline.parts.registry import build_part, known_parts, require_known

if TYPE_CHECKING:
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.methods.base import Method

PARTS_BY_METHOD = {
    "i_pt": ("segmenter", "point_tracker", "box_tracker"),
    "sam_pt": ("segmenter", "point_tracker"),
    "sam_pd": ("segmenter",),
    "idpro": ("segmenter",),
    "civos": ("segmenter",),
    "lazy": ("segmenter",),
    "sam2": ("segmenter",),
}
METHODS = tuple(PARTS_BY_METHOD)
ONLINE_METHODS = ("lazy", "idpro")
"""The methods that can follow a video while it arrives, see `pipeline.streaming`; the first one asks for help."""
MAX_TORCH_THREADS = 4


@dataclass(frozen=True)
class MethodChoice:
    """Which method, from which parts.

    Attributes:
        method: one of `METHODS`.
        segmenter: one of `known_segmenters`; "auto" is the best one whose weights are on the machine.
        point_tracker, box_tracker: one of `known_parts`, for the methods that track points or boxes.
        checkpoint: the segmenter's weights, instead of its file in the model zoo.
        options: the method's own settings by name, for instance ``{"refinement_iterations": 1}``; see `IPtSettings`,
            `SamPtSettings`, `SamPdSettings`, `ConcurrentSettings`, `CivosSettings`, `LazySettings`, `Sam2Settings`.
            Others keep their defaults.
    """

    method: str = METHODS[0]
    segmenter: str = AUTO
    point_tracker: str = "lucas_kanade"
    box_tracker: str = "opencv_template"
    checkpoint: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Check the names.

        Raises:
            ValueError: one is unknown, with what is known in the message; or a checkpoint goes with no named segmenter.
        """
        if self.checkpoint is not None and self.segmenter == AUTO:
            raise ValueError(f"the checkpoint {self.checkpoint} needs the name of its segmenter, not {AUTO}")
        require_known("method", self.method, METHODS)
        require_known("segmenter", self.segmenter, known_segmenters())
        require_known("point_tracker", self.point_tracker, known_parts("point_tracker"))
        require_known("box_tracker", self.box_tracker, known_parts("box_tracker"))


def require_here(choice: MethodChoice, store: ModelStore) -> None:
    """Check that all that the choice needs is on this machine, without building anything.

    Raises:
        ValueError: weights, official code or packages are missing, and the message names the command that gets them; or
            the method cannot use the segmenter.
    """
    for kind in PARTS_BY_METHOD[choice.method]:
        name = getattr(choice, kind)
        if kind == "segmenter":
            name = resolve_segmenter(choice.method, choice.segmenter, store)
            _require_fitting(choice.method, name)
        model = load_registry().get(name)
        if model is not None:
            require_extra(model.extra, f"{kind.replace('_', ' ')} {name}")
            if model.code is not None:
                store.code(model)
            for file in () if kind == "segmenter" and choice.checkpoint is not None else model.files:
                store.file(model, file.name)


def known_segmenters() -> tuple[str, ...]:
    """What can be chosen as segmenter."""
    return (AUTO, *known_parts("segmenter"), *VIDEO_MODELS_BEST_FIRST)


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
    return _compose(choice, context, embeddings, settings)


def limit_torch_threads() -> None:
    """Give torch few threads: more take the cores that answer other requests, and gain nothing on small networks."""
    import os

    import torch

    torch.set_num_threads(max(1, min(MAX_TORCH_THREADS, (os.cpu_count() or 1) // 2)))


def resolve_device(device: str) -> str:
    """The torch device to use; ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        ValueError: the device is malformed or not on this machine.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is none of auto, cpu, cuda, cuda:N, mps") from error
    usable = {"cpu": True, "cuda": cuda, "mps": mps}.get(kind, False)
    if not usable:
        raise ValueError(f"device {device!r} cannot be used on this machine; use auto or cpu")
    return device


def _settings(name: str, options: Mapping[str, Any]) -> Any:
    """The method's settings with some changed.

    Raises:
        ValueError: an option is unknown, or its value is of the wrong type or range.
    """
    from dataclasses import fields

    from pydantic import TypeAdapter, ValidationError

    from pipeline.methods.civos import CivosSettings
    from pipeline.methods.concurrent_video import ConcurrentSettings
    from pipeline.methods.i_pt import IPtSettings
    from pipeline.methods.lazy_video import LazySettings
    from pipeline.methods.sam2_video import Sam2Settings
    from pipeline.methods.sam_pd import SamPdSettings
    from pipeline.methods.sam_pt import SamPtSettings

    kinds = {
        "i_pt": IPtSettings,
        "sam_pt": SamPtSettings,
        "sam_pd": SamPdSettings,
        "idpro": ConcurrentSettings,
        "civos": CivosSettings,
        "lazy": LazySettings,
        "sam2": Sam2Settings,
    }
    kind: Any = kinds[name]
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"unknown option {', '.join(unknown)} of method {name}; known are {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "options"
        raise ValueError(f"option {place} of method {name}: {problem['msg']}; got {problem['input']!r}") from error


def _compose(choice: MethodChoice, context: PartContext, embeddings: EmbeddingCache[Any], settings: Any) -> Method:
    from pipeline.methods.civos import Civos
    from pipeline.methods.i_pt import IPt
    from pipeline.methods.idpro import IdPro
    from pipeline.methods.lazy import Lazy
    from pipeline.methods.sam_pd import SamPd
    from pipeline.methods.sam_pt import SamPt

    segmenter_name = resolve_segmenter(choice.method, choice.segmenter, context.store)
    _require_fitting(choice.method, segmenter_name)
    if choice.method == "sam2":
        return _sam2(segmenter_name, context, embeddings, settings)
    segmenter = build_part("segmenter", segmenter_name, context)
    of_segmenter_alone: dict[str, Callable[..., Method]] = {
        "sam_pd": SamPd,
        "idpro": IdPro,
        "civos": Civos,
        "lazy": Lazy,
    }
    if choice.method in of_segmenter_alone:
        return of_segmenter_alone[choice.method](segmenter, embeddings, settings)
    points = build_part("point_tracker", choice.point_tracker, context)
    if choice.method == "sam_pt":
        return SamPt(segmenter, points, embeddings, settings)
    return IPt(segmenter, points, build_part("box_tracker", choice.box_tracker, context), embeddings, settings)


def _require_fitting(method: str, segmenter: str) -> None:
    """Check that method and segmenter go together.

    Raises:
        ValueError: one is of SAM 2 and the other is not.
    """
    is_video_model = segmenter in VIDEO_MODELS_BEST_FIRST
    if is_video_model and method != "sam2":
        raise ValueError(
            f"{segmenter} is a video model, which method {method} cannot use; choose the method sam2, or "
            f"one of {', '.join(known_parts('segmenter'))} as segmenter"
        )
    if method == "sam2" and not is_video_model:
        raise ValueError(
            f"method sam2 cannot use the segmenter {segmenter}; choose one of {', '.join(VIDEO_MODELS_BEST_FIRST)}, "
            "or another method"
        )


def _sam2(name: str, context: PartContext, embeddings: EmbeddingCache[Any], settings: Any) -> Method:
    from model_zoo.sam2 import load_sam2
    from pipeline.methods.sam2 import Sam2
    from pipeline.methods.sam2_network import Sam2Network

    if context.checkpoint is not None:
        raise ValueError(
            f"method sam2 reads a folder with config.json and model.safetensors, not the single file "
            f"{context.checkpoint}; put them where `ivos models where {name}` says"
        )
    file = context.weights(name)
    model = load_sam2(None if file is None else file.parent, name, context.device)
    return Sam2(Sam2Network(model, name=name, device=context.device), embeddings, settings)
