"""`ivos calibrate`: the uncertainties at which method lazy corrects itself, asks for help, and does not memorise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    Checkpoint,
    DeviceName,
    MethodOptions,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Objects, find_clips
from pipeline.evaluation.options import (
    SINGLE_PASS_EMBEDDING_RAM_MIB,
    BenchError,
    DataFolder,
    check_files,
    comma_separated,
    data_folder,
)
from pipeline.evaluation.results import Results
from pipeline.evaluation.zivos.annotator import Corrections, InitialPrompt
from pipeline.evaluation.zivos.calibration import CalibrationSettings
from pipeline.methods.choice import option_words
from pipeline.parts.auto import DOWNLOAD_FREE

if TYPE_CHECKING:
    from pipeline.evaluation.zivos.single_pass import PassScore
    from pipeline.methods.base import Method

METHOD = "lazy"
DEFAULTS = CalibrationSettings()
UNREACHABLE = {"tau_u": "inf", "tau_p": "inf", "tau_m": "inf"}
"""Thresholds of the passes: whatever the uncertainty is, it must not change what the method finds."""


def calibrate(
    data: DataFolder = None,
    sequences: Annotated[str, typer.Option(help="Clips by name, separated by commas. Default: all.")] = "",
    start: Annotated[
        InitialPrompt, typer.Option(help="How an object is given: by its mask or by a click.")
    ] = InitialPrompt.MASK,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    checkpoint: Checkpoint = None,
    option: MethodOptions = None,
    device: DeviceName = "auto",
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
    from pipeline.methods.choice import build_method
    from pipeline.parts.device import resolve_device

    try:
        calibration = CalibrationSettings(
            iou_bound, fall, fall_frames, horizon_frames, least_events, calls_per_100_frames
        )
        requested = method_choice(METHOD, segmenter, checkpoint=checkpoint, option=option)
        check_options(requested.options)
        choice, store = resolved_choice(requested)
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
        clips = find_clips(folder, comma_separated(sequences))
        check_files(json)
        cache: EmbeddingCache[Any] = EmbeddingCache(SINGLE_PASS_EMBEDDING_RAM_MIB)
        without_thresholds = replace(choice, options={**choice.options, **UNREACHABLE})
        method = build_method(without_thresholds, store=store, device=device, embeddings=cache)
        used_device = resolve_device(device)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    run_calibration(clips, objects, start, method, calibration, settings, used_device, json)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse thresholds: this command finds them.

    Raises:
        BenchError: one is among the options.
    """
    thresholds = sorted(set(options) & set(UNREACHABLE))
    if thresholds:
        raise BenchError(f"--option {', '.join(thresholds)} is what this command finds; leave it out")


def run_calibration(
    clips: list[ClipFiles],
    objects: Objects,
    start: InitialPrompt,
    method: Method,
    calibration: CalibrationSettings,
    settings: dict[str, Any],
    device: str,
    json: Path | None,
) -> None:
    """One pass without corrections over each clip, then show and write what was found, also after Ctrl-C or an error.

    Raises:
        typer.Exit: a clip cannot be measured on (1), or it was stopped (130).
    """
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.zivos.calibration_report import calibration_report, show_calibration
    from pipeline.evaluation.zivos.key_statistics import KeyStatistics
    from pipeline.evaluation.zivos.single_pass import run_pass

    passes: list[PassScore] = []
    untyped: Any = method
    keys = KeyStatistics(untyped.segmenter)
    results = Results(
        lambda complete: calibration_report(
            passes, calibration, settings, device=device, complete=complete, keys=keys.document()
        ),
        json,
    )

    def run() -> None:
        with progress_bar() as progress:
            bar = progress.add_task("", total=len(clips))
            for files in clips:
                clip = LongClip.from_clips([files], len(files.image_paths), meaning=objects)

                def on_frame(n_done: int, name: str = clip.name, n_frames: int = len(clip)) -> None:
                    progress.update(bar, description=f"{name}, frame {n_done} of {n_frames}")

                passes.append(run_pass(clip, method, start, Corrections.NONE, on_frame=on_frame))
                keys.add(clip)
                progress.advance(bar)
                results.write()

    results.run_and_report(
        run,
        lambda document: show_calibration(document, Console()),
        lambda: f"{len(passes)} of {len(clips)} clips are finished and kept",
        (DatasetError, ValueError),
    )
