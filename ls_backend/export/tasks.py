"""Tasks with annotations, from Label Studio's API or its JSON export, become clips to export."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ls_backend.export.annotation_masks import EMPTY, PROMPT, SCRIBBLE, AnnotationMasks, read_regions
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json, none_to_empty
from pipeline.export.clip import ExportedClip

NOT_SUBMITTED = "that is not submitted (open the task and submit it)"
OTHER_ANNOTATION = "further annotation of a task (--annotation chooses)"
EXPECTED = (EMPTY, PROMPT, SCRIBBLE, OTHER_ANNOTATION)
"""What is left out of every export."""
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts eight hexadecimal digits before the name of an uploaded file."""
_NOT_PLAIN = re.compile(r"[^\w.\- ]")


class AnnotationChoice(str, Enum):
    """Which of a task's submitted annotations are exported. Cancelled (skipped) ones never are."""

    LATEST = "latest"
    ALL = "all"
    GROUND_TRUTH = "ground-truth"


@dataclass(frozen=True)
class Notice:
    """Something of a task that is not exported, or not as expected, and how often it occurs."""

    task_id: str
    text: str
    count: int

    @property
    def is_expected(self) -> bool:
        """Whether this is normal in any project."""
        return self.text in EXPECTED


@dataclass(frozen=True)
class ExportContents:
    """The clips of a project. ``categories`` maps object ids to labels; it holds for all clips."""

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
        """Sorts annotations by the time of their last change, then by id."""
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
    """One annotation of one task, before labels get object ids and folders get unique names."""

    suffix: str
    folder: str
    frame_names: tuple[str, ...]
    masks: AnnotationMasks


def read_tasks(
    tasks: Iterable[Json], choice: AnnotationChoice = AnnotationChoice.LATEST, config: LabelConfig | None = None
) -> ExportContents:
    """Read the tasks of a project.

    Object ids follow the order of the labels in the project's config. Labels that are not in it come after, sorted by
    name with numbers in numeric order; so do all labels if there is no config.

    Raises:
        ValueError: a task does not have the form of Label Studio's API or JSON export.
    """
    labelled: list[_LabelledClip] = []
    notices: list[Notice] = []
    n_tasks = 0
    for body in tasks:
        n_tasks += 1
        task = _parse_task(body, n_tasks)
        clips, texts = _read_task(task, choice, config)
        labelled += clips
        notices += [Notice(task.id, text, count) for text, count in texts.items()]
    used = {label for clip in labelled for label in clip.masks.masks}
    in_config = list(config.labels) if config else []
    labels = [*in_config, *sorted(used.difference(in_config), key=_natural)]
    object_ids = {label: object_id for object_id, label in enumerate(labels, start=1)}
    folders = unique_folders([clip.folder for clip in labelled], [clip.suffix for clip in labelled])
    exported = tuple(_to_clip(clip, folder, object_ids) for clip, folder in zip(labelled, folders, strict=True))
    return ExportContents(
        exported, {object_id: label for label, object_id in object_ids.items()}, tuple(notices), n_tasks
    )


def _parse_task(body: object, position: int) -> _Task:
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
    chosen = _choose_annotations(task.annotations, choice)
    if not chosen:
        notices[_why_nothing_is_chosen(task.annotations, choice)] += 1
        return [], notices
    names = clip_names(urls)
    if names.numbered:
        notices["frame names repeat in the addresses, so the frames are numbered"] += 1
    n_others = sum(not annotation.was_cancelled for annotation in task.annotations) - len(chosen)
    notices += Counter({OTHER_ANNOTATION: n_others})
    clips = []
    for annotation in chosen:
        found = read_regions(annotation.result, len(urls))
        notices += found.skipped
        if not found.masks:
            notices["annotation without a mask"] += 1
            continue
        if len(set(found.sizes_hw_px.values())) > 1:
            notices[f"frames of different sizes, each keeps its own: {_sizes_text(found)}"] += 1
        suffix = f"task{task.id}" + (f"-annotation{annotation.id}" if len(chosen) > 1 else "")
        clips.append(_LabelledClip(suffix, names.folder, names.frame_names, found))
    return clips, notices


def _frame_urls(data: Json, config: LabelConfig | None) -> list[str]:
    """The addresses of the frames: the field that the config names, else the first field with a list of strings."""
    fields = [config.frames_field] if config else ["frames", *data]
    for name in fields:
        urls = data.get(name)
        if isinstance(urls, list) and urls and all(isinstance(url, str) for url in urls):
            return urls
    return []


def _choose_annotations(annotations: Sequence[_Annotation], choice: AnnotationChoice) -> list[_Annotation]:
    candidates = sorted((a for a in annotations if not a.was_cancelled), key=lambda a: a.age_key)
    if choice is AnnotationChoice.ALL:
        return candidates
    if choice is AnnotationChoice.GROUND_TRUTH:
        candidates = [annotation for annotation in candidates if annotation.ground_truth]
    return candidates[-1:]


def _why_nothing_is_chosen(annotations: Sequence[_Annotation], choice: AnnotationChoice) -> str:
    if not annotations:
        return "task without a submitted annotation"
    if all(annotation.was_cancelled for annotation in annotations):
        return "task whose annotations were all skipped by the annotator"
    return f"task without an annotation that is {choice.value}"


def _draft_notices(task: _Task) -> Counter[str]:
    """Counts of what is saved but not submitted. A draft of which only the id is known counts as one."""
    notices: Counter[str] = Counter()
    for draft in task.drafts:
        result = draft.get("result") if isinstance(draft, dict) else None
        if not isinstance(result, list):
            notices[f"draft {NOT_SUBMITTED}"] += 1
            continue
        for entry in result:
            value = entry.get("value") if isinstance(entry, dict) else None
            if isinstance(value, dict) and entry.get("type") == "brushlabels":
                kind = "mask" if "rle" in value else "brush stroke"
                notices[f"{kind} in a draft {NOT_SUBMITTED}"] += 1
    return notices


def _to_clip(clip: _LabelledClip, folder: str, object_ids: Mapping[str, int]) -> ExportedClip:
    sizes = clip.masks.sizes_hw_px
    # The size of a frame without a region is unknown; it gets the size that most frames have.
    usual = Counter(sizes.values()).most_common(1)[0][0]
    return ExportedClip(
        name=folder,
        frame_names=clip.frame_names,
        frame_sizes_hw_px=tuple(sizes.get(frame_index, usual) for frame_index in range(len(clip.frame_names))),
        masks={object_ids[label]: by_frame for label, by_frame in clip.masks.masks.items()},
    )


def _sizes_text(found: AnnotationMasks) -> str:
    counts = Counter(found.sizes_hw_px.values()).most_common()
    return ", ".join(f"{width}x{height} px on {n} frames" for (height, width), n in counts)


def _natural(label: str) -> tuple[tuple[str, int, str], ...]:
    """Sorts obj2 before obj10."""
    parts = re.findall(r"\d+|\D+", label)
    return tuple(("", int(part), part) if part.isdecimal() else (part.casefold(), 0, part) for part in parts)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


@dataclass(frozen=True)
class ClipNames:
    """Folder and file names of one task.

    Attributes:
        folder: the folder that all frames are in; empty if the addresses have no common folder.
        frame_names: a file name per frame.
        numbered: whether the frames are numbered, because the addresses give no usable names.
    """

    folder: str
    frame_names: tuple[str, ...]
    numbered: bool = False


def clip_names(frame_urls: Sequence[str]) -> ClipNames:
    """The names of a task, from the addresses of its frames. They are safe to use as file names.

    A mask's file is named after the stem of its frame, so stems must be unique. If the addresses repeat one, all frames
    are numbered (00000, 00001, ...).
    """
    paths = [_frame_path(url) for url in frame_urls]
    names = [_safe(path.name) for path in paths]
    folders = {_safe(path.parent.name) for path in paths}
    folder = folders.pop() if len(folders) == 1 else ""
    stems = Counter(PurePosixPath(name).stem.casefold() for name in names)
    if not all(names) or max(stems.values(), default=0) > 1:
        numbers = (f"{frame_index:05d}{PurePosixPath(name).suffix}" for frame_index, name in enumerate(names))
        return ClipNames(folder, tuple(numbers), numbered=True)
    return ClipNames(folder, tuple(names))


def unique_folders(folders: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """A unique folder per clip: its own name if no other clip has it, else the name and a suffix ("task12")."""
    wanted = [folder or suffix for folder, suffix in zip(folders, suffixes, strict=True)]
    counts = Counter(name.casefold() for name in wanted)
    used = {name.casefold() for name in wanted if counts[name.casefold()] == 1}
    unique = []
    for name, suffix in zip(wanted, suffixes, strict=True):
        if counts[name.casefold()] > 1:
            name = f"{name}-{suffix}"
            while name.casefold() in used:
                name += "_"
            used.add(name.casefold())
        unique.append(name)
    return unique


def _frame_path(url: str) -> PurePosixPath:
    """The path in a frame's address, which may name a local file, an upload, a bucket or a web server."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    path = unquote(parts.path)
    if path.rstrip("/").endswith("/data/local-files") and "d" in query:
        path = query["d"][0]
    elif "fileuri" in query:
        path = _bucket_path(query["fileuri"][0])
    elif "/data/upload/" in path:
        # The folder of an upload is the project's, not the clip's.
        path = _UPLOAD_PREFIX.sub("", PurePosixPath(path).name)
    return PurePosixPath(path.replace("\\", "/"))


def _bucket_path(encoded: str) -> str:
    try:
        uri = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return unquote(urlsplit(uri).path)


def _safe(name: str) -> str:
    """The name without characters that could leave its folder or confuse a file system."""
    return _NOT_PLAIN.sub("_", name).strip(" .")
