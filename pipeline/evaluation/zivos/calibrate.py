"""`ivos calibrate`: at which uncertainty should a method correct itself, ask for help, and not remember?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    Checkpoint,
    MethodOptions,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.cli.stopping import run_and_report
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Objects, find_clips
from pipeline.evaluation.options import BenchError, DataFolder, check_files, data_folder, names_in
from pipeline.evaluation.zivos.annotator import Corrections, GivenBy
from pipeline.evaluation.zivos.calibration import CalibrationSettings
from pipeline.evaluation.zivos.command import EMBEDDING_RAM_MIB
from pipeline.methods.options import option_words
from pipeline.parts.auto import DOWNLOAD_FREE

if TYPE_CHECKING:
    from pipeline.evaluation.zivos.single_pass import PassScore
    from pipeline.methods.base import Method

METHOD = "lazy"
DEFAULTS = CalibrationSettings()
WITHOUT_CORRECTIONS = {"tau_u": "inf", "tau_p": "inf", "tau_m": "inf"}
"""A pass that only watches: what it would have asked for must not change what it finds."""


@dataclass
class _Run:
    """What to run, and what is finished."""

    clips: list[ClipFiles]
    objects: Objects
    start: GivenBy
    calibration: CalibrationSettings
    settings: dict[str, Any]
    device: str
    json: Path | None
    passes: list[PassScore] = field(default_factory=list)

    def write(self, *, complete: bool) -> dict[str, Any]:
        """The document, which the file gets too, if one was asked for."""
        from pipeline.evaluation.results import write_json
        from pipeline.evaluation.zivos.calibration_report import calibration_report

        document = calibration_report(
            self.passes, self.calibration, self.settings, device=self.device, complete=complete
        )
        if self.json is not None:
            write_json(document, self.json)
        return document


def calibrate(
    data: DataFolder = None,
    sequences: Annotated[str, typer.Option(help="Clips by name, separated by commas. Default: all.")] = "",
    start: Annotated[GivenBy, typer.Option(help="How an object is given: by its mask or by a click.")] = GivenBy.MASK,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    checkpoint: Checkpoint = None,
    option: MethodOptions = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    objects: Annotated[Objects, typer.Option(help="What the values of the mask files mean.")] = Objects.AUTO,
    iou_bound: Annotated[float, typer.Option(help="A mask below this IoU has failed.")] = DEFAULTS.iou_bound,
    fall: Annotated[
        float, typer.Option(help="A mask whose IoU drops by this within --fall-frames falls.")
    ] = DEFAULTS.fall,
    fall_frames: Annotated[int, typer.Option(help="See --fall.")] = DEFAULTS.fall_frames,
    horizon_frames: Annotated[
        int, typer.Option(help="An alarm is right when its event comes within so many frames.")
    ] = DEFAULTS.horizon_frames,
    least_events: Annotated[
        int, typer.Option(help="Fewer events than this choose no threshold.")
    ] = DEFAULTS.least_events,
    calls_per_100_frames: Annotated[
        float | None, typer.Option(help="Choose tau_u by this rate of calls for help.", show_default="by F1")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures and curves into this file.")] = None,
) -> None:
    """Find tau_u, tau_p and tau_m of method lazy for a segmenter on clips with ground truth.

    Ctrl-C keeps the finished clips.
    """
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.methods import build_method, resolve_device

    try:
        calibration = CalibrationSettings(
            iou_bound, fall, fall_frames, horizon_frames, least_events, calls_per_100_frames
        )
        asked = method_choice(METHOD, segmenter, checkpoint=checkpoint, option=option)
        check_options(asked.options)
        choice, store = resolved_choice(asked)
        folder = data_folder(data)
        settings = {
            "method": choice.method,
            "segmenter": choice.segmenter,
            "checkpoint": None if choice.checkpoint is None else choice.checkpoint.name,
            "options": option_words(choice.options),
            "device": device,
            "data": str(folder),
            "objects": objects.value,
            "start": start.value,
        }
        clips = find_clips(folder, names_in(sequences))
        check_files(json, None, None)
        cache: EmbeddingCache[Any] = EmbeddingCache(EMBEDDING_RAM_MIB)
        watching = dict(choice.options) | WITHOUT_CORRECTIONS
        method = build_method(replace(choice, options=watching), store=store, device=device, embeddings=cache)
        run = _Run(clips, objects, start, calibration, settings, resolve_device(device), json)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    finish(run, method)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse thresholds: they are what is looked for.

    Raises:
        BenchError: one is given.
    """
    given = sorted(set(options) & set(WITHOUT_CORRECTIONS))
    if given:
        raise BenchError(f"--option {', '.join(given)} is what this command finds; leave it out")


def finish(run: _Run, method: Method) -> None:
    """Run all clips, then show and write what was found, also after Ctrl-C or an error.

    Raises:
        typer.Exit: it was stopped, or a clip cannot be measured on.
    """
    run_and_report(
        lambda: watch(run, method),
        lambda complete: show(run.write(complete=complete), Console()),
        lambda: f"{len(run.passes)} of {len(run.clips)} clips are finished and kept",
        (DatasetError, ValueError),
    )


def watch(run: _Run, method: Method) -> None:
    """One pass without corrections over each clip.

    Raises:
        DatasetError: a clip cannot be measured on.
    """
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.zivos.single_pass import run_pass

    with progress_bar() as progress:
        bar = progress.add_task("", total=len(run.clips))
        for files in run.clips:
            clip = LongClip.of([files], len(files.image_paths), meaning=run.objects)

            def on_frame(n_done: int, name: str = clip.name, n_frames: int = len(clip)) -> None:
                progress.update(bar, description=f"{name}, frame {n_done} of {n_frames}")

            run.passes.append(run_pass(clip, method, run.start, Corrections.NONE, on_frame=on_frame))
            progress.advance(bar)
            run.write(complete=False)


def show(document: Mapping[str, Any], screen: Console) -> None:
    """The thresholds, how they did, and the words that set them."""
    counts = document["counts"]
    table = Table(
        title=f"{document['segmenter']}: {counts['objects']} objects, {counts['frames']} frames, "
        f"{counts['failures']} failures, {counts['falls']} falls",
        title_justify="left",
        box=SIMPLE,
        padding=0,
    )
    for column in ("threshold", "value", "precision", "recall", "F1", "chance", "a 100 frames", "F1 left out"):
        table.add_column(column, justify="left" if column == "threshold" else "right", no_wrap=True)
    for name, found in document["thresholds"].items():
        figures = [found[key] for key in ("threshold", "precision", "recall", "f1", "chance", "per_100_frames")]
        elsewhere = [half["f1"] for half in document["left_out"][name] if half["f1"] is not None]
        both = sum(elsewhere) / len(elsewhere) if elsewhere else None
        cells = [_number(figures[0], 4), *(_number(figure, 2) for figure in (*figures[1:], both))]
        table.add_row(name, *cells)
    screen.print(table)
    for name, found in document["thresholds"].items():
        if found["reason"]:
            screen.print(f"no {name}: {found['reason']}", highlight=False)
    if document["options"]:
        screen.print(" ".join(f"--option {word}" for word in document["options"]), highlight=False, soft_wrap=True)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
