"""COCO instance annotations with compressed run lengths, one per object and frame; pycocotools loads the file.

Beyond COCO's own keys, each image has ``video_id`` and ``frame_index`` (0-based), each annotation ``video_id`` and
``track_id``, and ``videos`` lists the clips: the annotations of one ``track_id`` are one masklet.

Format: Lin et al., Microsoft COCO: Common Objects in Context (arXiv:1405.0312), and pycocotools' mask API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pycocotools import mask as coco_mask

from pipeline.export.clip import ExportedClip
from pipeline.types import RunLengthMask

CocoRecord: TypeAlias = dict[str, Any]
CocoDataset: TypeAlias = dict[str, Any]


def coco_dataset(clips: Sequence[ExportedClip], categories: Mapping[int, str]) -> CocoDataset:
    """All clips as one COCO dictionary, ready for `json.dump`. Nothing is lost where masks overlap.

    Args:
        clips: in the order their ids are given (from 1).
        categories: name by object id. Object id and category id are the same number.

    Raises:
        ValueError: an object id has no category.
    """
    dataset: CocoDataset = {
        "info": {"description": "video object segmentation masks"},
        "licenses": [],
        "videos": [],
        "images": [],
        "annotations": [],
        "categories": [{"id": object_id, "name": name} for object_id, name in sorted(categories.items())],
    }
    n_tracks = 0
    for video_id, clip in enumerate(clips, start=1):
        unnamed = sorted(set(clip.masks) - set(categories))
        if unnamed:
            raise ValueError(
                f"clip {clip.name}: no category for the object ids {unnamed}; known are {sorted(categories)}"
            )
        first_image_id = len(dataset["images"]) + 1
        images = _images(clip, video_id, first_image_id)
        dataset["images"] += images
        dataset["videos"].append(_video(clip, video_id, images))
        for object_id in sorted(clip.masks):
            n_tracks += 1
            for frame_index, mask in sorted(clip.masks[object_id].items()):
                dataset["annotations"].append(
                    {
                        "id": len(dataset["annotations"]) + 1,
                        "image_id": first_image_id + frame_index,
                        "category_id": object_id,
                        "video_id": video_id,
                        "track_id": n_tracks,
                        "iscrowd": 0,
                        **_segmentation(mask),
                    }
                )
    return dataset


def _video(clip: ExportedClip, video_id: int, images: Sequence[CocoRecord]) -> CocoRecord:
    height_px, width_px = clip.frame_sizes_hw_px[0]
    return {
        "id": video_id,
        "name": clip.name,
        "height": height_px,
        "width": width_px,
        "length": len(images),
        "file_names": [image["file_name"] for image in images],
    }


def _images(clip: ExportedClip, video_id: int, first_image_id: int) -> list[CocoRecord]:
    return [
        {
            "id": first_image_id + frame_index,
            "file_name": f"{clip.name}/{frame_name}",
            "height": height_px,
            "width": width_px,
            "video_id": video_id,
            "frame_index": frame_index,
        }
        for frame_index, (frame_name, (height_px, width_px)) in enumerate(
            zip(clip.frame_names, clip.frame_sizes_hw_px, strict=True)
        )
    ]


def _segmentation(mask: RunLengthMask) -> CocoRecord:
    """Run lengths, area in px and box as x, y, width, height in px."""
    return {
        "segmentation": {"size": [mask.height_px, mask.width_px], "counts": mask.counts.decode("ascii")},
        "area": mask.area_px,
        "bbox": [float(side) for side in coco_mask.toBbox(mask.coco())],
    }
