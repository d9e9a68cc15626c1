"""`ivos bench memory`: READMem against first in, first out on a long clip, with equally many slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    MethodName,
    MethodOptions,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.cli.stopping import run_and_report
from pipeline.evaluation.datasets import DatasetError
from pipeline.evaluation.options import (
    BenchError,
    DataFolder,
    LongSequences,
    check_files,
    data_folder,
    names_in,
)
from pipeline.parts.auto import DOWNLOAD_FREE

if TYPE_CHECKING:
    from pipeline.evaluation.datasets import LongClip
    from pipeline.evaluation.memory.measurement import MemoryRun
    from pipeline.methods.base import Method

SEQUENCES = "dog,libby"
METHOD = "idpro"
EMBEDDING_RAM_MIB = 256
FIGURES = ("jf", "jf_present", "jf_present_last_quarter", "jf_absent", "log_det", "changes", "seconds_per_frame")


@dataclass(frozen=True)
class MemoryPlan:
    """What to run and where to write it: a way to build the method for each policy by its name."""

    clip: LongClip
    methods: Mapping[str, Callable[[], Method]]
    settings: Mapping[str, Any]
    device: str
    json: Path | None
    plot: Path | None


@dataclass
class Finished:
    """What is measured so far, by policy."""

    runs: dict[str, MemoryRun] = field(default_factory=dict)

    def write(self, plan: MemoryPlan, *, complete: bool) -> dict[str, Any]:
        """Bring the files up to date, and give the JSON document."""
        from pipeline.evaluation.memory.report import memory_report, plot_memory
        from pipeline.evaluation.results import write_json

        document = memory_report(plan.clip, self.runs, plan.settings, device=plan.device, complete=complete)
        if plan.json is not None:
            write_json(document, plan.json)
        if plan.plot is not None and self.runs:
            plot_memory(document, plan.plot)
        return document


def memory(
    data: DataFolder = None,
    sequences: LongSequences = SEQUENCES,
    frames: Annotated[int, typer.Option(min=2, help="Frames of the long clip.")] = 1000,
    slots: Annotated[int, typer.Option(min=1, help="Frames in memory beside the prompted one.")] = 6,
    interval: Annotated[int, typer.Option(min=1, help="Every how many frames one is offered to the memory.")] = 5,
    method: MethodName = METHOD,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    option: MethodOptions = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write all figures and both curves into this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw J&F and the Gram determinant over time into it.")] = None,
) -> None:
    """Follow the objects of one clip through a long one, once with each memory policy, from the mask of frame 0."""
    try:
        own = {"memory_slots": slots, _interval_of(method): interval}
        plan = _plan(data, names_in(sequences), frames, (method, segmenter, option), own, device, json, plot)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    finish(plan)


def finish(plan: MemoryPlan) -> None:
    """Run every policy, then show and write what was measured, also after Ctrl-C or an error.

    Raises:
        typer.Exit: it was stopped (130), or something does not fit (1).
    """
    from pipeline.evaluation.memory.measurement import run_memory
    from pipeline.video.frames import FrameError

    finished = Finished()

    def run() -> None:
        with progress_bar() as progress:
            for name, build in plan.methods.items():
                bar = progress.add_task(name, total=len(plan.clip))

                def on_frame(n_frames: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=n_frames)

                finished.runs[name] = run_memory(plan.clip, build(), on_frame)
                finished.write(plan, complete=False)

    run_and_report(
        run,
        lambda complete: _show(finished.write(plan, complete=complete), Console()),
        lambda: f"{', '.join(finished.runs) or 'nothing'} is finished and kept",
        (DatasetError, ValueError, FrameError),
    )


def _plan(
    data: Path | None,
    names: list[str],
    n_frames: int,
    parts: tuple[str, str, list[str] | None],
    own: Mapping[str, int],
    device: str,
    json: Path | None,
    plot: Path | None,
) -> MemoryPlan:
    """What was asked for, checked.

    Raises:
        BenchError, DatasetError, ValueError, OSError: it does not fit.
    """
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.evaluation.datasets import LongClip, find_clips
    from pipeline.memory.policies import POLICIES
    from pipeline.methods import build_method, resolve_device
    from pipeline.methods.options import option_words

    if not names:
        raise BenchError("--sequences needs a clip at least: the one whose objects count")
    method, segmenter, option = parts
    choice, store = resolved_choice(method_choice(method, segmenter, option=option))
    twice = sorted({*own, "memory_policy"} & set(choice.options))
    if twice:
        raise BenchError(
            f"--option {', '.join(twice)} must be left out: both policies are run, with --slots and --interval"
        )
    check_files(json, plot, None)
    folder = data_folder(data)
    clip = LongClip.of(find_clips(folder, names), n_frames, counted=names[0])
    methods: dict[str, Callable[[], Method]] = {}
    for policy in POLICIES:
        options = {**choice.options, **own, "memory_policy": policy}
        tried = replace(choice, options=options)

        def build(tried: Any = tried) -> Method:
            return build_method(tried, store=store, device=device, embeddings=EmbeddingCache(EMBEDDING_RAM_MIB))

        build()  # What does not fit is said before hours are spent.
        methods[policy] = build
    settings = {
        "method": choice.method,
        "segmenter": choice.segmenter,
        "options": option_words({**choice.options, **own}),
        "device": device,
        "data": str(folder),
        "sequences": names,
        "frames": n_frames,
    }
    return MemoryPlan(clip, methods, settings, resolve_device(device), json, plot)


def _interval_of(method: str) -> str:
    """The setting of a method that says how often a frame is offered to its memory."""
    return "memory_interval_frames" if method == "i_pt" else "interval_frames"


def _show(document: Mapping[str, Any], out: Console) -> None:
    table = Table(title=f"{document['settings']['method']}, {document['clip']['name']}", title_justify="left")
    table.add_column("figure")
    for policy in document["policies"]:
        table.add_column(policy, justify="right")
    for key in FIGURES:
        cells = [found[key] for found in document["policies"].values()]
        table.add_row(key, *("-" if c is None else str(c) if isinstance(c, int) else f"{c:.3f}" for c in cells))
    out.print(table)
