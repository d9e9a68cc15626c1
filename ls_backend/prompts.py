"""Label Studio's smart clicks and boxes → the pipeline's prompts, and back again as echoes.

Label Studio deletes a prompt after each round unless it is echoed, and sends back echoed prompts of one type and one
label. So the regions are kept as they came (``raw``), and what they mean is read from them once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ls_backend.errors import PromptError, RequestError
from ls_backend.label_config import NEGATIVE_CONTROL, LabelConfig
from ls_backend.payloads import Json, PromptRegion, parse
from pipeline.types import BoxPrompt, PointPrompt, Prompt

PromptKind: TypeAlias = Literal["point", "box"]
KIND_OF_TYPE: dict[str, PromptKind] = {"keypointlabels": "point", "rectanglelabels": "box"}
PCT = 100.0


@dataclass(frozen=True)
class LabelPrompt:
    """One prompt region, read. Coordinates are still percent of the image, the form that outlives a session."""

    region_id: str
    kind: PromptKind
    label: str
    frame_index: int
    positive: bool
    region: PromptRegion
    raw: Json

    @property
    def is_echoed(self) -> bool:
        """Whether the region carries this backend's mark: the answer that echoed it reached the annotator's editor."""
        return self.region.meta.prompt.pos is not None

    def echo(self) -> Json:
        """The region as it came, with its sign in ``meta``, since ``is_positive`` is lost on the way back."""
        meta = dict(self.raw.get("meta") or {})
        meta["prompt"] = {"pos": self.positive}
        return {**self.raw, "meta": meta}


def is_prompt(raw: Json, config: LabelConfig) -> bool:
    """Whether a region of a task comes from one of the project's smart point or box controls.

    Masks of "keep label selected" arrive as ``keypointlabels`` with an ``rle`` in their value: those are no prompts.
    """
    controls = {"keypointlabels": config.point_controls, "rectanglelabels": config.box_controls}
    value = raw.get("value")
    return raw.get("from_name") in controls.get(str(raw.get("type")), ()) and isinstance(value, dict) and "x" in value


def read_prompt(raw: Json, config: LabelConfig) -> LabelPrompt:
    """Read one prompt region.

    Raises:
        PromptError: it has no label, an unknown one, or lies on a rotated image.
        RequestError: fields are missing or have the wrong type.
    """
    region = parse(PromptRegion, raw, f"the region {raw.get('id')!r}")
    kind = KIND_OF_TYPE[region.type]
    labels = region.value.keypointlabels if kind == "point" else region.value.rectanglelabels
    where = f"the {kind} {region.id!r} on frame {region.item_index}"
    if len(labels) != 1:
        raise PromptError(f"{where} needs exactly one label, but has {labels}; press a label's hotkey, then click")
    if labels[0] not in config.labels:
        raise PromptError(f"{where} has the label {labels[0]!r}, but the brush control has {list(config.labels)}")
    if region.image_rotation % 360:
        raise PromptError(f"{where} lies on an image rotated by {region.image_rotation:g} degrees; set it back to 0")
    positive = _is_positive(region)
    return LabelPrompt(region.id, kind, labels[0], region.item_index, positive, region, raw)


def _is_positive(region: PromptRegion) -> bool:
    if region.meta.prompt.pos is not None:
        return region.meta.prompt.pos
    return region.from_name != NEGATIVE_CONTROL and region.is_positive is not False


@dataclass(frozen=True)
class ReadPrompts:
    """The prompts that can be used, and one sentence for each that cannot."""

    prompts: tuple[LabelPrompt, ...]
    problems: tuple[str, ...]


def read_prompts(regions: Iterable[Json], config: LabelConfig) -> ReadPrompts:
    """Read all prompt regions among ``regions``; where an id stands twice, the last one counts."""
    prompts: dict[str, LabelPrompt] = {}
    problems: list[str] = []
    for raw in regions:
        if not is_prompt(raw, config):
            continue
        try:
            prompt = read_prompt(raw, config)
        except RequestError as error:
            problems.append(str(error))
        else:
            prompts[prompt.region_id] = prompt
    return ReadPrompts(tuple(prompts.values()), tuple(problems))


def to_pipeline(prompt: LabelPrompt, object_id: int, size_hw_px: tuple[int, int], n_frames: int) -> Prompt:
    """Percent → pixels of the original frame.

    Raises:
        PromptError: the prompt lies outside the video or outside the image.
    """
    if prompt.frame_index >= n_frames:
        raise PromptError(
            f"the {prompt.kind} {prompt.region_id!r} is on frame {prompt.frame_index}, but the task has "
            f"{n_frames} frames (0 to {n_frames - 1})"
        )
    height_px, width_px = size_hw_px
    if prompt.kind == "point":
        return _to_point(prompt, object_id, height_px, width_px)
    return _to_box(prompt, object_id, height_px, width_px)


def _to_point(prompt: LabelPrompt, object_id: int, height_px: int, width_px: int) -> PointPrompt:
    value = prompt.region.value
    if not (0 <= value.x <= PCT and 0 <= value.y <= PCT):
        raise _outside(prompt, f"x {value.x:g} %, y {value.y:g} %")
    # The right and bottom edge (100 %) still mean the last pixel.
    x_px = min(value.x / PCT * width_px, width_px - 1.0)
    y_px = min(value.y / PCT * height_px, height_px - 1.0)
    return PointPrompt(object_id, prompt.frame_index, x_px, y_px, prompt.positive)


def _to_box(prompt: LabelPrompt, object_id: int, height_px: int, width_px: int) -> BoxPrompt:
    value = prompt.region.value
    scale_px = np.array([width_px, height_px]) / PCT
    origin_px = np.array([value.x, value.y]) * scale_px
    sides_px = np.array([value.width, value.height]) * scale_px
    angle = np.deg2rad(value.rotation)
    # Label Studio turns a rectangle about its top left corner; the upright box around the turned one is the prompt.
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners_px = origin_px + (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides_px) @ axes
    upper_px = np.array([width_px, height_px], dtype=float)
    low_px = np.clip(corners_px.min(axis=0), 0, upper_px)
    high_px = np.clip(corners_px.max(axis=0), 0, upper_px)
    if np.any(high_px - low_px < 1):
        raise _outside(prompt, f"x {value.x:g} %, y {value.y:g} %, {value.width:g} % x {value.height:g} %")
    x0, y0, x1, y1 = (float(edge) for edge in (*low_px, *high_px))
    return BoxPrompt(object_id, prompt.frame_index, (x0, y0, x1, y1))


def _outside(prompt: LabelPrompt, where: str) -> PromptError:
    return PromptError(
        f"the {prompt.kind} {prompt.region_id!r} on frame {prompt.frame_index} ({where}) lies outside the image or has "
        "no area; expected 0 to 100 % and at least one pixel. Delete it and prompt again"
    )
