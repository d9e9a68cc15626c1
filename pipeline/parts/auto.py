"""``segmenter=auto`` and ``box_tracker=auto``: the best ones whose weights are on this machine."""

from __future__ import annotations

from model_zoo.extras import is_installed
from model_zoo.registry import find
from model_zoo.store import ModelStore

AUTO = "auto"
DOWNLOAD_FREE = "lite"
"""The segmenter whose weights come with the package."""
SMALL = "mobile_sam"
"""The smallest segmenter with weights elsewhere: the one that may be downloaded without asking."""

LEARNED_BOX_TRACKER, DOWNLOAD_FREE_BOX_TRACKER = "nanotrack_v2", "opencv_template"

FIT_FOR_CPU = (DOWNLOAD_FREE, SMALL, "sam_hq_vit_tiny", "edgetam")
"""Segmenters that need at most a few seconds per frame on a CPU (docs/models.md)."""

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
"""The largest first; at equal size HQ-SAM, which was made to refine SAM's masks. The order is not measured here."""

VIDEO_MODELS_BEST_FIRST = (
    "sam2_1_hiera_large",
    "sam2_1_hiera_base_plus",
    "sam2_1_hiera_small",
    "sam2_1_hiera_tiny",
    "edgetam",
)
"""The models of the method sam2, the largest first."""


def resolve_segmenter(method: str, segmenter: str, store: ModelStore) -> str:
    """The segmenter that ``auto`` means on this machine at present. Any other name is returned unchanged.

    A model counts only if its weights are complete and the packages that build it are installed.

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


def resolve_box_tracker(box_tracker: str, store: ModelStore) -> str:
    """The box tracker that ``auto`` means on this machine at present. Any other name is returned unchanged.

    NanoTrack's boxes are right more often than those of the template tracker, which needs no weights (docs/models.md).
    """
    if box_tracker != AUTO:
        return box_tracker
    return LEARNED_BOX_TRACKER if store.has(LEARNED_BOX_TRACKER) else DOWNLOAD_FREE_BOX_TRACKER
