"""`ivos bench --protocol zivos`: one pass over each clip, with a simulated person who is called and clicks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import resolved_choice
from pipeline.cli.stopping import run_and_report
from pipeline.evaluation.datasets import ClipFiles, DatasetError, Objects, find_clips
from pipeline.evaluation.options import BenchError, check_files, data_folder, names_in
from pipeline.evaluation.zivos.annotator import Corrections, GivenBy
from pipeline.methods import ONLINE_METHODS, build_method, resolve_device
from pipeline.methods.options import option_words
from pipeline.streaming.session import ClickMeans
from pipeline.video.frames import FrameError

if TYPE_CHECKING:
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.zivos.single_pass import PassScore
    from pipeline.methods import MethodChoice
    from pipeline.methods.base import Method

EMBEDDING_RAM_MIB = 256
ONLINE_METHOD = ONLINE_METHODS[0]
DEFAULT_START = GivenBy.CLICKS.value
ONLY_HERE = ("corrections", "n_corrections", "long_frames", "frame_rate", "click_means")
ONLY_IN_ROUNDS = (
    *("rounds", "next_frame", "first_frame", "frames_per_round", "click_strategy", "single_frames", "plot", "masks"),
)


class Protocol(str, Enum):
    """``rounds``: a person reviews the whole clip after each round. ``zivos``: a single pass; the method asks."""

    ROUNDS = "rounds"
    ZIVOS = "zivos"


class Wanted(str, Enum):
    """Which passes to run: see `Corrections`; ``all`` runs the three of them."""

    REQUESTED = "requested"
    RANDOM = "random"
    NONE = "none"
    ALL = "all"


@dataclass(frozen=True)
class ZivosOptions:
    """What was asked for. ``start`` and ``choice`` hold what was given, whether or not it fits.

    ``long_frames`` plays each clip forth and back until it has so many frames; ``n_corrections`` fixes how many random
    ones each object gets; ``click_means`` is that of `OnlineSession`.
    """

    data: Path | None
    sequences: str
    start: str
    choice: MethodChoice
    corrections: Wanted
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
        """The passes, in the order of the run: random ones follow those whose number they take."""
        if self.corrections is Wanted.ALL:
            return (Corrections.REQUESTED, Corrections.RANDOM, Corrections.NONE)
        if self.corrections is Wanted.RANDOM and self.n_corrections is None:
            return (Corrections.REQUESTED, Corrections.RANDOM)
        return (Corrections(self.corrections.value),)


@dataclass
class Finished:
    """The passes over the clips that are done, and their entries in the JSON."""

    passes: list[dict[str, PassScore]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)


def given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def check_protocol(context: typer.Context, protocol: Protocol) -> None:
    """Refuse options of the other protocol.

    Raises:
        BenchError: there is one.
    """
    others = ONLY_IN_ROUNDS if protocol is Protocol.ZIVOS else ONLY_HERE
    named = [f"--{name.replace('_', '-')}" for name in others if given(context, name)]
    if named:
        raise BenchError(f"--protocol {protocol.value} has no {', '.join(named)}; leave it out")


def given_by(start: str) -> GivenBy:
    """How objects are given.

    Raises:
        BenchError: not in this protocol.
    """
    if start not in {each.value for each in GivenBy}:
        raise BenchError(f"--protocol zivos starts from mask or clicks, but got --start {start}")
    return GivenBy(start)


def run_zivos(options: ZivosOptions) -> None:
    """Check everything, then run, show and write it, also after Ctrl-C or an error.

    Raises:
        typer.Exit: something does not fit, or it was stopped.
    """
    from pipeline.embeddings.cache import EmbeddingCache

    try:
        require_online(options.choice.method)
        start = given_by(options.start)
        choice, store = resolved_choice(options.choice)
        folder = data_folder(options.data)
        clips = find_clips(folder, names_in(options.sequences))
        check_files(options.json, None, None)
        cache: EmbeddingCache[Any] = EmbeddingCache(EMBEDDING_RAM_MIB)
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
    finish(options, clips, method, settings, device)


def require_online(method: str) -> None:
    """Refuse a method that cannot work in one pass without later frames.

    Raises:
        BenchError: it cannot.
    """
    if method not in ONLINE_METHODS:
        raise BenchError(f"method {method} needs a whole clip; in a single pass work {', '.join(ONLINE_METHODS)}")


def finish(
    options: ZivosOptions, clips: list[ClipFiles], method: Method, settings: dict[str, Any], device: str
) -> None:
    """Run everything, then show and write what was measured, also after Ctrl-C or an error."""
    from pipeline.evaluation.results import write_json
    from pipeline.evaluation.zivos.report import show_zivos, zivos_report

    finished = Finished()

    def write(*, complete: bool) -> dict[str, Any]:
        kinds = [kind.value for kind in options.kinds]
        document = zivos_report(finished.passes, finished.entries, kinds, settings, device=device, complete=complete)
        if options.json is not None:
            write_json(document, options.json)
        return document

    run_and_report(
        lambda: run(options, clips, method, finished, lambda: write(complete=False)),
        lambda complete: show_zivos(write(complete=complete), Console()),
        lambda: f"{len(finished.entries)} of {len(clips)} clips are finished and kept",
        (DatasetError, FrameError, ValueError),
    )


def run(
    options: ZivosOptions,
    clips: list[ClipFiles],
    method: Method,
    finished: Finished,
    on_clip: Callable[[], object],
) -> None:
    """Run all passes over all clips into ``finished``.

    Raises:
        DatasetError: a clip cannot be measured on.
        ValueError: the method cannot work online.
    """
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.zivos.report import clip_entry

    with progress_bar() as progress:
        bar = progress.add_task("", total=len(clips) * len(options.kinds))
        for files in clips:
            n_frames = options.long_frames or len(files.image_paths)
            clip = LongClip.of([files], n_frames, meaning=options.objects)
            passes: dict[str, PassScore] = {}
            for kind in options.kinds:

                def on_frame(n_done: int, name: str = f"{clip.name}, {kind.value}", n_frames: int = n_frames) -> None:
                    progress.update(bar, description=f"{name}, frame {n_done} of {n_frames}")

                passes[kind.value] = one_pass(options, clip, method, kind, passes, on_frame)
                progress.advance(bar)
            ids = {object_id: found.object_id for object_id, found in clip.objects.items()}
            finished.passes.append(passes)
            finished.entries.append(clip_entry(passes, options.frame_rate, ids, clip.size_hw_px))
            on_clip()


def one_pass(
    options: ZivosOptions,
    clip: LongClip,
    method: Method,
    kind: Corrections,
    earlier: dict[str, PassScore],
    on_frame: Callable[[int], None],
) -> PassScore:
    """One pass over one clip; random calls are as many as the earlier pass asked for, or as many as was said."""
    from pipeline.evaluation.zivos.single_pass import calls_at_random, run_pass, same_calls_at_random

    schedule = None
    if kind is Corrections.RANDOM and options.n_corrections is not None:
        schedule = calls_at_random(clip, options.n_corrections, seed=options.seed)
    elif kind is Corrections.RANDOM:
        schedule = same_calls_at_random(earlier[Corrections.REQUESTED.value], seed=options.seed)
    start, means = given_by(options.start), options.click_means
    return run_pass(clip, method, start, kind, schedule, on_frame, click_means=means)
