"""Tasks with brush annotations in the form of Label Studio's API and JSON export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ls_backend.protocol.regions import mask_to_brush_rle
from pipeline.types import BoolMask

Json = dict[str, Any]


def brush_region(label: str, frame_index: int | None, mask: BoolMask, **changes: Any) -> Json:
    """One brush region; ``frame_index`` None leaves ``item_index`` out."""
    region = {
        "id": f"{label}-{frame_index}",
        "from_name": "brush",
        "to_name": "video",
        "type": "brushlabels",
        "origin": "manual",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "value": {"format": "rle", "rle": mask_to_brush_rle(mask), "brushlabels": [label]},
    }
    if frame_index is not None:
        region["item_index"] = frame_index
    return region | changes


def annotation(result: Sequence[Mapping[str, Any]], annotation_id: int = 1, **changes: Any) -> Json:
    """A submitted annotation."""
    body = {
        "id": annotation_id,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-11-20T10:00:00.000001Z",
        "updated_at": "2026-11-20T10:00:00.000001Z",
    }
    return body | changes


def task(
    annotations: Sequence[Json], n_frames: int = 3, task_id: int = 1, folder: str = "clip", **changes: Any
) -> Json:
    """A task whose frames are ``folder``/00000.jpg and so on."""
    frames = [f"/data/local-files/?d={folder}/{frame_index:05d}.jpg" for frame_index in range(n_frames)]
    return {"id": task_id, "data": {"frames": frames}, "annotations": list(annotations), "drafts": []} | changes
