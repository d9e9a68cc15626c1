"""The project's methods on the oracle, and how good their masks are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Method
from pipeline.methods.civos import Civos
from pipeline.methods.i_pt import IPt
from pipeline.methods.idpro import IdPro
from pipeline.methods.lazy import Lazy
from pipeline.methods.sam_pd import SamPd
from pipeline.methods.sam_pt import SamPt
from pipeline.segmenters.base import Segmenter
from pipeline.session.session import Session
from pipeline.trackers.boxes.template import OpenCvTemplate
from pipeline.trackers.points.lucas_kanade import LucasKanade
from pipeline.types import BoolMask, MaskPrompt, RunLengthMask
from tests.oracle.model import oracle_segmenter
from tests.oracle.scenes import Scene

METHODS = {"i_pt": IPt, "sam_pt": SamPt, "sam_pd": SamPd, "idpro": IdPro, "civos": Civos, "lazy": Lazy}


def oracle_method(name: str, *, segmenter: Segmenter | None = None, **options: Any) -> Method:
    """A method on the oracle (or another segmenter), with some of its own settings changed.

    It tracks points by Lucas-Kanade and boxes by a template, as far as it tracks any.
    """
    parts: dict[str, Any] = {"segmenter": segmenter or oracle_segmenter(), "embeddings": EmbeddingCache(64)}
    if name in ("i_pt", "sam_pt"):
        parts["point_tracker"] = LucasKanade()
    if name == "i_pt":
        parts["box_tracker"] = OpenCvTemplate()
    method = METHODS[name](**parts)
    return replace(method, settings=replace(method.settings, **options))


def mask_prompt(scene: Scene, frame_index: int, object_id: int = 1) -> MaskPrompt:
    """A frame's true mask as a person would give it; empty where the frame does not show the object."""
    return MaskPrompt(object_id, frame_index, RunLengthMask.encode(scene.masks[object_id][frame_index]))


def masks_of(session: Session, object_id: int = 1) -> dict[int, BoolMask]:
    """The session's masks by frame."""
    return {each.frame_index: each.mask.decode() for each in session.results(object_id)}


def iou(mask: BoolMask, true_mask: BoolMask) -> float:
    """1 where both are empty."""
    union = int((mask | true_mask).sum())
    return float((mask & true_mask).sum() / union) if union else 1.0


def ious(session: Session, scene: Scene, object_id: int = 1) -> list[float]:
    """IoU with the truth on every frame; 0 for a frame without a mask that should have one."""
    found, nothing = masks_of(session, object_id), np.zeros_like(scene.masks[object_id][0])
    return [iou(found.get(index, nothing), mask) for index, mask in enumerate(scene.masks[object_id])]
