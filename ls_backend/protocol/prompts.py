"""Label Studio's smart clicks and boxes → the pipeline's prompts, and back again as echoes.

Label Studio deletes a prompt after each round unless the answer contains it (an echo). A request holds all prompts of
one type and one label. So each region is kept as it came, and read once. Scribbles and hand-made masks, which
`ls_backend.protocol.strokes` finds in drafts and annotations, are prompts of the same type. They are stored as notes of
this backend, which Label Studio never sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from ls_backend.errors import PromptError, RequestError
from ls_backend.protocol.label_config import NEGATIVE_CONTROL, LabelConfig
from ls_backend.protocol.payloads import PCT, HandMaskNote, HandMaskRuns, Json, PromptRegion, ScribbleNote, parse
from ls_backend.protocol.regions import CERTAIN
from pipeline.types import BoolMask, BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

PromptKind: TypeAlias = Literal["point", "box", "scribble", "mask"]
SENT_KINDS: tuple[PromptKind, ...] = ("point", "box")
"""Kinds that come with requests and have to be echoed. The others are found in drafts and annotations only."""
HAND_KINDS: tuple[PromptKind, ...] = ("scribble", "mask")
KIND_OF_TYPE: dict[str, PromptKind] = {"keypointlabels": "point", "rectanglelabels": "box"}
SCRIBBLE_NOTE, MASK_NOTE = "ivos-scribble", "ivos-mask"


@dataclass(frozen=True)
class LabelPrompt:
    """One prompt in the form that sessions keep and store. Coordinates are percent of the image.

    Attributes:
        region_id: the id of its region. Several scribbles and masks may share a region: their ids are made of its id.
        kind: point, box, scribble or mask.
        label: the object's label.
        frame_index: the 0-based frame.
        positive: whether it adds to the object or takes away from it.
        content: its coordinates or its mask.
        sent: the region as Label Studio sent it; None for scribbles and masks.
    """

    region_id: str
    kind: PromptKind
    label: str
    frame_index: int
    positive: bool
    content: PromptRegion | ScribbleNote | HandMaskNote
    sent: Json | None = None

    @property
    def is_echoed(self) -> bool:
        """Whether the region carries this backend's mark: the answer that echoed it reached the annotator's editor."""
        return isinstance(self.content, PromptRegion) and self.content.meta.prompt.pos is not None

    @property
    def hand_mask(self) -> HandMaskRuns | None:
        """The mask of a prompt of the kind ``mask``."""
        return self.content.mask if isinstance(self.content, HandMaskNote) else None

    @property
    def painted_ids(self) -> tuple[str, ...]:
        """Ids of the annotator's own regions that a hand-made mask was painted in; empty for other prompts."""
        return tuple(self.content.painted) if isinstance(self.content, HandMaskNote) else ()

    @property
    def brush_region(self) -> str:
        """The id of the brush region that a scribble was read from; empty for other prompts."""
        return self.content.brush_region if isinstance(self.content, ScribbleNote) else ""

    @cached_property
    def stored_form(self) -> Json:
        """The JSON that `read_prompt` reads: the region as it was sent, or this backend's note of what was drawn."""
        if self.sent is not None:
            return self.sent
        note_type = SCRIBBLE_NOTE if self.kind == "scribble" else MASK_NOTE
        value = self.content.model_dump(by_alias=True)
        return {"id": self.region_id, "type": note_type, "item_index": self.frame_index, "value": value}

    def echo(self) -> Json:
        """The region as it came, with a score, and its sign in ``meta``: ``is_positive`` is lost on the way back.

        Raises:
            ValueError: the prompt was not sent by Label Studio.
        """
        if self.sent is None:
            raise ValueError(f"the {self.kind} {self.region_id!r} was drawn, not sent: there is no region to echo")
        meta = dict(self.sent.get("meta") or {})
        meta["prompt"] = {"pos": self.positive}
        return {**self.sent, "score": CERTAIN, "meta": meta}


def in_order(prompts: Sequence[LabelPrompt]) -> tuple[LabelPrompt, ...]:
    """Prompts of one label as the pipeline needs them: a mask after the prompts it replaces, before all others."""
    replaced = {earlier for prompt in prompts if prompt.hand_mask for earlier in prompt.hand_mask.replaces}
    rank = [0 if prompt.region_id in replaced else 1 if prompt.hand_mask else 2 for prompt in prompts]
    return tuple(prompts[position] for position in sorted(range(len(prompts)), key=lambda i: (rank[i], i)))


def is_prompt(raw: Json, config: LabelConfig) -> bool:
    """Whether a region comes from one of the project's smart point or box controls, or is a stored note.

    Masks of "keep label selected" arrive as ``keypointlabels`` with an ``rle`` in their value: those are no prompts.
    """
    controls = {"keypointlabels": config.point_controls, "rectanglelabels": config.box_controls}
    if raw.get("type") in (SCRIBBLE_NOTE, MASK_NOTE):
        return True
    value = raw.get("value")
    return raw.get("from_name") in controls.get(str(raw.get("type")), ()) and isinstance(value, dict) and "x" in value


def read_prompt(raw: Json, config: LabelConfig) -> LabelPrompt:
    """Read one prompt region.

    Raises:
        PromptError: it has no label, an unknown one, or lies on a rotated image.
        RequestError: fields are missing or have the wrong type.
    """
    if raw.get("type") in (SCRIBBLE_NOTE, MASK_NOTE):
        return _read_note(raw)
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


def _read_note(raw: Json) -> LabelPrompt:
    key, frame_index = str(raw.get("id")), int(raw.get("item_index", 0))
    if raw["type"] == SCRIBBLE_NOTE:
        scribble = parse(ScribbleNote, raw.get("value"), f"the scribble {key!r}")
        positive = scribble.positive
        return LabelPrompt(key, "scribble", scribble.label, frame_index, positive, scribble)
    note = parse(HandMaskNote, raw.get("value"), f"the mask {key!r}")
    return LabelPrompt(key, "mask", note.label, frame_index, True, note)


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
    """Read all prompt regions among ``regions``. Of two with the same id the last one counts."""
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
    if isinstance(prompt.content, ScribbleNote):
        return _to_scribble(prompt, prompt.content, object_id, size_hw_px)
    if isinstance(prompt.content, HandMaskNote):
        return _to_mask(prompt, prompt.content.mask, object_id, size_hw_px)
    to_kind = _to_point if prompt.kind == "point" else _to_box
    return to_kind(prompt, prompt.content, object_id, size_hw_px)


def _to_scribble(
    prompt: LabelPrompt, note: ScribbleNote, object_id: int, size_hw_px: tuple[int, int]
) -> ScribblePrompt:
    height_px, width_px = size_hw_px
    path_px = np.array(note.path[: len(note.path) // 2 * 2]).reshape(-1, 2) / PCT * (width_px, height_px)
    # A stroke may begin beside the image.
    inside = np.clip(path_px, 0.0, (width_px - 1.0, height_px - 1.0))
    path = tuple((float(x), float(y)) for x, y in inside)
    return ScribblePrompt(object_id, prompt.frame_index, path, note.width_pct / PCT * width_px, prompt.positive)


def _to_mask(prompt: LabelPrompt, mask: HandMaskRuns, object_id: int, size_hw_px: tuple[int, int]) -> MaskPrompt:
    if (mask.height_px, mask.width_px) != size_hw_px:
        raise PromptError(
            f"the mask {prompt.region_id!r} painted on frame {prompt.frame_index} is {mask.width_px}x{mask.height_px} "
            f"px, but the video is {size_hw_px[1]}x{size_hw_px[0]} px"
        )
    return MaskPrompt(object_id, prompt.frame_index, from_runs(mask))


def to_runs(mask: BoolMask, *, version: str, replaces: list[str]) -> HandMaskRuns:
    """A hand-made mask (H, W) in the form that is stored."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])
    counts = np.diff(starts).tolist()
    return HandMaskRuns(
        height_px=mask.shape[0], width_px=mask.shape[1], counts=counts, version=version, replaces=replaces
    )


def from_runs(mask: HandMaskRuns) -> RunLengthMask:
    """A hand-made mask in the form the pipeline takes."""
    values = np.repeat(np.arange(len(mask.counts)) % 2 == 1, mask.counts)
    return RunLengthMask.encode(values.reshape((mask.height_px, mask.width_px), order="F"))


def _to_point(prompt: LabelPrompt, region: PromptRegion, object_id: int, size_hw_px: tuple[int, int]) -> PointPrompt:
    value, (height_px, width_px) = region.value, size_hw_px
    if not (0 <= value.x <= PCT and 0 <= value.y <= PCT):
        raise _outside(prompt, f"x {value.x:g} %, y {value.y:g} %")
    # The right and bottom edge (100 %) still mean the last pixel.
    x_px = min(value.x / PCT * width_px, width_px - 1.0)
    y_px = min(value.y / PCT * height_px, height_px - 1.0)
    return PointPrompt(object_id, prompt.frame_index, x_px, y_px, prompt.positive)


def _to_box(prompt: LabelPrompt, region: PromptRegion, object_id: int, size_hw_px: tuple[int, int]) -> BoxPrompt:
    value, (height_px, width_px) = region.value, size_hw_px
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
