"""Tasks with annotations, as Label Studio's API and its JSON export give them, as clips to export."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ls_backend.export.clip_names import clip_names, unique_folders
from ls_backend.export.stored_masks import EMPTY, PROMPT, SCRIBBLE, StoredMasks, read_regions
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json, none_to_empty
from pipeline.export.clip import ExportedClip

SUBMIT = "that is not submitted (open the task and submit it)"
OTHER_ANNOTATION = "further annotation of a task (--annotation chooses)"
HARMLESS = (EMPTY, PROMPT, SCRIBBLE, OTHER_ANNOTATION)
"""Left out as a matter of course."""


class AnnotationChoice(str, Enum):
    """Which of a task's submitted annotations to take. Cancelled (skipped) ones are never taken."""

    LATEST = "latest"
    ALL = "all"
    GROUND_TRUTH = "ground-truth"


@dataclass(frozen=True)
class Notice:
    """Something of a task that is not in the export, or not as it might be expected, and how many times."""

    task_id: str
    text: str
    count: int

    @property
    def harmless(self) -> bool:
        """Whether this is expected in every project."""
        return self.text in HARMLESS


@dataclass(frozen=True)
class ReadTasks:
    """What was read. ``categories`` gives the label of each object id, the same in every clip."""

    clips: tuple[ExportedClip, ...]
    categories: Mapping[int, str]
    notices: tuple[Notice, ...]
    n_tasks: int


class _Annotation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: str = ""
    result: Annotated[list[Any], BeforeValidator(none_to_empty)] = []
    was_cancelled: Annotated[bool, BeforeValidator(bool)] = False
    ground_truth: Annotated[bool, BeforeValidator(bool)] = False
    updated_at: datetime | None = None
    created_at: datetime | None = None

    @property
    def age_key(self) -> tuple[float, int]:
        """Grows with the time of the last change, then with the id."""
        changed_at = self.updated_at or self.created_at or datetime.min
        if changed_at.tzinfo is None:
            changed_at = changed_at.replace(tzinfo=timezone.utc)
        return (changed_at - datetime.min.replace(tzinfo=timezone.utc)).total_seconds(), _number(self.id)


class _Task(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: str
    data: Json
    annotations: Annotated[list[_Annotation], BeforeValidator(none_to_empty)]
    drafts: Annotated[list[Any], BeforeValidator(none_to_empty)] = []


@dataclass(frozen=True)
class _LabelledClip:
    """One annotation of one task before labels are numbered and folders are named."""

    suffix: str
    folder: str
    frame_names: tuple[str, ...]
    stored: StoredMasks


def read_tasks(
    tasks: Iterable[Json], choice: AnnotationChoice = AnnotationChoice.LATEST, config: LabelConfig | None = None
) -> ReadTasks:
    """Read the tasks of a project.

    Object ids follow the order of the labels in the project's config. Labels that are not in it, and all labels where
    no config is known, follow in the order of their names, numbers in them counted as numbers.

    Raises:
        ValueError: a task does not have the form of Label Studio's API or JSON export.
    """
    labelled: list[_LabelledClip] = []
    notices: list[Notice] = []
    n_tasks = 0
    for body in tasks:
        n_tasks += 1
        task = _checked(body, n_tasks)
        clips, texts = _read_task(task, choice, config)
        labelled += clips
        notices += [Notice(task.id, text, count) for text, count in texts.items()]
    used = {label for clip in labelled for label in clip.stored.masks}
    in_config = list(config.labels) if config else []
    labels = [*in_config, *sorted(used.difference(in_config), key=_natural)]
    object_ids = {label: object_id for object_id, label in enumerate(labels, start=1)}
    folders = unique_folders([clip.folder for clip in labelled], [clip.suffix for clip in labelled])
    exported = tuple(_exported(clip, folder, object_ids) for clip, folder in zip(labelled, folders, strict=True))
    return ReadTasks(exported, {object_id: label for label, object_id in object_ids.items()}, tuple(notices), n_tasks)


def _checked(body: object, position: int) -> _Task:
    try:
        return _Task.model_validate(body)
    except ValidationError as error:
        issue = error.errors()[0]
        raise ValueError(
            f"task {position} of the list does not look like Label Studio's JSON export (not JSON-MIN) or API: "
            f"{'.'.join(str(part) for part in issue['loc'])}: {issue['msg']}"
        ) from error


def _read_task(
    task: _Task, choice: AnnotationChoice, config: LabelConfig | None
) -> tuple[list[_LabelledClip], Counter[str]]:
    notices = _draft_notices(task)
    urls = _frame_urls(task.data, config)
    if not urls:
        notices["task without a list of frames"] += 1
        return [], notices
    chosen = _chosen(task.annotations, choice)
    if not chosen:
        notices[_nothing_chosen(task.annotations, choice)] += 1
        return [], notices
    names = clip_names(urls)
    if names.numbered:
        notices["frame names repeat in the addresses, so the frames are numbered"] += 1
    n_others = sum(not annotation.was_cancelled for annotation in task.annotations) - len(chosen)
    notices += Counter({OTHER_ANNOTATION: n_others})
    clips = []
    for annotation in chosen:
        stored = read_regions(annotation.result, len(urls))
        notices += stored.left_out
        if not stored.masks:
            notices["annotation without a mask"] += 1
            continue
        if len(set(stored.sizes_hw_px.values())) > 1:
            notices[f"frames of different sizes, each keeps its own: {_sizes_shown(stored)}"] += 1
        suffix = f"task{task.id}" + (f"-annotation{annotation.id}" if len(chosen) > 1 else "")
        clips.append(_LabelledClip(suffix, names.folder, names.frame_names, stored))
    return clips, notices


def _frame_urls(data: Json, config: LabelConfig | None) -> list[str]:
    """The task's frames: the field the config names, else the first that holds a list of addresses."""
    fields = [config.frames_field] if config else ["frames", *data]
    for name in fields:
        urls = data.get(name)
        if isinstance(urls, list) and urls and all(isinstance(url, str) for url in urls):
            return urls
    return []


def _chosen(annotations: Sequence[_Annotation], choice: AnnotationChoice) -> list[_Annotation]:
    candidates = sorted((a for a in annotations if not a.was_cancelled), key=lambda a: a.age_key)
    if choice is AnnotationChoice.ALL:
        return candidates
    if choice is AnnotationChoice.GROUND_TRUTH:
        candidates = [annotation for annotation in candidates if annotation.ground_truth]
    return candidates[-1:]


def _nothing_chosen(annotations: Sequence[_Annotation], choice: AnnotationChoice) -> str:
    if not annotations:
        return "task without a submitted annotation"
    if all(annotation.was_cancelled for annotation in annotations):
        return "task whose annotations were all skipped by the annotator"
    return f"task without an annotation that is {choice.value}"


def _draft_notices(task: _Task) -> Counter[str]:
    """Work that is saved but not submitted. A draft of which only the id is known counts as one."""
    notices: Counter[str] = Counter()
    for draft in task.drafts:
        result = draft.get("result") if isinstance(draft, dict) else None
        if not isinstance(result, list):
            notices[f"draft {SUBMIT}"] += 1
            continue
        for entry in result:
            value = entry.get("value") if isinstance(entry, dict) else None
            if isinstance(value, dict) and entry.get("type") == "brushlabels":
                kind = "mask" if "rle" in value else "brush stroke"
                notices[f"{kind} in a draft {SUBMIT}"] += 1
    return notices


def _exported(clip: _LabelledClip, folder: str, object_ids: Mapping[str, int]) -> ExportedClip:
    sizes = clip.stored.sizes_hw_px
    # A frame without any region says nothing about its size; it gets the one most frames have.
    usual = Counter(sizes.values()).most_common(1)[0][0]
    return ExportedClip(
        name=folder,
        frame_names=clip.frame_names,
        frame_sizes_hw_px=tuple(sizes.get(frame_index, usual) for frame_index in range(len(clip.frame_names))),
        masks={object_ids[label]: by_frame for label, by_frame in clip.stored.masks.items()},
    )


def _sizes_shown(stored: StoredMasks) -> str:
    counts = Counter(stored.sizes_hw_px.values()).most_common()
    return ", ".join(f"{width}x{height} px on {n} frames" for (height, width), n in counts)


def _natural(label: str) -> tuple[tuple[str, int, str], ...]:
    """Sorts obj2 before obj10."""
    parts = re.findall(r"\d+|\D+", label)
    return tuple(("", int(part), part) if part.isdecimal() else (part.casefold(), 0, part) for part in parts)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
