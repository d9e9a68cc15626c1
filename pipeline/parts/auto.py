"""``segmenter=auto``: the best one whose weights are on this machine."""

from __future__ import annotations

from model_zoo.extras import is_installed
from model_zoo.registry import find
from model_zoo.store import ModelStore

AUTO = "auto"
DOWNLOAD_FREE = "classical"
SMALL = "mobile_sam"
"""What is worth a download without being asked: the smallest learned segmenter."""

FIT_FOR_CPU = (DOWNLOAD_FREE, SMALL, "sam_hq_vit_tiny", "edgetam")
"""What a CPU segments in a few seconds a frame or less (docs/models.md)."""

BEST_FIRST = (
    "sam_hq_vit_h",
    "sam_vit_h",
    "sam_hq_vit_l",
    "sam_vit_l",
    "sam_hq_vit_b",
    "sam_vit_b",
    "sam_hq_vit_tiny",
    "mobile_sam",
)
"""By size; at equal size HQ-SAM, which was made to refine SAM's masks, first. The order is not measured here."""

VIDEO_MODELS_BEST_FIRST = (
    "sam2_1_hiera_large",
    "sam2_1_hiera_base_plus",
    "sam2_1_hiera_small",
    "sam2_1_hiera_tiny",
    "edgetam",
)
"""What the method sam2 works with, by size."""


def resolve_segmenter(method: str, segmenter: str, store: ModelStore) -> str:
    """The segmenter that ``auto`` means now, on this machine; any other name is answered as it is.

    A model counts only where its weights are whole and the packages that build it are installed.

    Raises:
        ValueError: the method sam2 was chosen and none of its models is here: it has no download-free one.
    """
    if segmenter != AUTO:
        return segmenter
    candidates = VIDEO_MODELS_BEST_FIRST if method == "sam2" else BEST_FIRST
    for name in candidates:
        if store.has(name) and is_installed(find(name).extra):
            return name
    if method == "sam2":
        raise ValueError(
            "method sam2 needs the weights of one of its models, and none is on this machine; "
            f"get the smallest with: ivos models pull {VIDEO_MODELS_BEST_FIRST[-1]}"
        )
    return DOWNLOAD_FREE
