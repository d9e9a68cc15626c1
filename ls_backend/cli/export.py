"""`ivos export`: a project's masks as DAVIS palette PNGs and COCO run lengths."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ls_backend.errors import ConfigError
from ls_backend.export.tasks import AnnotationChoice, ExportContents, Notice, read_tasks
from ls_backend.label_studio.api import LabelStudioAPI, LabelStudioError
from ls_backend.protocol.label_config import LabelConfig, parse_label_config
from ls_backend.settings import ClientSettings
from pipeline.cli.console import error_exit, progress_bar
from pipeline.export.coco import coco_dataset
from pipeline.export.davis import write_davis

PAGE_TIMEOUT_S = 300.0
"""A page of tasks may hold a hundred megabytes of masks."""
TASKS_NAMED = 5

console = Console(stderr=True)


class Format(str, Enum):
    """What to write. Each format has its own folder in the output folder."""

    DAVIS = "davis"
    COCO = "coco"


class ExportError(Exception):
    """The export cannot be made. The message says what was expected, what arrived and what to do."""


@dataclass(frozen=True)
class Source:
    """Tasks to read, their number, and the project's labelling config (None: unknown or not usable)."""

    tasks: Iterable[dict[str, Any]]
    n_tasks: int
    config: LabelConfig | None


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to: davis/ and coco/ appear in it.")],
    project: Annotated[int | None, typer.Option(help="Project id, to read from Label Studio.")] = None,
    from_json: Annotated[Path | None, typer.Option(help="Label Studio's JSON export, to read offline.")] = None,
    formats: Annotated[list[Format], typer.Option("--format", help="Repeat for several.")] = [*Format],  # noqa: B006
    annotation: Annotated[
        AnnotationChoice, typer.Option(help="Which submitted annotations of a task; skipped ones never.")
    ] = AnnotationChoice.LATEST,
    url: Annotated[str, typer.Option(help="Label Studio's address. Default: IVOS_LABEL_STUDIO_URL.")] = "",
    token: Annotated[str, typer.Option(help="Access token. Default: IVOS_LABEL_STUDIO_TOKEN, which is safer.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace davis/ and coco/ of an earlier export.")
    ] = False,
) -> None:
    """Write the masks of a project's annotations as DAVIS palette PNGs and COCO run lengths, equal to the pixel.

    Object ids are the pixel values and the COCO categories; they follow the order of the labels in the project (from
    a JSON file: of their names). Where masks overlap, a palette PNG shows the higher id; COCO keeps both.
    """
    try:
        check_output(output, formats, overwrite)
        source = json_source(from_json, project) if from_json else api_source(project, url, token)
        contents = read_with_progress(source, annotation)
        if not contents.clips:
            show_notices(contents.notices)
            raise ExportError(f"none of the {contents.n_tasks} tasks has a submitted mask; nothing was written")
        overlap_px = write(contents, output, formats)
    except (ExportError, LabelStudioError) as error:
        raise error_exit(error) from error
    show_summary(contents, overlap_px, output)
    show_notices(contents.notices)


def check_output(output: Path, formats: Sequence[Format], overwrite: bool) -> None:
    """Check that the export overwrites nothing by accident.

    Raises:
        ExportError: the folder is not empty and ``overwrite`` is off, or it is a file.
    """
    if output.exists() and not output.is_dir():
        raise ExportError(f"{output} is a file; --output needs a folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        replaced = " and ".join(f"{item.value}/" for item in dict.fromkeys(formats))
        raise ExportError(f"{output} is not empty; choose another folder, or --overwrite to replace its {replaced}")


def json_source(file: Path, project: int | None) -> Source:
    """Tasks of a JSON export.

    Raises:
        ExportError: both a file and a project are given, or the file is not a JSON list.
    """
    if project is not None:
        raise ExportError("--project reads from Label Studio and --from-json from a file; give one of them")
    try:
        tasks = json.loads(file.read_bytes())
    except OSError as error:
        raise ExportError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ExportError(f"{file} is not JSON: {error}") from error
    if not isinstance(tasks, list):
        raise ExportError(f"{file} holds a JSON {type(tasks).__name__}; expected Label Studio's JSON export, a list")
    return Source(tasks, len(tasks), config=None)


def api_source(project: int | None, url: str, token: str) -> Source:
    """Tasks of a project, read page by page.

    Raises:
        ExportError: the project, the address or the token is not given.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    if project is None:
        raise ExportError("give --project ID to read from Label Studio, or --from-json FILE to read its JSON export")
    try:
        settings = ClientSettings()
    except ValidationError as error:
        raise ExportError("; ".join(issue["msg"] for issue in error.errors())) from error
    url = url or settings.label_studio_url
    token = token or settings.label_studio_token.get_secret_value()
    if not url or not token:
        missing = (
            "address (--url or IVOS_LABEL_STUDIO_URL)" if not url else "token (--token or IVOS_LABEL_STUDIO_TOKEN)"
        )
        raise ExportError(f"Label Studio's {missing} is not given")
    api = LabelStudioAPI(url, token, timeout_s=PAGE_TIMEOUT_S)
    body = api.project(project)
    try:
        config = parse_label_config(body.get("label_config") or "")
    except ConfigError:
        console.print(
            "[yellow]note:[/] the project's labelling config is not one for videos; ids follow the label names"
        )
        config = None
    return Source(api.tasks(project, with_annotations=True), int(body.get("task_number") or 0), config)


def read_with_progress(source: Source, choice: AnnotationChoice) -> ExportContents:
    """Read all tasks.

    Raises:
        ExportError: the tasks do not have Label Studio's format.
    """
    with progress_bar() as progress:
        bar = progress.add_task("reading tasks", total=source.n_tasks or None)

        def counted() -> Iterator[dict[str, Any]]:
            for task in source.tasks:
                yield task
                progress.advance(bar)

        try:
            return read_tasks(counted(), choice, source.config)
        except ValueError as error:
            raise ExportError(str(error)) from error


def write(contents: ExportContents, output: Path, formats: Sequence[Format]) -> int | None:
    """Write the formats; each folder appears when it is complete. Returns how many pixels overlap in DAVIS' images.

    Raises:
        ExportError: something cannot be written.
    """
    overlap_px = None
    try:
        if Format.DAVIS in formats:
            with progress_bar() as progress, _complete_or_absent(output / Format.DAVIS.value) as folder:
                bar = progress.add_task("writing frames", total=sum(len(clip.frame_names) for clip in contents.clips))
                overlap_px = write_davis(contents.clips, folder, lambda: progress.advance(bar)).overlap_px
                (folder / "objects.json").write_text(
                    json.dumps(dict(contents.categories), indent=1, ensure_ascii=False)
                )
        if Format.COCO in formats:
            with _complete_or_absent(output / Format.COCO.value) as folder:
                (folder / "annotations.json").write_text(json.dumps(coco_dataset(contents.clips, contents.categories)))
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot write to {output}: {error}") from error
    return overlap_px


@contextmanager
def _complete_or_absent(folder: Path) -> Iterator[Path]:
    """A folder to write to. It gets its name, and replaces an older folder, only if the block succeeds."""
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def show_summary(contents: ExportContents, overlap_px: int | None, output: Path) -> None:
    """Print what was written."""
    table = Table("clip", "frames", "objects", "masks", title=f"written to {escape(str(output))}")
    for clip in contents.clips:
        n_objects = sum(1 for by_frame in clip.masks.values() if by_frame)
        table.add_row(escape(clip.name), str(len(clip.frame_names)), str(n_objects), str(clip.n_masks))
    n_frames = sum(len(clip.frame_names) for clip in contents.clips)
    n_objects = sum(len(clip.masks) for clip in contents.clips)
    n_masks = sum(clip.n_masks for clip in contents.clips)
    table.add_section()
    table.add_row(f"{len(contents.clips)} of {contents.n_tasks} tasks", str(n_frames), str(n_objects), str(n_masks))
    console.print(table)
    if overlap_px:
        console.print(
            f"[yellow]warning:[/] {overlap_px} pixels belong to several masks; in the palette PNGs the object with the "
            "higher id has them, COCO keeps all",
            soft_wrap=True,
        )


def show_notices(notices: Sequence[Notice]) -> None:
    """Print what is not exported and why, the unexpected first."""
    by_text: dict[str, list[Notice]] = defaultdict(list)
    for notice in sorted(notices, key=lambda notice: notice.is_expected):
        by_text[notice.text].append(notice)
    if not by_text:
        return
    table = Table("not as it might be expected", "count", "tasks", title="notices")
    for text, same in by_text.items():
        task_ids = list(dict.fromkeys(notice.task_id for notice in same))
        more = f" and {len(task_ids) - TASKS_NAMED} more" if len(task_ids) > TASKS_NAMED else ""
        style = "dim" if same[0].is_expected else "yellow"
        count = sum(notice.count for notice in same)
        table.add_row(escape(text), str(count), ", ".join(task_ids[:TASKS_NAMED]) + more, style=style)
    console.print(table)
