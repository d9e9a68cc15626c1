"""The requests Label Studio sends, checked. Only the fields used here are named; the rest is left alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    ValidationError,
    model_validator,
)

from ls_backend.errors import RequestError

Json: TypeAlias = dict[str, Any]
MAX_ERRORS_SHOWN = 3
PCT = 100.0
"""Label Studio gives positions and sizes in percent of the image."""


def none_to_empty(value: object) -> object:
    """Label Studio writes null where a list has nothing in it."""
    return [] if value is None else value


def none_to_text(value: object) -> object:
    """A text that is null is an empty one."""
    return "" if value is None else value


def none_to_object(value: object) -> object:
    """An object that is null, or empty in another way, is one with nothing in it."""
    return value or {}


Results: TypeAlias = Annotated[list[Json], BeforeValidator(none_to_empty)]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False)


class SavedResult(_Payload):
    """A draft or an annotation as it hangs on a task: the regions saved so far."""

    result: Results = []


class TaskPayload(_Payload):
    """One task of a /predict request."""

    id: str
    data: Json
    drafts: Annotated[list[SavedResult], BeforeValidator(none_to_empty)] = []
    annotations: Annotated[list[SavedResult], BeforeValidator(none_to_empty)] = []


class Context(_Payload):
    """What the annotator just did: all prompts of one type and one label, on all frames."""

    result: Results = []


class Params(_Payload):
    """The ``params`` of /predict. Label Studio's stored login is not used; frames are fetched with a token."""

    context: Context | None = None


class PredictRequest(_Payload):
    """The body of POST /predict. ``context`` is None for batch predictions."""

    tasks: Annotated[list[TaskPayload], BeforeValidator(none_to_empty)] = []
    project: Annotated[str, BeforeValidator(none_to_text)] = ""
    label_config: Annotated[str, BeforeValidator(none_to_text)] = Field(
        "", description="The project's labelling config, XML."
    )
    params: Annotated[Params, BeforeValidator(none_to_object)] = Params()


class SetupRequest(_Payload):
    """The body of POST /setup."""

    project: str = ""
    label_config: str = Field("", alias="schema")
    hostname: str = ""
    access_token: str = ""


class SuggestionsRequest(_Payload):
    """The query of GET /suggestions."""

    project: str = Field(min_length=1)
    task: str = Field(min_length=1)
    count: int = Field(3, ge=1, le=20, description="How many places to look at.")


class PointOrBoxValue(_Payload):
    """Where a prompt region lies, in percent of the image (``rotation`` in degrees, clockwise, about x, y)."""

    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    rotation: float = 0.0
    keypointlabels: list[str] = []
    rectanglelabels: list[str] = []


class HandMaskRuns(_Payload):
    """A hand-made mask as uncompressed run lengths, column by column: how many pixels are not set, then set, and so on.

    ``version`` names the brush regions it was made from, ``replaces`` the prompts that came before it. The latter is
    stored as ``settles``.
    """

    height_px: int = Field(gt=0)
    width_px: int = Field(gt=0)
    counts: list[Annotated[int, Field(ge=0)]]
    version: str = ""
    replaces: list[str] = Field(
        default=[], validation_alias=AliasChoices("settles", "replaces"), serialization_alias="settles"
    )

    @model_validator(mode="after")
    def _fills_the_frame(self) -> HandMaskRuns:
        if sum(self.counts) != self.height_px * self.width_px:
            raise ValueError(f"the run lengths have {sum(self.counts)} pixels, not {self.width_px}x{self.height_px}")
        return self


class PromptMeta(_Payload):
    """What this backend wrote into a region: the sign of an echoed prompt, or the mask that was painted in it."""

    pos: bool | None = None
    mask: HandMaskRuns | None = None


class RegionMeta(_Payload):
    """The ``meta`` of a region."""

    prompt: PromptMeta = PromptMeta()


class PromptRegion(_Payload):
    """A smart click or box. ``item_index`` is the 0-based frame."""

    id: str
    from_name: str
    type: str
    value: PointOrBoxValue
    item_index: int = Field(0, ge=0)
    image_rotation: float = 0.0
    is_positive: bool | None = None
    meta: Annotated[RegionMeta, BeforeValidator(lambda value: {} if value is None else value)] = RegionMeta()


class Touch(_Payload):
    """One stroke of Label Studio's brush or eraser.

    ``points`` are x, y, x, y, ... in percent of the image, in drawing order; ``width_pct`` is in percent of its width.
    """

    id: str = ""
    type: Literal["add", "eraser"] = "add"
    points: list[float] = Field(alias="relativePoints", min_length=2)
    width_pct: float = Field(alias="relativeStrokeWidth", gt=0)


class BrushValue(_Payload):
    """What a brush region holds: run lengths, strokes drawn on top of them since, or both."""

    rle: Annotated[list[Any], SkipValidation, BeforeValidator(none_to_empty)] = []
    touches: Annotated[list[Touch], BeforeValidator(none_to_empty)] = []
    brushlabels: list[str] = []


class BrushRegion(_Payload):
    """A brush region of a draft or an annotation. ``item_index`` is the 0-based frame."""

    id: str
    value: BrushValue
    original_width: int = Field(gt=0)
    original_height: int = Field(gt=0)
    item_index: Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)] = Field(0, ge=0)
    image_rotation: float = 0.0
    origin: str = "manual"
    meta: Annotated[RegionMeta, BeforeValidator(lambda value: {} if value is None else value)] = RegionMeta()


class ScribbleNote(_Payload):
    """A scribble as this backend stores it.

    ``path`` is x, y, x, y, ... in percent of the image, ``width_pct`` in percent of its width. ``brush_region`` is the
    id of the region that it was read from, stored as ``stands_in``.
    """

    label: str
    brush_region: str = Field(
        validation_alias=AliasChoices("stands_in", "brush_region"), serialization_alias="stands_in"
    )
    path: list[float] = Field(min_length=2)
    width_pct: float = Field(gt=0)
    positive: bool


class HandMaskNote(_Payload):
    """A hand-made mask as this backend stores it. ``painted`` are the annotator's own regions that it was read from."""

    label: str
    mask: HandMaskRuns
    painted: list[str] = []


ModelT = TypeVar("ModelT", bound=BaseModel)


def parse(model: type[ModelT], body: object, what: str) -> ModelT:
    """Check a decoded JSON value.

    Raises:
        RequestError: it does not fit; the message names the first fields that do not.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in issue['loc']) or 'body'}: {issue['msg']}" for issue in error.errors()
        ]
        shown = "; ".join(problems[:MAX_ERRORS_SHOWN])
        raise RequestError(f"{what} does not have the expected form: {shown}") from error
