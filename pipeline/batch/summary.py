"""``summary.json`` of a segmentation run, batch or online: its inputs, its results, and how far it got."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable
from math import isnan, nan
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_zoo.files import write_atomically
from pipeline.methods.choice import MethodChoice, option_words
from pipeline.types import Prompt

SUMMARY_NAME = "summary.json"
LOWEST_SCORES = 5
SCORE_DIGITS = 4


class RunFolderError(Exception):
    """The output folder cannot be used. The message says what was expected, what arrived and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VideoSummary(_Strict):
    """The clip. ``sha256`` is the hash of its contents, so a moved or renamed clip is still the same."""

    path: str
    sha256: str
    frames: int
    height_px: int
    width_px: int


class PromptsSummary(_Strict):
    """The prompts. ``sha256`` is the hash of the prompts including masks, not of the file's names and layout."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path | None, prompts: Iterable[Prompt]) -> PromptsSummary:
        """The prompts that a file holds; their order in it does not count. Without a file, the path is empty."""
        ordered = sorted(prompts, key=lambda prompt: (prompt.object_id, prompt.frame_index))
        sha256 = hashlib.sha256(repr(ordered).encode()).hexdigest()
        return cls(path="" if path is None else path_text(path), sha256=sha256)


class FrameScore(_Strict):
    """The confidence in one mask, in [0, 1]."""

    frame_index: int
    score: float


class FailedFrame(_Strict):
    """A frame that could not be read; it has no mask."""

    frame_index: int
    reason: str


class NextFrame(_Strict):
    """A frame that is worth correcting, see `pipeline.session.next_frame.Suggestion`."""

    frame_index: int
    object_id: int
    x_px: float
    y_px: float
    positive: bool
    gain: float
    score: float


class ObjectSummary(_Strict):
    """The results of one object.

    ``scores`` has one entry per frame, null where there is no mask yet. ``lowest_scores`` are the masks that most
    need a check; prompted ones are left out.
    """

    object_id: int
    name: str
    prompted_frames: list[int]
    frames_with_mask: int = Field(description="Masks that are not empty.")
    mean_score: float | None
    lowest_scores: list[FrameScore]
    scores: list[float | None]


class RunInputs(_Strict):
    """The inputs of a run. Two runs whose inputs differ only in paths and device are the same run."""

    video: VideoSummary
    prompts: PromptsSummary
    method: str
    segmenter: str
    point_tracker: str = "lucas_kanade"
    box_tracker: str
    checkpoint: str | None = Field(default=None, description="Name of the weights file.")
    options: list[str] = Field(default_factory=list, description="The method's own settings that were given.")
    device: str

    @classmethod
    def of(cls, video: VideoSummary, prompts: PromptsSummary, choice: MethodChoice, device: str) -> RunInputs:
        """The inputs of a run with a method and its parts."""
        return cls(
            video=video,
            prompts=prompts,
            method=choice.method,
            segmenter=choice.segmenter,
            point_tracker=choice.point_tracker,
            box_tracker=choice.box_tracker,
            checkpoint=None if choice.checkpoint is None else choice.checkpoint.name,
            options=option_words(choice.options),
            device=device,
        )

    def difference(self, other: RunInputs) -> str | None:
        """How the inputs of another run differ from these, in words; None if they do not."""
        if self.video.sha256 != other.video.sha256:
            return f"of another clip ({other.video.path}, {other.video.frames} frames)"
        if self.prompts.sha256 != other.prompts.sha256:
            return f"with other prompts ({other.prompts.path})"
        for name in ("method", "segmenter", "point_tracker", "box_tracker", "checkpoint", "options"):
            if getattr(self, name) != getattr(other, name):
                return f"with the {name.replace('_', ' ')} {getattr(other, name)}"
        return None


class OnlineSummary(_Strict):
    """Numbers that only online runs have."""

    ended: Literal["running", "source_ended", "source_failed", "interrupted"] = Field(
        description="Why there are no more frames; running: the run was killed, or continues."
    )
    dropped: list[tuple[int, int]] = Field(description="Frames of the source that were skipped.")
    requests: int = Field(description="How often the method requested help.")
    answers_taken: int
    answers_refused: int


class Summary(RunInputs):
    """``summary.json``, version 1. Ranges of frames are ``[first, last]``, both inclusive."""

    version: Literal[1] = 1
    complete: bool = Field(description="Every object has a mask on every frame that can be read.")
    frames_done: list[tuple[int, int]] = Field(description="Frames on which every object has a mask.")
    failed_frames: list[FailedFrame]
    seconds: float = Field(description="Of all runs that wrote to the folder, reading the video included.")
    seconds_per_frame: float | None = Field(description="Segmentation alone, all objects together.")
    objects: list[ObjectSummary]
    next_frames: list[NextFrame] = Field(
        default_factory=list, description="Where a correction is expected to improve the masks most, the best first."
    )
    online: OnlineSummary | None = Field(default=None, description="Of `--online`; null: of a run over a whole clip.")


class FrameRanges:
    """Frames, given in ascending order, as inclusive ranges."""

    def __init__(self, frame_indices: Iterable[int] = ()) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.n_frames = 0
        for frame_index in frame_indices:
            self.add(frame_index)

    def add(self, frame_index: int) -> None:
        """Add a frame after all others."""
        self.n_frames += 1
        if self.ranges and self.ranges[-1][1] == frame_index - 1:
            self.ranges[-1] = self.ranges[-1][0], frame_index
        else:
            self.ranges.append((frame_index, frame_index))

    def n_from(self, first: int) -> int:
        """The number of frames from ``first`` on."""
        return sum(end - max(start, first) + 1 for start, end in self.ranges if end >= first)


class ObjectScores:
    """The scores of one object's masks by frame: five bytes per frame, so that long videos do not fill the memory.

    Args:
        prompted_frames: frames on which the object has prompts, as far as they are known.

    Attributes:
        n_masks: frames with a score.
    """

    def __init__(self, prompted_frames: Iterable[int] = ()) -> None:
        self._scores = array("f")
        self._visible = array("b")
        self._prompted = set(prompted_frames)
        self.n_masks = 0

    def set(self, frame_index: int, score: float, *, visible: bool) -> None:
        """Set the score of the mask on a frame, in [0, 1], and whether the mask has any pixel."""
        missing = frame_index + 1 - len(self._scores)
        self._scores.extend([nan] * missing)
        self._visible.extend([0] * missing)
        self.n_masks += isnan(self._scores[frame_index])
        self._scores[frame_index], self._visible[frame_index] = score, visible

    def add_prompted(self, frame_index: int) -> None:
        """Note that the object was prompted on a frame."""
        self._prompted.add(frame_index)

    def is_prompted(self, frame_index: int) -> bool:
        """Whether the object was prompted on a frame."""
        return frame_index in self._prompted

    @property
    def frames(self) -> list[int]:
        """The frames with a score, ascending."""
        return [frame_index for frame_index, score in enumerate(self._scores) if not isnan(score)]

    def summary(self, object_id: int, name: str, n_frames: int) -> ObjectSummary:
        """The object's entry in the summary of a video of ``n_frames`` frames."""
        scores = [None if isnan(score) else round(score, SCORE_DIGITS) for score in self._scores]
        known = [(score, frame_index) for frame_index, score in enumerate(scores) if score is not None]
        lowest = sorted(entry for entry in known if entry[1] not in self._prompted)[:LOWEST_SCORES]
        return ObjectSummary(
            object_id=object_id,
            name=name,
            prompted_frames=sorted(self._prompted),
            frames_with_mask=sum(self._visible),
            mean_score=round(sum(score for score, _ in known) / len(known), SCORE_DIGITS) if known else None,
            lowest_scores=[FrameScore(frame_index=frame_index, score=score) for score, frame_index in lowest],
            scores=[*scores, *[None] * (n_frames - len(scores))],
        )


def read_summary(folder: Path) -> Summary | None:
    """The summary of the run in a folder; None if the folder is empty or missing.

    Raises:
        RunFolderError: the folder holds something other than a run, or is a file.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; --output needs a folder")
    try:
        return Summary.model_validate_json((folder / SUMMARY_NAME).read_bytes())
    except FileNotFoundError:
        if any(folder.iterdir()):
            raise RunFolderError(f"{folder} is not empty, and not from an earlier run; choose another folder") from None
        return None
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error.errors()[0]['msg']}"
        raise RunFolderError(
            f"{folder / SUMMARY_NAME} is not the summary of an earlier run ({reason}); choose another folder"
        ) from error


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``summary.json`` in one step. The folder is made where it is missing.

    Raises:
        RunFolderError: the file cannot be written.
    """
    path = folder / SUMMARY_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _json_text(summary))
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error


def path_text(path: str | Path) -> str:
    """A path as text that any JSON reader accepts, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def _json_text(summary: Summary) -> str:
    """JSON with a line per entry, and one per object or failed frame, so that a person can read it."""

    def shown(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n  " + ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in value) + "\n ]"
        return json.dumps(value, ensure_ascii=False)

    body = summary.model_dump(mode="json")
    order = ["version", "complete", *(name for name in body if name not in ("version", "complete"))]
    return "{\n " + ",\n ".join(f"{json.dumps(name)}: {shown(body[name])}" for name in order) + "\n}\n"
