"""`ivos bench --protocol zivos`: a single pass over each clip; the simulated annotator clicks where the method asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import resolved_choice
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Objects, find_clips
from pipeline.evaluation.options import (
    SINGLE_PASS_EMBEDDING_RAM_MIB,
    BenchError,
    check_files,
    comma_separated,
    data_folder,
    is_on_command_line,
    option_flags,
)
from pipeline.evaluation.results import Results
from pipeline.evaluation.zivos.annotator import Corrections, InitialPrompt
from pipeline.methods.choice import build_method, online_methods, option_words
from pipeline.parts.device import resolve_device
from pipeline.streaming.session import ClickMeans
from pipeline.video.frames import FrameError

if TYPE_CHECKING:
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.zivos.single_pass import PassScore
    from pipeline.methods.base import Method
    from pipeline.methods.choice import MethodChoice

DEFAULT_START = InitialPrompt.CLICKS.value
ZIVOS_ONLY = ("corrections", "n_corrections", "long_frames", "frame_rate", "click_means")
ROUNDS_ONLY = (
    *("rounds", "next_frame", "first_frame", "frames_per_round", "starts", "click_strategy", "single_frames", "plot"),
    *("masks", "embedding_disk_mib", "embedding_folder"),
)


class Protocol(str, Enum):
    """``rounds``: prompts, then masks of the whole clip, again and again. ``zivos``: a single pass; the method asks."""

    ROUNDS = "rounds"
    ZIVOS = "zivos"


class CorrectionPasses(str, Enum):
    """Which passes to run over each clip: one kind of `Corrections`, or ``all`` three one after the other."""

    REQUESTED = "requested"
    RANDOM = "random"
    NONE = "none"
    ALL = "all"


@dataclass(frozen=True)
class ZivosOptions:
    """The options of the command line, not yet checked.

    ``long_frames`` plays each clip forward and backward until it has this many frames. ``n_corrections`` is the number
    of random corrections per object; None takes as many as the method requested. ``click_means`` is that of
    `OnlineSession`.
    """

    data: Path | None
    sequences: str
    start: str
    choice: MethodChoice
    corrections: CorrectionPasses
    n_corrections: int | None
    long_frames: int | None
    frame_rate: float
    click_means: ClickMeans
    device: str
    seed: int
    objects: Objects
    json: Path | None

    @property
    def kinds(self) -> tuple[Corrections, ...]:
        """The passes in the order of the run: a random pass takes its number of corrections from a requested one."""
        if self.corrections is CorrectionPasses.ALL:
            return (Corrections.REQUESTED, Corrections.RANDOM, Corrections.NONE)
        if self.corrections is CorrectionPasses.RANDOM and self.n_corrections is None:
            return (Corrections.REQUESTED, Corrections.RANDOM)
        return (Corrections(self.corrections.value),)


def check_protocol(context: typer.Context, protocol: Protocol) -> None:
    """Refuse options of the other protocol.

    Raises:
        BenchError: there is one.
    """
    others = ROUNDS_ONLY if protocol is Protocol.ZIVOS else ZIVOS_ONLY
    misplaced = [option for option in others if is_on_command_line(context, option)]
    if misplaced:
        raise BenchError(f"--protocol {protocol.value} has no {option_flags(misplaced)}; leave it out")


def initial_prompt(start: str) -> InitialPrompt:
    """The prompt that ``--start`` names.

    Raises:
        BenchError: this protocol does not have it.
    """
    if start not in {each.value for each in InitialPrompt}:
        raise BenchError(f"--protocol zivos starts from mask or clicks, but got --start {start}")
    return InitialPrompt(start)


def require_online(method: str) -> None:
    """Refuse a method that cannot work in one pass without later frames.

    Raises:
        BenchError: it cannot.
    """
    if method not in online_methods():
        raise BenchError(f"method {method} needs a whole clip; in a single pass work {', '.join(online_methods())}")


def run_zivos(options: ZivosOptions) -> None:
    """Check everything, then run, show and write it, also after Ctrl-C or an error.

    Raises:
        typer.Exit: an option does not fit or a clip cannot be measured on (1), or it was stopped (130).
    """
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.evaluation.zivos.report import show_zivos, zivos_report

    try:
        require_online(options.choice.method)
        start = initial_prompt(options.start)
        choice, store = resolved_choice(options.choice)
        folder = data_folder(options.data)
        clips = find_clips(folder, comma_separated(options.sequences))
        check_files(options.json)
        cache: EmbeddingCache[Any] = EmbeddingCache(SINGLE_PASS_EMBEDDING_RAM_MIB)
        method = build_method(choice, store=store, device=options.device, embeddings=cache)
        device = resolve_device(options.device)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    settings = {
        "method": choice.method,
        "segmenter": choice.segmenter,
        "checkpoint": None if choice.checkpoint is None else choice.checkpoint.name,
        "options": option_words(choice.options),
        "device": options.device,
        "seed": options.seed,
        "data": str(folder),
        "objects": options.objects.value,
        "start": start.value,
        "corrections": options.corrections.value,
        "n_corrections": options.n_corrections,
        "long_frames": options.long_frames,
        "frames_per_s": options.frame_rate,
        "click_means": options.click_means.value,
    }
    kinds = [kind.value for kind in options.kinds]
    passes: list[dict[str, PassScore]] = []
    entries: list[dict[str, Any]] = []
    results = Results(
        lambda complete: zivos_report(passes, entries, kinds, settings, device=device, complete=complete),
        options.json,
    )

    def run() -> None:
        with progress_bar() as progress:
            bar = progress.add_task("", total=len(clips) * len(kinds))
            for files in clips:
                of_clip, entry = run_clip_passes(options, files, method, progress, bar)
                passes.append(of_clip)
                entries.append(entry)
                results.write()

    results.run_and_report(
        run,
        lambda document: show_zivos(document, Console()),
        lambda: f"{len(entries)} of {len(clips)} clips are finished and kept",
        (DatasetError, FrameError, ValueError),
    )


def run_clip_passes(
    options: ZivosOptions, files: ClipFiles, method: Method, progress: Progress, bar: TaskID
) -> tuple[dict[str, PassScore], dict[str, Any]]:
    """All passes over one clip.

    Returns:
        the passes by kind, and the clip's entry in the JSON.

    Raises:
        DatasetError: the clip cannot be measured on.
        ValueError: the method cannot work online.
    """
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.zivos.report import clip_entry

    n_frames = options.long_frames or len(files.image_paths)
    clip = LongClip.from_clips([files], n_frames, meaning=options.objects)
    passes: dict[str, PassScore] = {}
    for kind in options.kinds:

        def on_frame(n_done: int, name: str = f"{clip.name}, {kind.value}") -> None:
            progress.update(bar, description=f"{name}, frame {n_done} of {n_frames}")

        passes[kind.value] = one_pass(options, clip, method, kind, passes, on_frame)
        progress.advance(bar)
    object_ids = {object_id: source.object_id for object_id, source in clip.objects.items()}
    return passes, clip_entry(passes, options.frame_rate, object_ids, clip.size_hw_px)


def one_pass(
    options: ZivosOptions,
    clip: LongClip,
    method: Method,
    kind: Corrections,
    earlier: dict[str, PassScore],
    on_frame: Callable[[int], None],
) -> PassScore:
    """One pass over one clip. Random corrections are ``n_corrections``, or as many as the earlier pass requested."""
    from pipeline.evaluation.zivos.single_pass import corrections_at_random, run_pass, same_number_at_random

    schedule = None
    if kind is Corrections.RANDOM and options.n_corrections is not None:
        schedule = corrections_at_random(clip, options.n_corrections, seed=options.seed)
    elif kind is Corrections.RANDOM:
        schedule = same_number_at_random(earlier[Corrections.REQUESTED.value], seed=options.seed)
    start, means = initial_prompt(options.start), options.click_means
    return run_pass(clip, method, start, kind, schedule, on_frame, click_means=means)
