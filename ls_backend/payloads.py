"""The requests Label Studio sends, checked. Only the fields used here are named; the rest is left alone."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ls_backend.errors import RequestError

Json: TypeAlias = dict[str, Any]
MAX_ERRORS_SHOWN = 3


def none_to_empty(value: object) -> object:
    """Label Studio writes null where a list has nothing in it."""
    return [] if value is None else value


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

    tasks: list[TaskPayload]
    project: str = ""
    label_config: str = Field("", description="The project's labelling config, XML.")
    params: Annotated[Params, BeforeValidator(lambda value: {} if value is None else value)] = Params()


class SetupRequest(_Payload):
    """The body of POST /setup."""

    project: str = ""
    label_config: str = Field("", alias="schema")
    hostname: str = ""
    access_token: str = ""


class PointOrBoxValue(_Payload):
    """Where a prompt region lies, in percent of the image (``rotation`` in degrees, clockwise, about x, y)."""

    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    rotation: float = 0.0
    keypointlabels: list[str] = []
    rectanglelabels: list[str] = []


class PromptMeta(_Payload):
    """What this backend wrote into an echoed prompt."""

    pos: bool | None = None


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
        raise RequestError(f"{what} does not have the form Label Studio sends: {shown}") from error
