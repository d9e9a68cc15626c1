"""`ivos bench memory`: READMem against first in, first out on a long clip, with equally many slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    DeviceName,
    MethodName,
    MethodOptions,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.evaluation.datasets import DatasetError
from pipeline.evaluation.options import (
    SINGLE_PASS_EMBEDDING_RAM_MIB,
    BenchError,
    DataFolder,
    LongSequences,
    check_files,
    comma_separated,
    data_folder,
)
from pipeline.evaluation.results import Results
from pipeline.parts.auto import DOWNLOAD_FREE

if TYPE_CHECKING:
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.memory.measurement import MemoryRun
    from pipeline.methods.base import Method
    from pipeline.methods.choice import MethodChoice

SEQUENCES = "dog,libby"
METHOD = "idpro"


@dataclass(frozen=True)
class MemoryPlan:
    """What to run and where to write it; ``methods`` builds the method with each policy, by the policy's name."""

    clip: LongClip
    methods: Mapping[str, Callable[[], Method]]
    settings: Mapping[str, Any]
    device: str
    json: Path | None
    plot: Path | None


def memory(
    data: DataFolder = None,
    sequences: LongSequences = SEQUENCES,
    frames: Annotated[int, typer.Option(min=2, help="Frames of the long clip.")] = 1000,
    slots: Annotated[int, typer.Option(min=1, help="Frames in memory beside the prompted one.")] = 6,
    interval: Annotated[int, typer.Option(min=1, help="Offer one frame to the memory every so many frames.")] = 5,
    method: MethodName = METHOD,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    option: MethodOptions = None,
    device: DeviceName = "auto",
    json: Annotated[Path | None, typer.Option(help="Write all figures and both curves into this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw J&F and the Gram determinant over time into it.")] = None,
) -> None:
    """Follow the objects of one clip through a long one, once with each memory policy, from the mask of frame 0."""
    try:
        memory_settings = {"memory_slots": slots, _interval_setting(method): interval}
        parts = method, segmenter, option
        plan = _plan(data, comma_separated(sequences), frames, parts, memory_settings, device, json, plot)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    run_policies(plan)


def run_policies(plan: MemoryPlan) -> None:
    """Run every policy, then show and write what was measured, also after Ctrl-C or an error.

    Raises:
        typer.Exit: it was stopped (130), or something does not fit (1).
    """
    from pipeline.evaluation.memory.measurement import run_memory
    from pipeline.evaluation.memory.report import memory_report, plot_memory, show_memory
    from pipeline.video.frames import FrameError

    runs: dict[str, MemoryRun] = {}
    results = Results(
        lambda complete: memory_report(plan.clip, runs, plan.settings, device=plan.device, complete=complete),
        plan.json,
    )

    def plot(document: Mapping[str, Any]) -> None:
        if plan.plot is not None and runs:
            plot_memory(document, plan.plot)

    def run() -> None:
        with progress_bar() as progress:
            for name, build in plan.methods.items():
                bar = progress.add_task(name, total=len(plan.clip))

                def on_frame(n_frames: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=n_frames)

                runs[name] = run_memory(plan.clip, build(), on_frame)
                plot(results.write())

    def show(document: Mapping[str, Any]) -> None:
        plot(document)
        show_memory(document, Console())

    results.run_and_report(
        run,
        show,
        lambda: f"{', '.join(runs) or 'nothing'} is finished and kept",
        (DatasetError, ValueError, FrameError),
    )


def _plan(
    data: Path | None,
    names: list[str],
    n_frames: int,
    parts: tuple[str, str, list[str] | None],
    memory_settings: Mapping[str, int],
    device: str,
    json: Path | None,
    plot: Path | None,
) -> MemoryPlan:
    """The plan that the options describe, checked.

    Raises:
        BenchError, DatasetError, ValueError, OSError: an option does not fit.
    """
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.evaluation.datasets import LongClip, find_clips
    from pipeline.memory.policy_settings import POLICIES
    from pipeline.methods.choice import build_method, option_words
    from pipeline.parts.device import resolve_device

    if not names:
        raise BenchError("--sequences needs a clip at least: the one whose objects count")
    method, segmenter, option = parts
    choice, store = resolved_choice(method_choice(method, segmenter, option=option))
    set_twice = sorted({*memory_settings, "memory_policy"} & set(choice.options))
    if set_twice:
        raise BenchError(
            f"--option {', '.join(set_twice)} must be left out: both policies are run, with --slots and --interval"
        )
    check_files(json, plot)
    folder = data_folder(data)
    clip = LongClip.from_clips(find_clips(folder, names), n_frames, counted=names[0])
    methods: dict[str, Callable[[], Method]] = {}
    for policy in POLICIES:
        with_policy = replace(choice, options={**choice.options, **memory_settings, "memory_policy": policy})

        def build(with_policy: MethodChoice = with_policy) -> Method:
            embeddings: EmbeddingCache[Any] = EmbeddingCache(SINGLE_PASS_EMBEDDING_RAM_MIB)
            return build_method(with_policy, store=store, device=device, embeddings=embeddings)

        build()  # An option that does not fit is refused now, not after hours.
        methods[policy] = build
    settings = {
        "method": choice.method,
        "segmenter": choice.segmenter,
        "options": option_words({**choice.options, **memory_settings}),
        "device": device,
        "data": str(folder),
        "sequences": names,
        "frames": n_frames,
    }
    return MemoryPlan(clip, methods, settings, resolve_device(device), json, plot)


def _interval_setting(method: str) -> str:
    """The setting of a method that says how often a frame is offered to its memory."""
    return "memory_interval_frames" if method == "i_pt" else "interval_frames"
