"""`ivos bench`: rounds of a simulated annotator on clips with ground truth, and what they cost."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    DEFAULT_CHOICE,
    BoxTrackerName,
    Checkpoint,
    DeviceName,
    MethodName,
    MethodOptions,
    PointTrackerName,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.cli.stopping import Stopped, StopRequest
from pipeline.embeddings.cache import DISK_MIB
from pipeline.evaluation.annotator import AnnotatorSettings, NextFrame, Start
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Objects, Truth, find_clips, read_truth
from pipeline.evaluation.long.command import long
from pipeline.evaluation.memory.command import memory
from pipeline.evaluation.options import (
    BenchEmbeddingFolder,
    BenchError,
    DataFolder,
    EmbeddingDiskMib,
    check_files,
    comma_separated,
    data_folder,
    is_on_command_line,
    refuse_options,
    rounds_embeddings,
)
from pipeline.evaluation.report import clip_entry, plot_report, report, show_tables
from pipeline.evaluation.results import Results
from pipeline.evaluation.runner import ClipScore, run_clip
from pipeline.evaluation.simulated_prompts import ClickStrategy
from pipeline.evaluation.single_frames import SingleFrameScore, score_single_frames
from pipeline.evaluation.speed.command import speed
from pipeline.evaluation.zivos.command import (
    DEFAULT_START,
    CorrectionPasses,
    Protocol,
    ZivosOptions,
    check_protocol,
    run_zivos,
)
from pipeline.methods.base import Method
from pipeline.methods.choice import DEFAULT_ONLINE_METHOD, build_method, option_words
from pipeline.parts.auto import DOWNLOAD_FREE
from pipeline.parts.device import resolve_device
from pipeline.streaming.session import ClickMeans
from pipeline.video.frames import FrameError

bench = typer.Typer(name="bench", invoke_without_command=True, add_completion=False)
bench.command()(speed)
bench.command()(memory)
bench.command()(long)


@dataclass(frozen=True)
class RoundsPlan:
    """What to run and where to write it; ``settings`` stand in the JSON as they are."""

    clips: list[ClipFiles]
    objects: Objects
    annotator: AnnotatorSettings
    n_rounds: int
    single_frames: tuple[int, ...]
    settings: dict[str, Any]
    device: str
    json: Path | None
    plot: Path | None
    masks: Path | None


@bench.callback()
def rounds_on_clips(
    context: typer.Context,
    data: DataFolder = None,
    sequences: Annotated[str, typer.Option(help="Clips by name, separated by commas. Default: all.")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="Rounds per clip; 0 runs --single-frames only.")] = 8,
    start: Annotated[Start, typer.Option(help="How round 1 begins, see docs/bench.md.")] = Start.PROMPTS,
    next_frame: Annotated[NextFrame, typer.Option(help="Which frame later rounds prompt.")] = NextFrame.WORST,
    first_frame: Annotated[
        int | None, typer.Option(min=0, help="Frame of round 1, from 0.", show_default="the best frame")
    ] = None,
    frames_per_round: Annotated[int, typer.Option(min=1, help="Frames that a round prompts together.")] = 1,
    starts: Annotated[int, typer.Option(min=1, help="Runs per clip from different first frames; I-PT takes 3.")] = 1,
    click_strategy: Annotated[ClickStrategy, typer.Option(help="Where --start clicks clicks.")] = ClickStrategy.A3,
    method: MethodName = DEFAULT_CHOICE.method,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    point_tracker: PointTrackerName = DEFAULT_CHOICE.point_tracker,
    box_tracker: BoxTrackerName = DEFAULT_CHOICE.box_tracker,
    checkpoint: Checkpoint = None,
    option: MethodOptions = None,
    device: DeviceName = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Fixes the annotator's errors and random points.")] = 0,
    objects: Annotated[Objects, typer.Option(help="What the values of the mask files mean.")] = Objects.AUTO,
    single_frames: Annotated[
        str, typer.Option(help="Also score these frames alone, from prompts without propagation: 0,20,40.")
    ] = "",
    json: Annotated[Path | None, typer.Option(help="Write all figures into this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw J&F over rounds and seconds into this file.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Write the final masks below this folder, as DAVIS PNGs.")] = None,
    embedding_disk_mib: EmbeddingDiskMib = DISK_MIB,
    embedding_folder: BenchEmbeddingFolder = None,
    protocol: Annotated[Protocol, typer.Option(help="rounds, or a single pass that calls for help.")] = Protocol.ROUNDS,
    corrections: Annotated[
        CorrectionPasses, typer.Option(help="zivos: who decides when to correct.")
    ] = CorrectionPasses.REQUESTED,
    n_corrections: Annotated[
        int | None, typer.Option(min=0, help="zivos: random corrections per object.", show_default="as many as asked")
    ] = None,
    long_frames: Annotated[
        int | None, typer.Option(min=2, help="zivos: play each clip forward and backward up to this many frames.")
    ] = None,
    frame_rate: Annotated[float, typer.Option(min=0.1, help="zivos: frames per second, for IDI.")] = 24.0,
    click_means: Annotated[
        ClickMeans, typer.Option(help="zivos: what a click says: where the object is, or that the mask is wrong.")
    ] = ClickMeans.WHERE,
) -> None:
    """Measure a method on clips with ground truth: J&F per round, AUC, R-AUC, seconds per frame, memory.

    Ctrl-C keeps the finished clips.
    """
    if context.invoked_subcommand is not None:
        refuse_options(context)
        return
    annotator = AnnotatorSettings(
        start,
        next_frame,
        first_frame,
        frames_per_round,
        click_strategy=click_strategy,
        seed=seed,
        n_starts=starts,
    )
    try:
        check_protocol(context, protocol)
        if protocol is Protocol.ZIVOS:
            method_here = method if is_on_command_line(context, "method") else DEFAULT_ONLINE_METHOD
            choice = method_choice(method_here, segmenter, point_tracker, box_tracker, checkpoint, option)
            run_zivos(
                ZivosOptions(
                    data=data,
                    sequences=sequences,
                    start=start.value if is_on_command_line(context, "start") else DEFAULT_START,
                    choice=choice,
                    corrections=corrections,
                    n_corrections=n_corrections,
                    long_frames=long_frames,
                    frame_rate=frame_rate,
                    click_means=click_means,
                    device=device,
                    seed=seed,
                    objects=objects,
                    json=json,
                )
            )
            return
        choice, store = resolved_choice(
            method_choice(method, segmenter, point_tracker, box_tracker, checkpoint, option)
        )
        folder = data_folder(data)
        frame_indices = frame_numbers(single_frames)
        check_rounds(annotator, rounds, frame_indices)
        settings = {
            "method": choice.method,
            "segmenter": choice.segmenter,
            "point_tracker": choice.point_tracker,
            "box_tracker": choice.box_tracker,
            "checkpoint": None if checkpoint is None else checkpoint.name,
            "options": option_words(choice.options),
            "device": device,
            "seed": seed,
            "data": str(folder),
            "rounds": rounds,
            "objects": objects.value,
            **_annotator_settings(annotator),
            "single_frames": list(frame_indices),
            "embedding_disk_mib": embedding_disk_mib,
        }
        clips = find_clips(folder, comma_separated(sequences))
        check_files(json, plot, masks)
        with ExitStack() as resources:
            embeddings = resources.enter_context(rounds_embeddings(embedding_disk_mib, embedding_folder))
            built = build_method(choice, store=store, device=device, embeddings=embeddings)
            used_device = resolve_device(device)
            kept_open = resources.pop_all()
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    plan = RoundsPlan(clips, objects, annotator, rounds, frame_indices, settings, used_device, json, plot, masks)
    with kept_open:
        run_rounds(plan, built)


def frame_numbers(text: str) -> tuple[int, ...]:
    """Frame indices from a comma-separated list.

    Raises:
        BenchError: it is something else.
    """
    words = comma_separated(text)
    if not all(word.isdecimal() for word in words):
        raise BenchError(f"--single-frames needs frame numbers from 0 such as 0,20,40, but got {text!r}")
    return tuple(dict.fromkeys(int(word) for word in words))


def check_rounds(annotator: AnnotatorSettings, n_rounds: int, single_frames: tuple[int, ...]) -> None:
    """Refuse options that contradict each other.

    Raises:
        BenchError: there are such.
    """
    if annotator.start.gives_first_frame and annotator.first_frame is not None:
        raise BenchError(
            f"--start {annotator.start.value} begins on frame 0; leave out --first-frame, or use --start prompts"
        )
    if annotator.start.gives_first_frame and annotator.n_starts > 1:
        raise BenchError(
            f"--start {annotator.start.value} begins on frame 0 and has one start; leave out --starts, or use "
            "--start prompts, clicks or scribbles"
        )
    if n_rounds == 0 and not single_frames:
        raise BenchError("--rounds 0 measures nothing by itself; give --single-frames 0,20,40, or at least one round")


def run_rounds(plan: RoundsPlan, method: Method) -> None:
    """Run everything, then show and write what was measured, also after Ctrl-C or an error.

    Raises:
        typer.Exit: it was stopped (130), or something went wrong (1).
    """
    entries: list[dict[str, Any]] = []
    single_frames: list[SingleFrameScore] = []
    results = Results(
        lambda complete: report(entries, single_frames, plan.settings, device=plan.device, complete=complete),
        plan.json,
    )

    def run() -> None:
        # The signal is heard between two frames, where nothing can swallow it.
        with StopRequest(repeat_aborts=True) as stop, progress_bar() as progress:
            n_rounds = plan.n_rounds * plan.annotator.n_starts
            bar = progress.add_task("", total=len(plan.clips) * (n_rounds + bool(plan.single_frames)))
            try:
                for clip in plan.clips:
                    stop.check()
                    truth = read_truth(clip, plan.objects)
                    if plan.single_frames:
                        progress.update(bar, description=f"{clip.name}, single frames")
                        seed = plan.annotator.seed
                        single_frames.extend(score_single_frames(clip, truth, method, plan.single_frames, seed))
                        progress.advance(bar)
                    if plan.n_rounds:
                        entries.append(_clip_rounds(plan, clip, truth, method, stop, progress, bar))
                    results.write()
            except Stopped as error:
                raise KeyboardInterrupt from error

    def show(document: dict[str, Any]) -> None:
        show_tables(document, Console())
        if plan.plot is not None and entries:
            plot_report(document, plan.plot)

    results.run_and_report(
        run,
        show,
        lambda: f"{len(entries)} of {len(plan.clips)} clips are finished and kept",
        (BenchError, DatasetError, FrameError),
    )


def _clip_rounds(
    plan: RoundsPlan,
    clip: ClipFiles,
    truth: Truth,
    method: Method,
    stop: StopRequest,
    progress: Progress,
    bar: TaskID,
) -> dict[str, Any]:
    """All rounds of all starts on one clip: its entry in the JSON.

    Raises:
        BenchError: masks cannot be written.
        DatasetError: the clip cannot be measured on.
        FrameError: no frame can be read.
        Stopped: a signal arrived.
    """
    scores: list[ClipScore] = []
    for start in range(plan.annotator.n_starts):
        completed_before = progress.tasks[bar].completed
        run = clip.name if plan.annotator.n_starts == 1 else f"{clip.name}, start {start + 1}"

        def on_frame(number: int, n_frames: int, run: str = run, completed: float = completed_before) -> None:
            stop.check()
            description = f"{run}, round {number}, frame {n_frames}"
            progress.update(bar, description=description, completed=completed + number - 1)

        scores.append(run_clip(clip, truth, method, plan.annotator, plan.n_rounds, on_frame, start))
        progress.update(bar, completed=completed_before + plan.n_rounds)
    if plan.masks is not None:
        write_masks(scores[0], clip, plan.masks)
    return clip_entry(scores)


def write_masks(score: ClipScore, clip: ClipFiles, folder: Path) -> None:
    """Write the final masks of a clip's first start.

    Raises:
        BenchError: they cannot be written.
    """
    from pipeline.export.davis import write_davis

    try:
        write_davis([score.exported(clip)], folder)
    except (OSError, ValueError) as error:
        raise BenchError(f"the masks cannot be written to {folder}: {error}") from error


def _annotator_settings(annotator: AnnotatorSettings) -> dict[str, Any]:
    return {
        "start": annotator.start.value,
        "next_frame": annotator.next_frame.value,
        "first_frame": annotator.first_frame,
        "frames_per_round": annotator.frames_per_round,
        "starts": annotator.n_starts,
        "frames_apart": annotator.frames_apart,
        "click_strategy": annotator.click_strategy.value,
        "max_clicks": annotator.max_clicks,
        "n_positive": annotator.n_positive,
        "n_negative": annotator.n_negative,
        "box_noise_px": annotator.box_noise_px,
        "scribble_width_px": annotator.scribble_width_px,
    }
