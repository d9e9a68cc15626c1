"""`ivos bench speed`: how much longer than its image encoder a method takes, with one object and with many."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.cli.console import error_exit, spinner
from pipeline.cli.options import DeviceName, MethodName, MethodOptions, SegmenterName, method_choice, resolved_choice
from pipeline.cli.stopping import run_and_report
from pipeline.evaluation.options import BenchError, check_files
from pipeline.evaluation.results import Results

if TYPE_CHECKING:
    from pipeline.evaluation.speed.measurement import Comparison, ComparisonRow, SpeedBench
    from pipeline.evaluation.speed.report import SpeedRun
    from pipeline.methods.choice import MethodChoice

METHOD, SEGMENTER = "idpro", "mobile_sam"


def speed(
    context: typer.Context,
    device: DeviceName = "auto",
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
    from pipeline.evaluation.speed.measurement import UNREACHED_RAM_MIB, SpeedBench, comparisons, weights_used
    from pipeline.evaluation.speed.report import SpeedRun
    from pipeline.methods.choice import build_method
    from pipeline.parts.device import resolve_device
    from pipeline.video.frames import FrameError

    try:
        check_files(json)
        choice, store = resolved_choice(method_choice(method, segmenter, option=option))
        weights = weights_used(choice.segmenter, store)
        if weights == "random":
            choice = without_search(choice)
        encoded_clip, clip_name = speed_clip(frames, clip)
        torch.manual_seed(0)  # The same random weights in every run.
        embeddings: EmbeddingCache[Any] = EmbeddingCache(UNREACHED_RAM_MIB)
        built = build_method(choice, store=store, device=device, embeddings=embeddings, random_weights=True)
        used_device = resolve_device(device)
    except (BenchError, ValueError, OSError, FrameError) as error:
        raise error_exit(error) from error
    # The program that mounts this command may say how large a stored session is.
    bench = SpeedBench(encoded_clip, built, objects, used_device, stored_bytes=context.obj)
    load_average = round(os.getloadavg()[0], 2)
    options = SpeedRun(choice.method, choice.segmenter, weights, clip_name, repeat, load_average)
    run_speed(_Measurements(bench, options), comparisons(bench, store, weights) if baselines else [], json)


def without_search(choice: MethodChoice) -> MethodChoice:
    """The choice without the search for lost objects, unless its options ask for it.

    Masks of random weights look like nothing: all objects would count as lost, and cost less than others.
    """
    from pipeline.methods.choice import settings_class

    known = {each.name for each in fields(settings_class(choice.method))}
    return replace(choice, options={"find_lost": False, **choice.options}) if "find_lost" in known else choice


@dataclass
class _Measurements:
    """What is measured so far, and the problems, by the name of the step that failed."""

    bench: SpeedBench
    options: SpeedRun
    rows: list[ComparisonRow] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def document(self, complete: bool) -> dict[str, Any]:
        """The JSON document."""
        from pipeline.evaluation.speed.report import speed_report

        return speed_report(self.bench, self.options, self.rows, self.problems, complete=complete)


def run_speed(measured: _Measurements, others: list[Comparison], json: Path | None) -> None:
    """Measure everything, then show and write it, also after Ctrl-C. A step that fails does not stop the others.

    Raises:
        typer.Exit: it was stopped (130), or a step of the method failed (1).
    """
    from pipeline.evaluation.speed.report import implausible, show_speed

    results = Results(measured.document, json)

    def report(complete: bool) -> None:
        measured.problems |= implausible(measured.document(complete))
        show_speed(results.write(complete=complete), Console())

    run_and_report(lambda: _measure(measured, others, results), report, lambda: "what was measured before is kept", ())
    if measured.problems:
        raise error_exit(RuntimeError("; ".join(f"{part}: {problem}" for part, problem in measured.problems.items())))


def _measure(measured: _Measurements, others: list[Comparison], results: Results) -> None:
    with spinner() as progress:
        for name, step in measured.bench.steps(measured.options.repeats):
            bar = progress.add_task(name, total=None)
            try:
                step()
            except Exception as error:  # Whatever fails in one step must not hide the others.
                measured.problems[name] = _in_one_line(error)
            progress.remove_task(bar)
            results.write()
        for empty_row, measure in others:
            bar = progress.add_task(f"{empty_row.name}, objects: {empty_row.objects}", total=None)
            try:
                measured.rows.append(measure())
            except Exception as error:
                measured.rows.append(replace(empty_row, problem=_in_one_line(error)))
            progress.remove_task(bar)
            results.write()


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
