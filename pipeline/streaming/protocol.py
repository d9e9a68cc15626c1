"""The JSON lines of `ivos segment --online`: events on standard output, and answers on its input.

Every line is one JSON object in UTF-8. Frame indices count the frames of the source from 0. Coordinates are pixels of
the frame, with the origin at its top left corner. `protocol_schema` returns the schema of both directions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from pipeline.export.davis import MAX_OBJECT_ID
from pipeline.types import BoxPrompt, FrameResult, PointPrompt, Prompt

_SHOWN_CHARACTERS = 60

Pixels: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
ObjectId: TypeAlias = Annotated[int, Field(ge=1, le=MAX_OBJECT_ID)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ObjectOnFrame(_Strict):
    """Numbers of one object's mask on one frame."""

    object_id: ObjectId
    area_px: int = Field(description="0: not visible.")
    score: float = Field(description="Confidence in [0, 1].")
    uncertainty: float | None = Field(description="Entropy within the dilated mask, in [0, 1]; null: not known.")

    @classmethod
    def of(cls, result: FrameResult) -> ObjectOnFrame:
        """The numbers of one mask."""
        uncertainty = None if result.uncertainty is None else round(float(result.uncertainty), 4)
        return cls(
            object_id=result.object_id,
            area_px=result.mask.area_px,
            score=round(float(result.score), 4),
            uncertainty=uncertainty,
        )


class StartEvent(_Strict):
    """The first line."""

    event: Literal["start"] = "start"
    version: Literal[1] = 1
    source: str
    live: bool = Field(description="Whether frames arrive at their own pace, however slowly they are read.")
    drop_late: bool = Field(description="Whether newer frames replace those that wait.")
    method: str
    answers: str | None = Field(description="Where answers are read from; null: nowhere.")
    answer_timeout_s: float


class FrameEvent(_Strict):
    """A frame was segmented, or is missing."""

    event: Literal["frame"] = "frame"
    frame_index: int
    dropped: int = Field(description="Frames of the source that were skipped since the last event of this kind.")
    missing: str | None = Field(description="Why the frame could not be read; null: it could.")
    mask_png: str | None = Field(description="Relative to the output folder; null: there is no object yet.")
    objects: list[ObjectOnFrame]


class RequestEvent(_Strict):
    """The method requests a click on one object on the newest frame."""

    event: Literal["request"] = "request"
    frame_index: int
    object_id: ObjectId
    x_px: float = Field(description="Where to look: the most uncertain place of the object.")
    y_px: float
    uncertainty: float = Field(description="In [0, 1].")
    change: float = Field(description="Its rise against the frame before, in [-1, 1].")
    image: str | None = Field(description="The frame as a JPEG, relative to the output folder; null: not written.")


class AnswerTakenEvent(_Strict):
    """An answer was applied; the frame's masks were written again."""

    event: Literal["answer_taken"] = "answer_taken"
    frame_index: int
    object_id: ObjectId
    kind: Literal["point", "box", "skip"]
    objects: list[ObjectOnFrame] = Field(description="All objects of the frame after that.")


class AnswerRefusedEvent(_Strict):
    """An answer was refused: it changes nothing, and the run continues."""

    event: Literal["answer_refused"] = "answer_refused"
    line: str = Field(description="The answer, shortened.")
    reason: str
    newest_frame_index: int | None


class EndEvent(_Strict):
    """The last line, also after an interruption or a failure of the source."""

    event: Literal["end"] = "end"
    ended: Literal["source_ended", "source_failed", "interrupted"]
    reason: str | None = Field(description="What failed; null: nothing.")
    complete: bool = Field(description="As in summary.json.")
    frames: int = Field(description="Frames of the source, dropped and missing ones included.")
    dropped: int
    missing: int
    requests: int
    answers_taken: int
    answers_refused: int


Event: TypeAlias = StartEvent | FrameEvent | RequestEvent | AnswerTakenEvent | AnswerRefusedEvent | EndEvent


class _Answer(_Strict):
    object_id: ObjectId = Field(description="A known object, or a new one, which starts on this frame.")
    frame_index: int = Field(
        ge=0, description="The newest frame, or a later one; then the answer is kept until that frame arrives."
    )


class PointAnswer(_Answer):
    """A click."""

    x_px: Pixels
    y_px: Pixels
    positive: bool = Field(default=True, description="true: on the object; false: not on the object.")


class BoxAnswer(_Answer):
    """A box around the object."""

    box_xyxy_px: tuple[Pixels, Pixels, Pixels, Pixels] = Field(
        description="Left, top, right and bottom edge; left < right and top < bottom."
    )


class SkipAnswer(_Answer):
    """No correction; the run stops waiting for one."""

    skip: Literal[True]


_KINDS = {"x_px": "point", "y_px": "point", "box_xyxy_px": "box", "skip": "skip"}


def _kind(value: Any) -> str | None:
    """The kind of an answer, from the keys it has; None if they fit no kind or several."""
    models: dict[type, str] = {PointAnswer: "point", BoxAnswer: "box", SkipAnswer: "skip"}
    if type(value) in models:
        return models[type(value)]
    kinds = {kind for key, kind in _KINDS.items() if isinstance(value, dict) and key in value}
    return kinds.pop() if len(kinds) == 1 else None


Answer: TypeAlias = PointAnswer | BoxAnswer | SkipAnswer
_ANSWER: TypeAdapter[Answer] = TypeAdapter(
    Annotated[
        Annotated[PointAnswer, Tag("point")] | Annotated[BoxAnswer, Tag("box")] | Annotated[SkipAnswer, Tag("skip")],
        Discriminator(
            _kind,
            custom_error_type="answer_kind",
            custom_error_message="expected an object with object_id, frame_index and either x_px and y_px, "
            "or box_xyxy_px, or skip",
        ),
    ]
)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def protocol_schema() -> dict[str, Any]:
    """The JSON schemas of an ``event`` and an ``answer``."""
    return {"event": _EVENT.json_schema(), "answer": _ANSWER.json_schema()}


def read_answer(line: bytes) -> Answer:
    """Parse one line as an answer.

    Raises:
        ValueError: the line is invalid; the message names the first fault, what was expected and what arrived.
    """
    try:
        return _ANSWER.validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        raise ValueError(f"not JSON: {fault['ctx']['error']}")
    # The first part is the kind of answer, which is not part of the line.
    place = ".".join(str(part) for part in fault["loc"][1:])
    if fault["type"] == "missing":
        raise ValueError(f"{place}: missing")
    if fault["type"] == "extra_forbidden":
        raise ValueError(f"{place}: unknown key")
    message = str(fault["msg"]).replace("Input should be", "expected")
    raise ValueError(f"{place}: {message}, but got {shortened(repr(fault['input']))}" if place else message)


def prompt_of(answer: Answer) -> Prompt | None:
    """The answer as a prompt; None for one that corrects nothing."""
    if isinstance(answer, PointAnswer):
        return PointPrompt(answer.object_id, answer.frame_index, answer.x_px, answer.y_px, answer.positive)
    if isinstance(answer, BoxAnswer):
        return BoxPrompt(answer.object_id, answer.frame_index, answer.box_xyxy_px)
    return None


def kind_of(answer: Answer) -> Literal["point", "box", "skip"]:
    """The name of the answer's kind."""
    if isinstance(answer, PointAnswer):
        return "point"
    return "box" if isinstance(answer, BoxAnswer) else "skip"


def shortened(text: str) -> str:
    """The beginning of a text, with dots if it is longer."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
