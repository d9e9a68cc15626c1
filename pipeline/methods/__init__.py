"""Methods by name. Nothing heavy is imported before a method is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.methods.base import Method
    from pipeline.segmenters.base import Segmenter
    from pipeline.trackers.boxes.base import BoxTracker

METHODS = ("i_pt", "sam_pt", "sam_pd")
SEGMENTERS = ("classical", "sam_vit_b", "sam_vit_l", "sam_vit_h")
BOX_TRACKERS = ("opencv_template", "opencv_mil", "mask_box")
MAX_TORCH_THREADS = 4


def build_method(
    name: str,
    *,
    segmenter: str,
    box_tracker: str,
    device: str,
    embedding_ram_mib: int,
    checkpoint: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """Build a method once for the whole process.

    Args:
        name: one of `METHODS`.
        segmenter: one of `SEGMENTERS`.
        box_tracker: one of `BOX_TRACKERS`, for the methods that track boxes.
        device: auto, cpu, cuda, cuda:N or mps.
        embedding_ram_mib: bound of image embeddings in memory, all videos together.
        checkpoint: the segmenter's weights, for segmenters that have any.
        options: the method's own settings by name, for instance ``{"refinement_iterations": 1}``; see `IPtSettings`,
            `SamPtSettings`, `SamPdSettings`. Others keep their defaults.

    Raises:
        ValueError: a name or option is unknown, the checkpoint does not fit, or the device cannot be used; the message
            lists what is known.
    """
    require_known(method=name, segmenter=segmenter, box_tracker=box_tracker)
    import os

    import torch

    from pipeline.embeddings import EmbeddingCache

    # More threads than this gain nothing on networks this small, and take the cores that answer other requests.
    torch.set_num_threads(max(1, min(MAX_TORCH_THREADS, (os.cpu_count() or 1) // 2)))
    settings = _settings(name, options or {})
    built = _segmenter(segmenter, checkpoint, resolve_device(device))
    return _compose(name, built, box_tracker, EmbeddingCache(embedding_ram_mib), settings)


def require_known(**chosen: str) -> None:
    """Check names given as ``method=``, ``segmenter=``, ``box_tracker=``.

    Raises:
        ValueError: one is unknown; the message lists what is known.
    """
    known_names = {"method": METHODS, "segmenter": SEGMENTERS, "box_tracker": BOX_TRACKERS}
    for kind, value in chosen.items():
        if value not in known_names[kind]:
            what = kind.replace("_", " ")
            raise ValueError(f"unknown {what} {value!r}; known are {', '.join(known_names[kind])}")


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

    from pipeline.methods.i_pt import IPtSettings
    from pipeline.methods.sam_pd import SamPdSettings
    from pipeline.methods.sam_pt import SamPtSettings

    kind: Any = {"i_pt": IPtSettings, "sam_pt": SamPtSettings, "sam_pd": SamPdSettings}[name]
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


def _segmenter(name: str, checkpoint: Path | None, device: str) -> Segmenter:
    if name == "classical":
        from pipeline.segmenters.classical import ClassicalSegmenter

        return ClassicalSegmenter(device=device)
    from model_zoo.segment_anything import load_sam
    from pipeline.segmenters.sam import SamSegmenter

    if checkpoint is None:
        raise ValueError(f"segmenter {name} needs its weights; name the downloaded file with --checkpoint FILE")
    return SamSegmenter(load_sam(name.removeprefix("sam_"), checkpoint, device), name=name, device=device)


def _compose(name: str, segmenter: Segmenter, box_tracker: str, embeddings: Any, settings: Any) -> Method:
    from pipeline.methods.i_pt import IPt
    from pipeline.methods.sam_pd import SamPd
    from pipeline.methods.sam_pt import SamPt
    from pipeline.trackers.points.lucas_kanade import LucasKanade

    if name == "sam_pd":
        return SamPd(segmenter, embeddings, settings)
    if name == "sam_pt":
        return SamPt(segmenter, LucasKanade(), embeddings, settings)
    return IPt(segmenter, LucasKanade(), _box_tracker(box_tracker), embeddings, settings)


def _box_tracker(name: str) -> BoxTracker:
    from pipeline.trackers.boxes.mask_box import MaskBox
    from pipeline.trackers.boxes.opencv import OpenCvMil, OpenCvTemplate

    if name == "mask_box":
        return MaskBox()
    return OpenCvMil() if name == "opencv_mil" else OpenCvTemplate()
