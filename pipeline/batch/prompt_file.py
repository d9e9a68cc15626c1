"""The JSON file with the prompts of a clip: its schema, and the conversion to pipeline prompts.

All coordinates are pixels of the original frame, with the origin at its top left corner. `json_schema` returns the full
schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from pipeline.export.davis import MAX_OBJECT_ID
from pipeline.prompting import check_prompts
from pipeline.types import BoolMask, BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

_KINDS = {"point_xy_px": "point", "box_xyxy_px": "box", "scribble_xy_px": "scribble", "mask_png": "mask"}
_SHOWN_CHARACTERS = 60

Pixels: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class PromptFileError(Exception):
    """A prompts file is invalid. The message names the file and the place, what was expected and what arrived."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _OnFrame(_Strict):
    frame_index: int = Field(ge=0, description="0-based index of the frame.")


class FilePoint(_OnFrame):
    """One click."""

    point_xy_px: tuple[Pixels, Pixels] = Field(description="x and y.")
    positive: bool = Field(default=True, description="true: on the object; false: not on the object.")


class FileBox(_OnFrame):
    """A box around the object."""

    box_xyxy_px: tuple[Pixels, Pixels, Pixels, Pixels] = Field(
        description="Left, top, right and bottom edge; left < right and top < bottom."
    )


class FileScribble(_OnFrame):
    """One stroke of a brush."""

    scribble_xy_px: tuple[tuple[Pixels, Pixels], ...] = Field(
        min_length=1, description="x and y along the stroke, in drawing order."
    )
    width_px: float = Field(default=10.0, gt=0, allow_inf_nan=False, description="Width of the stroke.")
    positive: bool = Field(default=True, description="true: over the object; false: over what is not the object.")


class FileMask(_OnFrame):
    """The object's mask on this frame."""

    mask_png: str = Field(
        min_length=1,
        description="A palette, grey or black-and-white PNG of the frame's size, relative to this file. The object is "
        "where the value is its object_id; where no pixel has it, the only non-zero value that is no other object's "
        "id. All zero: the object is not visible.",
    )


def _kind(value: Any) -> str | None:
    """The kind of a prompt, from the key it has; None if it has no such key or several."""
    models: dict[type, str] = {FilePoint: "point", FileBox: "box", FileScribble: "scribble", FileMask: "mask"}
    if type(value) in models:
        return models[type(value)]
    kinds = [kind for key, kind in _KINDS.items() if isinstance(value, dict) and key in value]
    return kinds[0] if len(kinds) == 1 else None


FilePrompt: TypeAlias = Annotated[
    Annotated[FilePoint, Tag("point")]
    | Annotated[FileBox, Tag("box")]
    | Annotated[FileScribble, Tag("scribble")]
    | Annotated[FileMask, Tag("mask")],
    Discriminator(
        _kind,
        custom_error_type="prompt_kind",
        custom_error_message=f"expected an object with frame_index and exactly one of {', '.join(_KINDS)}",
    ),
]


class FileObject(_Strict):
    """One object and its prompts, on one frame or on several."""

    object_id: int = Field(ge=1, le=MAX_OBJECT_ID, description="The object's value in the masks that are written.")
    name: str = Field(default="", description="Shown in the summary.")
    prompts: tuple[FilePrompt, ...] = Field(min_length=1)


class PromptFile(_Strict):
    """Prompts of one clip, version 1."""

    version: Literal[1]
    objects: tuple[FileObject, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_object_once(self) -> PromptFile:
        seen: set[int] = set()
        for place, entry in enumerate(self.objects):
            if entry.object_id in seen:
                raise ValueError(f"objects[{place}]: object_id {entry.object_id} is taken; expected every id once")
            seen.add(entry.object_id)
        return self


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return PromptFile.model_json_schema()


def read_prompt_file(path: Path) -> PromptFile:
    """Read a prompts file, and check it as far as possible without the clip.

    Raises:
        PromptFileError: it cannot be read or is invalid; the message names the first fault.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PromptFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return PromptFile.model_validate_json(data)
    except ValidationError as error:
        every = error.errors(include_url=False)
        # A list with invalid entries is also reported as too short.
        faults = [fault for fault in every if fault["type"] != "too_short"] or every[:1]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise PromptFileError(f"{path}: {_fault_text(faults[0])}{more}") from error


def pipeline_prompts(file: PromptFile, path: Path, *, n_frames: int, size_hw_px: tuple[int, int]) -> tuple[Prompt, ...]:
    """The prompts of a file for a clip of ``n_frames`` frames of ``size_hw_px``; masks are read.

    Args:
        file: from `read_prompt_file`.
        path: of the file; paths of masks are relative to its folder.
        n_frames: length of the clip.
        size_hw_px: height and width of its frames.

    Raises:
        PromptFileError: a prompt is outside the clip or the image, a mask is invalid, a frame has two masks of one
            object, or no prompt shows where an object is.
    """
    ids = frozenset(entry.object_id for entry in file.objects)
    prompts: list[Prompt] = []
    for place, entry in enumerate(file.objects):
        where = f"{path}: objects[{place}]"
        found: list[Prompt] = []
        for index, given in enumerate(entry.prompts):
            try:
                prompt = _prompt(entry.object_id, given, path.parent, ids)
                check_prompts([prompt], n_frames, size_hw_px)
                _require_first_mask(prompt, found)
            except ValueError as error:
                raise PromptFileError(f"{where}.prompts[{index}]: {error}") from error
            found.append(prompt)
        if not any(_shows_the_object(prompt) for prompt in found):
            raise PromptFileError(
                f"{where}: nothing says where object {entry.object_id} is; expected a positive point or "
                "scribble, a box or a mask that is not empty"
            )
        prompts += found
    return tuple(prompts)


def _require_first_mask(prompt: Prompt, others: list[Prompt]) -> None:
    """Check that a mask is the first one of its object on its frame.

    Raises:
        ValueError: it is not.
    """
    masked = {other.frame_index for other in others if isinstance(other, MaskPrompt)}
    if isinstance(prompt, MaskPrompt) and prompt.frame_index in masked:
        raise ValueError(f"a second mask on frame {prompt.frame_index}; expected one at most")


def _shows_the_object(prompt: Prompt) -> bool:
    if isinstance(prompt, PointPrompt | ScribblePrompt):
        return prompt.positive
    return isinstance(prompt, BoxPrompt) or prompt.mask.area_px > 0


def _prompt(
    object_id: int, given: FilePoint | FileBox | FileScribble | FileMask, folder: Path, ids: frozenset[int]
) -> Prompt:
    """One entry of the file as a pipeline prompt.

    Raises:
        ValueError: its mask is invalid.
    """
    if isinstance(given, FilePoint):
        return PointPrompt(object_id, given.frame_index, *given.point_xy_px, given.positive)
    if isinstance(given, FileBox):
        return BoxPrompt(object_id, given.frame_index, given.box_xyxy_px)
    if isinstance(given, FileScribble):
        return ScribblePrompt(object_id, given.frame_index, given.scribble_xy_px, given.width_px, given.positive)
    mask = _mask_of(object_id, _read_labels(folder / given.mask_png), ids, folder / given.mask_png)
    return MaskPrompt(object_id, given.frame_index, RunLengthMask.encode(mask))


def _read_labels(path: Path) -> NDArray[np.int64]:
    """A label image, (H, W).

    Raises:
        ValueError: it cannot be read, or has more than one channel.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise ValueError(
                    f"mask_png {path} has the colour mode {image.mode}; expected a palette, grey or black-and-white PNG"
                )
            return np.asarray(image).astype(np.int64)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a readable PNG"
        raise ValueError(f"mask_png {path}: {reason}") from error


def _mask_of(object_id: int, labels: NDArray[np.int64], ids: frozenset[int], path: Path) -> BoolMask:
    """The pixels of an object in a label image, see `FileMask`.

    Raises:
        ValueError: the values are ambiguous.
    """
    values = [int(value) for value in np.unique(labels) if value]
    if object_id in values or not values:
        return np.asarray(labels == object_id)
    if len(values) > 1 or values[0] in ids:
        shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        raise ValueError(
            f"mask_png {path} has the values {shown}; expected {object_id}, the object_id, or one value that is no "
            "other object's"
        )
    return np.asarray(labels != 0)


def _fault_text(fault: Any) -> str:
    """A validation error of pydantic as text: the place, what was expected, what arrived."""
    place = "".join(_place(part) for part in fault["loc"]).lstrip(".")
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    if fault["type"] == "json_invalid":
        return f"not JSON: {fault['ctx']['error']}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    if fault["type"] == "too_short":
        return f"{place}: expected at least one entry"
    if fault["type"] == "missing":
        return f"{place}: missing"
    if not place:
        return message
    arrived = repr(fault["input"])
    short = arrived if len(arrived) <= _SHOWN_CHARACTERS else f"{arrived[:_SHOWN_CHARACTERS]}..."
    return f"{place}: {message}, but got {short}"


def _place(part: int | str) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return "" if part in _KINDS.values() else f".{part}"
