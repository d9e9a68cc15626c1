"""The brush masks of one saved annotation, and what in it is not a mask."""

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
class StoredMasks:
    """Everything read from one annotation.

    Attributes:
        masks: by label, then by 0-based frame index, none of them empty.
        sizes_hw_px: height and width by frame index, of every frame that has a readable brush region, empty or not.
        left_out: what is not among the masks and why, with its number.
    """

    masks: dict[str, dict[int, RunLengthMask]] = field(default_factory=dict)
    sizes_hw_px: dict[int, SizeHW] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def read_regions(result: Sequence[object], n_frames: int) -> StoredMasks:
    """Read the ``result`` list of an annotation or a draft.

    Only ``brushlabels`` regions are masks, with the strokes that Label Studio stored on top of their run lengths where
    the frame was not shown. Several of one label on one frame are united; a region with several labels counts for each.
    Thin strokes on a frame where this backend made the label's mask are scribbles and left out. A region without
    ``item_index`` is on frame 0. Whatever cannot be used is counted.
    """
    stored = StoredMasks()
    region_ids = {str(entry.get("id")) for entry in result if isinstance(entry, dict)}
    for entry in result:
        problem = _read_region(entry, n_frames, region_ids, stored)
        if problem:
            stored.left_out[problem] += 1
    return stored


def _read_region(entry: object, n_frames: int, region_ids: Collection[str], stored: StoredMasks) -> str:
    """Add one region; returns why it was left out, or an empty string."""
    try:
        region = _Region.model_validate(entry)
    except ValidationError as error:
        return f"damaged region: {_first_problem(error)}"
    if region.id == NEXT_NOTE_ID:
        return ""  # Nothing that anybody made.
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
        return _add(region, (size.original_height, size.original_width), region_ids, stored)
    except ValidationError as error:
        return f"damaged region: {_first_problem(error)}"
    except ValueError as error:
        return f"damaged region: {error}"


def _add(region: _Region, size_hw_px: SizeHW, region_ids: Collection[str], stored: StoredMasks) -> str:
    """Decode and keep one brush mask.

    Raises:
        ValueError: its run lengths or strokes are damaged.
    """
    labels = _labels(region.value)
    if not labels:
        return "mask without a label"
    if region.value.get("format", "rle") != "rle":
        return f"mask in the format {region.value['format']!r} (only rle is known)"
    drawn = _drawn(region.value, size_hw_px)
    known_size = stored.sizes_hw_px.setdefault(region.item_index, size_hw_px)
    if known_size != size_hw_px:
        return f"mask of {_shown(size_hw_px)} on a frame whose first mask is {_shown(known_size)}"
    if not drawn.any():
        return EMPTY
    masks_made = {region_id(label, region.item_index) for label in labels}
    is_own = region.origin == "manual" and region.id not in masks_made
    if is_own and not masks_made.isdisjoint(region_ids) and is_thin(drawn, None):
        return SCRIBBLE
    mask = RunLengthMask.encode(drawn)
    for label in labels:
        by_frame = stored.masks.setdefault(label, {})
        earlier = by_frame.get(region.item_index)
        by_frame[region.item_index] = _united(earlier, mask) if earlier else mask
    return ""


def _drawn(value: Mapping[str, Any], size_hw_px: SizeHW) -> BoolMask:
    """The pixels of a brush region (H, W), strokes included.

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


def _united(first: RunLengthMask, second: RunLengthMask) -> RunLengthMask:
    return RunLengthMask.encode(first.decode() | second.decode())


def _shown(size_hw_px: SizeHW) -> str:
    return f"{size_hw_px[1]}x{size_hw_px[0]} px"


def _first_problem(error: ValidationError) -> str:
    issue = error.errors()[0]
    return f"{'.'.join(str(part) for part in issue['loc']) or 'region'}: {issue['msg']}"
