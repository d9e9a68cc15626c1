"""`ivos segment`: from a video and a file of prompts to a mask of every object on every frame."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.batch.prompt_file import PromptFileError, json_schema
from pipeline.batch.run import DEVICE, EMBEDDING_DISK_MIB, EMBEDDING_RAM_MIB, SegmentError, SegmentOptions, SegmentRun
from pipeline.batch.summary import RunFolderError
from pipeline.cli.console import error_exit, print_note
from pipeline.cli.options import (
    DEFAULT_CHOICE,
    BoxTrackerName,
    Checkpoint,
    DeviceName,
    EmbeddingFolder,
    MethodName,
    MethodOptions,
    PointTrackerName,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.cli.stopping import EXIT_INTERRUPTED, Stopped, StopRequest
from pipeline.methods.choice import DEFAULT_ONLINE_METHOD, MethodChoice
from pipeline.parts.auto import AUTO, DOWNLOAD_FREE, SMALL
from pipeline.streaming.options import END_NAME, IDLE_S, RECONNECTS, OnlineOptions
from pipeline.streaming.protocol import protocol_schema
from pipeline.streaming.run import OnlineRun
from pipeline.streaming.session import ClickMeans
from pipeline.video.frames import FrameError
from pipeline.video.reader import VideoError
from pipeline.video.video_file import FRAME_DISK_MIB

ONLINE_ONLY = ("answers", "answer_timeout_s", "drop_late", "idle_s", "end_file", "reconnects", "click_means")
OFFLINE_ONLY = ("resume", "frame_disk_mib", "embedding_disk_mib", "embedding_folder")


def _print_schema(wanted: bool) -> None:
    if wanted:
        typer.echo(json.dumps(json_schema(), indent=2))
        raise typer.Exit


def _print_online_schema(wanted: bool) -> None:
    if wanted:
        typer.echo(json.dumps(protocol_schema(), indent=2))
        raise typer.Exit


def segment(
    context: typer.Context,
    video: Annotated[
        str,
        typer.Argument(
            help="A video file, or a folder of images, one per frame; with --online also - (images on standard input) "
            "or the address of a stream."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for masks/ and summary.json.")],
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", "-p", help="JSON file of clicks, boxes and masks; may be left out with --online."),
    ] = None,
    method: MethodName = DEFAULT_CHOICE.method,
    segmenter: SegmenterName = DEFAULT_CHOICE.segmenter,
    point_tracker: PointTrackerName = DEFAULT_CHOICE.point_tracker,
    box_tracker: BoxTrackerName = DEFAULT_CHOICE.box_tracker,
    checkpoint: Checkpoint = None,
    option: MethodOptions = None,
    device: DeviceName = DEVICE,
    embedding_ram_mib: Annotated[
        int, typer.Option(min=16, help="Bound of image embeddings in memory.")
    ] = EMBEDDING_RAM_MIB,
    frame_disk_mib: Annotated[
        int, typer.Option(min=16, help="Bound of a video file's decoded frames in the temporary folder.")
    ] = FRAME_DISK_MIB,
    embedding_disk_mib: Annotated[
        int, typer.Option(min=0, help="Bound of image embeddings on disk, for later passes and runs; 0: none.")
    ] = EMBEDDING_DISK_MIB,
    embedding_folder: EmbeddingFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run's masks and summary.")] = False,
    _schema: Annotated[
        bool, typer.Option("--schema", callback=_print_schema, is_eager=True, help="Print the prompts' JSON schema.")
    ] = False,
    online: Annotated[
        bool,
        typer.Option(
            "--online",
            help=f"One pass over frames as they arrive, with method {DEFAULT_ONLINE_METHOD} if none is named.",
        ),
    ] = False,
    answers: Annotated[
        str | None,
        typer.Option(
            help="File or named pipe of answers, a JSON object a line; else standard input, unless that is VIDEO."
        ),
    ] = None,
    answer_timeout_s: Annotated[
        float, typer.Option(min=0, help="How long to wait for answers when the method requests help.")
    ] = 0.0,
    drop_late: Annotated[
        bool | None,
        typer.Option(
            "--drop-late/--every-frame",
            help="Skip frames that arrive while another is processed; by default only those of live streams.",
        ),
    ] = None,
    idle_s: Annotated[
        float,
        typer.Option(min=0, help="A folder ends when nothing new appears for this long; a stream is opened again."),
    ] = IDLE_S,
    end_file: Annotated[str, typer.Option(help="Name of the file that ends a folder at once.")] = END_NAME,
    reconnects: Annotated[
        int, typer.Option(min=0, help="How often a stream is opened again without a frame in between.")
    ] = RECONNECTS,
    click_means: Annotated[
        ClickMeans,
        typer.Option(help="A single click on a known object says where it is, or makes a new mask."),
    ] = ClickMeans.WHERE,
    _online_schema: Annotated[
        bool,
        typer.Option(
            "--online-schema",
            callback=_print_online_schema,
            is_eager=True,
            help="Print the JSON schema of the lines that --online writes and reads.",
        ),
    ] = False,
) -> None:
    """Segment a clip from a file of prompts: masks as DAVIS palette PNGs, and a summary. Ctrl-C keeps what is done.

    With --online frames are segmented as they arrive; events are JSON lines on standard output, answers are read back.
    """
    _refuse_other_options(context, online)
    if online and not _is_given(context, "method"):
        method = DEFAULT_ONLINE_METHOD
    try:
        choice, store = resolved_choice(
            method_choice(method, segmenter, point_tracker, box_tracker, checkpoint, option)
        )
    except ValueError as error:
        raise error_exit(error) from error
    if online:
        _segment_online(
            OnlineOptions(
                source=video,
                prompts=None if prompts is None else prompts.expanduser(),
                output=output.expanduser(),
                choice=choice,
                store=store,
                device=device,
                embedding_ram_mib=embedding_ram_mib,
                overwrite=overwrite,
                answers=answers,
                answer_timeout_s=answer_timeout_s,
                drop_late=drop_late,
                idle_s=idle_s,
                end_name=end_file,
                reconnects=reconnects,
                click_means=click_means,
            )
        )
        _suggest_better_segmenter(segmenter, choice)
        return
    if prompts is None:
        raise typer.BadParameter("missing; expected a JSON file", ctx=context, param_hint="--prompts / -p")
    options = SegmentOptions(
        video=Path(video).expanduser(),
        prompts=prompts.expanduser(),
        output=output.expanduser(),
        choice=choice,
        store=store,
        device=device,
        embedding_ram_mib=embedding_ram_mib,
        embedding_disk_mib=embedding_disk_mib,
        embedding_folder=embedding_folder,
        frame_disk_mib=frame_disk_mib,
        resume=resume,
        overwrite=overwrite,
    )
    with StopRequest(repeat_aborts=True) as stop:
        run = SegmentRun(options, stop)
        try:
            run.run()
            _suggest_better_segmenter(segmenter, choice)
        except (Stopped, KeyboardInterrupt):
            print_note(f"interrupted: {run.progress_line()}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (SegmentError, PromptFileError, RunFolderError, VideoError, FrameError) as error:
            raise error_exit(error) from error


def _segment_online(options: OnlineOptions) -> None:
    with StopRequest(repeat_aborts=True) as stop:
        try:
            run = OnlineRun(options, stop)
            try:
                run.run()
            except KeyboardInterrupt:
                print_note(f"interrupted: {run.progress_line()}")
                raise typer.Exit(EXIT_INTERRUPTED) from None
        except (SegmentError, PromptFileError, RunFolderError) as error:
            raise error_exit(error) from error
    if run.interrupted:
        print_note(f"interrupted: {run.progress_line()}")
        if run.is_still_reading:
            _exit_now(EXIT_INTERRUPTED)
        raise typer.Exit(EXIT_INTERRUPTED)


def _exit_now(exit_code: int) -> None:
    """End the process without Python's shutdown, which aborts if a thread returns from OpenCV meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _suggest_better_segmenter(asked_segmenter: str, choice: MethodChoice) -> None:
    if asked_segmenter == AUTO and choice.segmenter == DOWNLOAD_FREE:
        print_note(f"segmented with {DOWNLOAD_FREE}, which needs no download; a larger one: ivos models pull {SMALL}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_other_options(context: typer.Context, online: bool) -> None:
    """Refuse options that only the other mode has.

    Raises:
        typer.BadParameter: one is given.
    """
    for name in OFFLINE_ONLY if online else ONLINE_ONLY:
        if _is_given(context, name):
            reason = "does not go with --online" if online else "needs --online"
            raise typer.BadParameter(reason, ctx=context, param_hint=f"--{name.replace('_', '-')}")
