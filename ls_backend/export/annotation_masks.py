"""The brush masks of one saved annotation, and a count of everything in it that is not a mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ls_backend.protocol.brush_regions import draw_touches, is_thin
from ls_backend.protocol.payloads import Touch
from ls_backend.protocol.regions import NEXT_NOTE_ID, brush_rle_to_mask, region_id
from pipeline.types import BoolMask, RunLengthMask

PROMPT_TYPES = ("keypointlabels", "rectanglelabels")

EMPTY = "empty mask (the object is not visible there)"
PROMPT = "point or box (a prompt, not a mask)"
SCRIBBLE = "scribble (a prompt, not a mask)"

SizeHW: TypeAlias = tuple[int, int]
"""Height and width in pixels."""


class _Region(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: str = ""
    type: str
    value: dict[str, Any]
    origin: str | None = "manual"
    item_index: Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)] = Field(default=0, ge=0)


class _Size(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    original_width: int = Field(gt=0)
    original_height: int = Field(gt=0)


@dataclass
class AnnotationMasks:
    """The masks of one annotation.

    Attributes:
        masks: masks by label, then by 0-based frame index. None is empty.
        sizes_hw_px: height and width of every frame with a readable brush region, even an empty one, by frame index.
        skipped: how many regions are not among the masks, by reason.
    """

    masks: dict[str, dict[int, RunLengthMask]] = field(default_factory=dict)
    sizes_hw_px: dict[int, SizeHW] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def read_regions(result: Sequence[object], n_frames: int) -> AnnotationMasks:
    """Read the ``result`` list of an annotation or a draft.

    - Only ``brushlabels`` regions are masks. On frames that were not shown, Label Studio stores strokes besides the run
      lengths; the mask includes them.
    - Several masks of one label on one frame are united. A region with several labels counts for each label.
    - Thin strokes are scribbles, not masks, if this backend made the label's mask of that frame.
    - A region without ``item_index`` is on frame 0.
    - Everything else is counted in ``skipped``.
    """
    found = AnnotationMasks()
    region_ids = {str(entry.get("id")) for entry in result if isinstance(entry, dict)}
    for entry in result:
        problem = _read_region(entry, n_frames, region_ids, found)
        if problem:
            found.skipped[problem] += 1
    return found


def _read_region(entry: object, n_frames: int, region_ids: Collection[str], found: AnnotationMasks) -> str:
    """Add one region; returns why it is skipped, or an empty string."""
    try:
        region = _Region.model_validate(entry)
    except ValidationError as error:
        return f"damaged region: {_first_problem(error)}"
    if region.id == NEXT_NOTE_ID:
        return ""  # The backend wrote it; no annotator made it.
    if region.type in PROMPT_TYPES:
        return PROMPT
    if region.type != "brushlabels":
        return f"{region.type} (only brush masks are exported)"
    if "rle" not in region.value and "touches" not in region.value:
        return "damaged region: a brush region without rle"
    if region.item_index >= n_frames:
        return f"mask on a frame that the task does not have (it has {n_frames})"
    try:
        size = _Size.model_validate(entry)
        return _add_mask(region, (size.original_height, size.original_width), region_ids, found)
    except ValidationError as error:
        return f"damaged region: {_first_problem(error)}"
    except ValueError as error:
        return f"damaged region: {error}"


def _add_mask(region: _Region, size_hw_px: SizeHW, region_ids: Collection[str], found: AnnotationMasks) -> str:
    """Decode and add one brush mask; returns why it is skipped, or an empty string.

    Raises:
        ValueError: its run lengths or strokes are damaged.
    """
    labels = _labels(region.value)
    if not labels:
        return "mask without a label"
    if region.value.get("format", "rle") != "rle":
        return f"mask in the format {region.value['format']!r} (only rle is known)"
    mask = _region_mask(region.value, size_hw_px)
    known_size = found.sizes_hw_px.setdefault(region.item_index, size_hw_px)
    if known_size != size_hw_px:
        return f"mask of {_size_text(size_hw_px)} on a frame whose first mask is {_size_text(known_size)}"
    if not mask.any():
        return EMPTY
    backend_ids = {region_id(label, region.item_index) for label in labels}
    by_hand = region.origin == "manual" and region.id not in backend_ids
    if by_hand and not backend_ids.isdisjoint(region_ids) and is_thin(mask, None):
        return SCRIBBLE
    encoded = RunLengthMask.encode(mask)
    for label in labels:
        by_frame = found.masks.setdefault(label, {})
        earlier = by_frame.get(region.item_index)
        by_frame[region.item_index] = _union(earlier, encoded) if earlier else encoded
    return ""


def _region_mask(value: Mapping[str, Any], size_hw_px: SizeHW) -> BoolMask:
    """The mask of a brush region (H, W) bool, strokes included.

    Raises:
        ValueError: its run lengths or strokes are damaged.
    """
    rle = value.get("rle")
    if not isinstance(rle, list | None):
        raise ValueError(f"rle must be a list, but it is {type(rle).__name__}")
    base = np.zeros(size_hw_px, np.bool_) if rle is None else brush_rle_to_mask(rle, *size_hw_px)
    touches = value.get("touches") or []
    if not isinstance(touches, list):
        raise ValueError(f"touches must be a list, but it is {type(touches).__name__}")
    return draw_touches(base, [Touch.model_validate(touch) for touch in touches])


def _labels(value: Mapping[str, Any]) -> list[str]:
    labels = value.get("brushlabels")
    return list(dict.fromkeys(label for label in labels if isinstance(label, str))) if isinstance(labels, list) else []


def _union(first: RunLengthMask, second: RunLengthMask) -> RunLengthMask:
    return RunLengthMask.encode(first.decode() | second.decode())


def _size_text(size_hw_px: SizeHW) -> str:
    return f"{size_hw_px[1]}x{size_hw_px[0]} px"


def _first_problem(error: ValidationError) -> str:
    issue = error.errors()[0]
    return f"{'.'.join(str(part) for part in issue['loc']) or 'region'}: {issue['msg']}"
