"""`ivos bench speed`: how much longer than its image encoder a method takes, with one object and with many."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.cli.console import error_exit, print_note, spinner
from pipeline.cli.options import (
    MethodName,
    MethodOptions,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.cli.stopping import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from pipeline.evaluation.speed.measurement import Compared, SpeedBench
    from pipeline.evaluation.speed.report import SpeedRun

METHOD, SEGMENTER = "idpro", "mobile_sam"


def speed(
    context: typer.Context,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    method: MethodName = METHOD,
    segmenter: SegmenterName = SEGMENTER,
    option: MethodOptions = None,
    frames: Annotated[int, typer.Option(min=4, help="Frames of the 854x480 clip.")] = 40,
    objects: Annotated[int, typer.Option(min=2, max=100, help="Objects to compare with one.")] = 10,
    repeat: Annotated[int, typer.Option(min=1, help="Times everything is measured; the middle of them counts.")] = 1,
    clip: Annotated[
        Path | None, typer.Option(help="Folder with the clip's images.", show_default="a rendered clip")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Also time a loop without cache, SAM 2.1 tiny and EdgeTAM.")] = True,
    json: Annotated[Path | None, typer.Option(help="Write all figures into this file.")] = None,
) -> None:
    """Time rounds beside their image encoder, all in one run; random weights stand in for those that are not here."""
    import torch

    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.evaluation.speed.clip import speed_clip
    from pipeline.evaluation.speed.measurement import EMBEDDING_RAM_MIB, SpeedBench, comparisons, weights_used
    from pipeline.evaluation.speed.report import SpeedRun
    from pipeline.methods import build_method, resolve_device
    from pipeline.video.frames import FrameError

    try:
        check_file(json)
        choice, store = resolved_choice(method_choice(method, segmenter, option=option))
        shown, name = speed_clip(frames, clip)
        torch.manual_seed(0)  # The same random weights in every run.
        built = build_method(
            choice, store=store, device=device, embeddings=EmbeddingCache(EMBEDDING_RAM_MIB), random_weights=True
        )
        used = resolve_device(device)
    except (ValueError, OSError, FrameError) as error:
        raise error_exit(error) from error
    weights = weights_used(choice.segmenter, store)
    # Who mounts this command may say how large a stored session is.
    bench = SpeedBench(shown, built, objects, used, context.obj)
    asked = SpeedRun(choice.method, choice.segmenter, weights, name, repeat, round(os.getloadavg()[0], 2))
    finish(_Progress(bench, asked, json), comparisons(bench, store, weights) if baselines else [])


def check_file(json: Path | None) -> None:
    """Refuse now what could not be written later.

    Raises:
        ValueError: the file's folder is not there.
    """
    if json is not None and (json.is_dir() or not json.absolute().parent.is_dir()):
        raise ValueError(f"--json {json} cannot be written: it needs the name of a file in a folder that exists")


@dataclass
class _Progress:
    """What is measured so far, and what went wrong."""

    bench: SpeedBench
    asked: SpeedRun
    json: Path | None
    compared: list[Compared] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def document(self, *, complete: bool) -> dict[str, Any]:
        """The JSON document."""
        from pipeline.evaluation.speed.report import speed_report

        return speed_report(self.bench, self.asked, self.compared, self.problems, complete=complete)

    def write(self, *, complete: bool) -> dict[str, Any]:
        """Bring the file up to date, if one was asked for."""
        from pipeline.evaluation.results import write_json

        document = self.document(complete=complete)
        if self.json is not None:
            write_json(document, self.json)
        return document


def finish(progress: _Progress, others: list[tuple[Compared, Callable[[], Compared]]]) -> None:
    """Measure everything, then show and write it, also after Ctrl-C; a part that failed is named, and the others go on.

    Raises:
        typer.Exit: it was stopped (130), or a part of the method failed (1).
    """
    from pipeline.evaluation.speed.report import show_speed

    stopped = False
    try:
        _measure(progress, others)
    except KeyboardInterrupt:
        stopped = True
    progress.problems |= suspicious(progress.document(complete=False))
    document = progress.write(complete=not stopped)
    show_speed(document, Console())
    if stopped:
        print_note("stopped; what was measured before is kept")
        raise typer.Exit(EXIT_INTERRUPTED)
    if progress.problems:
        raise error_exit(RuntimeError("; ".join(f"{part}: {problem}" for part, problem in progress.problems.items())))


def suspicious(document: dict[str, Any]) -> dict[str, str]:
    """What makes figures say less than they seem to."""
    counts, found = document["counts"], {}
    if (counts["embeddings_per_frame"] or 0) > 1:
        found["embeddings"] = f"a frame was embedded {counts['embeddings_per_frame']} times in one session"
    for key in ("round1_frames_one_object", "round1_frames_many_objects"):
        if any(n is not None and n < document["clip"]["frames"] for n in counts[key]):
            found[key] = f"a round has masks of {min(counts[key])} frames, not of all {document['clip']['frames']}"
    n_empty, n_masks = (sum(n or 0 for n in counts[key]) for key in ("empty_masks", "masks"))
    if n_empty > n_masks / 10:
        found["masks"] = f"{n_empty} of {n_masks} masks are empty: objects that are nowhere cost less than others"
    return found


def _measure(progress: _Progress, others: list[tuple[Compared, Callable[[], Compared]]]) -> None:
    with spinner() as bars:
        for name, step in progress.bench.steps(progress.asked.repeats):
            bar = bars.add_task(name, total=None)
            try:
                step()
            except Exception as error:  # One part that fails in whatever way must not hide the others.
                progress.problems[name] = _in_one_line(error)
            bars.remove_task(bar)
            progress.write(complete=False)
        for row, measure in others:
            bar = bars.add_task(f"{row.name}, objects: {row.objects}", total=None)
            try:
                progress.compared.append(measure())
            except Exception as error:
                progress.compared.append(replace(row, problem=_in_one_line(error)))
            bars.remove_task(bar)
            progress.write(complete=False)


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
