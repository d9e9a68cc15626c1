"""Methods by name. Nothing heavy is imported before a method is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.methods.base import Method
    from pipeline.trackers.boxes.base import BoxTracker

METHODS = ("joint_tracking",)
SEGMENTERS = ("classical",)
BOX_TRACKERS = ("opencv_template", "opencv_mil", "mask_box")
MAX_TORCH_THREADS = 4


def build_method(name: str, *, segmenter: str, box_tracker: str, device: str, embedding_ram_mib: int) -> Method:
    """Build a method once for the whole process.

    Args:
        name: one of `METHODS`.
        segmenter: one of `SEGMENTERS`.
        box_tracker: one of `BOX_TRACKERS`.
        device: auto, cpu, cuda, cuda:N or mps.
        embedding_ram_mib: bound of image embeddings in memory, all videos together.

    Raises:
        ValueError: a name is unknown or the device cannot be used; the message lists what is known.
    """
    for what, value, known in (
        ("method", name, METHODS),
        ("segmenter", segmenter, SEGMENTERS),
        ("box tracker", box_tracker, BOX_TRACKERS),
    ):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; known are {', '.join(known)}")
    import os

    import torch

    from pipeline.embeddings import EmbeddingCache
    from pipeline.methods.joint_tracking import JointTracking
    from pipeline.segmenters.classical import ClassicalSegmenter
    from pipeline.trackers.points.lucas_kanade import LucasKanade

    # More threads than this gain nothing on networks this small, and take the cores that answer other requests.
    torch.set_num_threads(max(1, min(MAX_TORCH_THREADS, (os.cpu_count() or 1) // 2)))
    return JointTracking(
        segmenter=ClassicalSegmenter(device=resolve_device(device)),
        point_tracker=LucasKanade(),
        box_tracker=_box_tracker(box_tracker),
        embeddings=EmbeddingCache(embedding_ram_mib),
    )


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


def _box_tracker(name: str) -> BoxTracker:
    from pipeline.trackers.boxes.mask_box import MaskBox
    from pipeline.trackers.boxes.opencv import OpenCvMil, OpenCvTemplate

    if name == "mask_box":
        return MaskBox()
    return OpenCvMil() if name == "opencv_mil" else OpenCvTemplate()
