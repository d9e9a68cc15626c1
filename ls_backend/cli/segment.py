"""`ivos segment`: a video and a prompts file in, a mask of every object on every frame out. No Label Studio."""

from __future__ import annotations

import json
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ls_backend.cli.errors import failed
from ls_backend.cli.parts import (
    DEFAULT,
    BoxTrackerName,
    Checkpoint,
    MethodName,
    MethodOptions,
    PointTrackerName,
    SegmenterName,
    chosen,
    concrete_choice,
)
from ls_backend.demo.stopping import Stopped, StopSignals
from ls_backend.segment_options import DEVICE, EMBEDDING_RAM_MIB, Options, SegmentError
from ls_backend.segment_run import Run, say
from pipeline.auto import AUTO, DOWNLOAD_FREE, SMALL
from pipeline.prompt_file import PromptFileError, json_schema
from pipeline.run_summary import RunFolderError
from pipeline.video import FrameError
from pipeline.video_file import FRAME_DISK_MIB, VideoError

EXIT_INTERRUPTED = 130


class Interrupts(StopSignals):
    """Ctrl-C and SIGTERM end the run after the frame at hand; the second one ends it at once."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        super()._note(number, frame)


def _print_schema(wanted: bool) -> None:
    if wanted:
        typer.echo(json.dumps(json_schema(), indent=2))
        raise typer.Exit


def segment(
    video: Annotated[Path, typer.Argument(help="A video file, or a folder of images, one per frame.")],
    prompts: Annotated[Path, typer.Option("--prompts", "-p", help="JSON file of clicks, boxes and masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for masks/ and summary.json.")],
    method: MethodName = DEFAULT.method,
    segmenter: SegmenterName = DEFAULT.segmenter,
    point_tracker: PointTrackerName = DEFAULT.point_tracker,
    box_tracker: BoxTrackerName = DEFAULT.box_tracker,
    checkpoint: Checkpoint = None,
    option: MethodOptions = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = DEVICE,
    embedding_ram_mib: Annotated[
        int, typer.Option(min=16, help="Bound of image embeddings in memory.")
    ] = EMBEDDING_RAM_MIB,
    frame_disk_mib: Annotated[
        int, typer.Option(min=16, help="Bound of a video file's decoded frames in the temporary folder.")
    ] = FRAME_DISK_MIB,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run's masks and summary.")] = False,
    _schema: Annotated[
        bool, typer.Option("--schema", callback=_print_schema, is_eager=True, help="Print the prompts' JSON schema.")
    ] = False,
) -> None:
    """Segment a clip from a file of prompts: masks as DAVIS palette PNGs, and a summary. Ctrl-C keeps what is done."""
    try:
        choice, store = concrete_choice(chosen(method, segmenter, point_tracker, box_tracker, checkpoint, option))
    except ValueError as error:
        raise failed(error) from error
    options = Options(
        video.expanduser(),
        prompts.expanduser(),
        output.expanduser(),
        choice,
        store,
        device,
        embedding_ram_mib,
        frame_disk_mib,
        resume,
        overwrite,
    )
    with Interrupts() as stop:
        run = Run(options, stop)
        try:
            run.go()
            if segmenter == AUTO and choice.segmenter == DOWNLOAD_FREE:
                say(f"segmented with {DOWNLOAD_FREE}, which needs no download; a learned one: ivos models pull {SMALL}")
        except (Stopped, KeyboardInterrupt):
            say(f"interrupted: {run.standing()}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (SegmentError, PromptFileError, RunFolderError, VideoError, FrameError) as error:
            raise failed(error) from error
