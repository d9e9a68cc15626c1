"""`ivos bench long`: does a long video cost more memory, more disk or more seconds per frame than a short one?"""

from __future__ import annotations

import json as json_format
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    DEFAULT_CHOICE,
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

SEQUENCES = "blackswan"
LEAST_FRAMES = 20
FIGURES = {
    "peak_rss_mib": "peak memory, MiB",
    "rss_mib_before": "of that before the round",
    "session_mib": "masks and memories of the session",
    "embedding_ram_mib": "embeddings in memory",
    "frame_disk_mib": "frames on disk",
    "embedding_disk_mib": "embeddings on disk",
    "frames_kept_on_disk": "frames never decoded again",
    "decode_seconds": "first pass over the video, s",
    "seconds_per_frame": "seconds per frame",
    "seconds_per_frame_start": "first tenth",
    "seconds_per_frame_end": "last tenth",
    "j_start": "J, first tenth",
    "j_end": "J, last tenth",
}


@dataclass(frozen=True)
class LongPlan:
    """What to run and where to write it; ``settings`` go to the process of every length and stand in the JSON."""

    clip: LongClip
    lengths: tuple[int, ...]
    settings: Mapping[str, Any]
    places: Mapping[str, Any]
    device: str
    json: Path | None


@dataclass
class Finished:
    """What is measured so far."""

    entries: list[dict[str, Any]] = field(default_factory=list)

    def write(self, plan: LongPlan, *, complete: bool) -> dict[str, Any]:
        """Bring the file up to date, and give the JSON document."""
        from pipeline.evaluation.long.report import long_report
        from pipeline.evaluation.results import write_json

        document = long_report(self.entries, plan.settings, device=plan.device, complete=complete)
        if plan.json is not None:
            write_json(document, plan.json)
        return document


def long(
    data: DataFolder = None,
    sequences: LongSequences = SEQUENCES,
    frames: Annotated[str, typer.Option(help="Lengths to compare, in frames.")] = "300,3000",
    method: MethodName = DEFAULT_CHOICE.method,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    option: MethodOptions = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    embedding_ram_mib: Annotated[int, typer.Option(min=16, help="Bound of embeddings in memory.")] = 256,
    embedding_disk_mib: Annotated[int, typer.Option(min=0, help="Bound of embeddings on disk; 0: none.")] = 0,
    frame_disk_mib: Annotated[int, typer.Option(min=1, help="Bound of decoded frames on disk.")] = 64,
    json: Annotated[Path | None, typer.Option(help="Write all figures into this file.")] = None,
) -> None:
    """Play a clip forth and back as a video file, follow its objects from frame 0, and compare lengths.

    Every length runs in a process of its own.
    """
    bounds = {
        "embedding_ram_mib": embedding_ram_mib,
        "embedding_disk_mib": embedding_disk_mib,
        "frame_disk_mib": frame_disk_mib,
    }
    try:
        plan = _plan(data, names_in(sequences), frames, (method, segmenter, option), bounds, device, json)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    finish(plan)


def finish(plan: LongPlan) -> None:
    """Measure every length, then show and write what was measured, also after Ctrl-C or an error.

    Raises:
        typer.Exit: it was stopped (130), or something went wrong (1).
    """
    from pipeline.video.frames import FrameError

    finished = Finished()

    def run() -> None:
        with progress_bar() as progress:
            for n_frames in plan.lengths:
                _measure(plan, n_frames, finished, progress)

    run_and_report(
        run,
        lambda complete: _show(finished.write(plan, complete=complete), Console()),
        lambda: f"{len(finished.entries)} of {len(plan.lengths)} lengths are kept",
        (BenchError, FrameError, OSError),
    )


def _measure(plan: LongPlan, n_frames: int, finished: Finished, progress: Progress) -> None:
    from pipeline.evaluation.long.child import long_task, write_long_video
    from pipeline.evaluation.long.report import length_entry

    bar = progress.add_task(f"{n_frames} frames, writing the video", total=n_frames)

    def on_frame(done: int) -> None:
        progress.update(bar, completed=done)

    with tempfile.TemporaryDirectory(prefix="ivos-long-") as folder:
        video = Path(folder) / "long.mp4"
        write_long_video(plan.clip, video, n_frames, on_frame)
        progress.update(bar, description=f"{n_frames} frames", completed=0)
        task = asdict(long_task(plan.clip, video, plan.settings["frame_disk_mib"]))
        asked = {**plan.settings, **plan.places, **task, "embedding_folder": str(Path(folder) / "embeddings")}
        measured = run_in_process(asked, Path(folder), on_frame)
        finished.entries.append(length_entry(plan.clip, measured))
    finished.write(plan, complete=False)


def run_in_process(asked: Mapping[str, Any], folder: Path, on_frame: Callable[[int], None]) -> dict[str, Any]:
    """Measure one length in a process of its own, which ends with this call.

    Raises:
        BenchError: it failed.
    """
    task_file, result_file = folder / "task.json", folder / "result.json"
    task_file.write_text(json_format.dumps(asked))
    command = [sys.executable, "-m", "pipeline.evaluation.long.child", str(task_file), str(result_file)]
    with (folder / "stderr").open("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if line.strip().isdecimal():
                    on_frame(int(line))
            code = child.wait()
        finally:
            child.kill()
            child.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if code or not result_file.is_file():
        raise BenchError(f"the process of this length ended with {code}: {said[-1] if said else 'it said nothing'}")
    result: dict[str, Any] = json_format.loads(result_file.read_text())
    return result


def _plan(
    data: Path | None,
    names: list[str],
    frames: str,
    parts: tuple[str, str, list[str] | None],
    bounds: Mapping[str, int],
    device: str,
    json: Path | None,
) -> LongPlan:
    """What was asked for, checked.

    Raises:
        BenchError, DatasetError, ValueError, OSError: it does not fit.
    """
    from pipeline.embeddings.disk import LEAST_MIB
    from pipeline.evaluation.datasets import LongClip, find_clips
    from pipeline.methods import require_here, resolve_device

    words = names_in(frames)
    lengths = sorted({int(word) for word in words if word.isdecimal()})
    if len(lengths) != len(words) or not lengths or lengths[0] < LEAST_FRAMES:
        raise BenchError(
            f"--frames needs different lengths of {LEAST_FRAMES} frames or more such as 300,3000, but got {frames!r}"
        )
    if not names:
        raise BenchError("--sequences needs a clip at least: the one whose objects count")
    if 0 < bounds["embedding_disk_mib"] < LEAST_MIB:
        raise BenchError(f"--embedding-disk-mib must be 0, or {LEAST_MIB} or more")
    check_files(json, None, None)
    method, segmenter, option = parts
    choice, store = resolved_choice(method_choice(method, segmenter, option=option))
    require_here(choice, store)
    folder = data_folder(data)
    clip = LongClip.of(find_clips(folder, names), lengths[-1], counted=names[0])
    settings = {
        **{key: getattr(choice, key) for key in ("method", "segmenter", "point_tracker", "box_tracker")},
        "options": dict(choice.options),
        "device": device,
        "data": str(folder),
        "sequences": names,
        "frames": lengths,
        **bounds,
    }
    places = {"model_dir": str(store.folder), "model_mirror": store.mirror}
    return LongPlan(clip, tuple(lengths), settings, places, resolve_device(device), json)


def _show(document: Mapping[str, Any], out: Console) -> None:
    settings = document["settings"]
    table = Table(title=f"{settings['method']}, {settings['segmenter']}, {'+'.join(settings['sequences'])}")
    table.add_column("frames")
    for entry in document["lengths"]:
        table.add_column(str(entry["frames"]), justify="right")
    for key, title in FIGURES.items():
        cells = [entry[key] for entry in document["lengths"]]
        table.add_row(title, *("-" if c is None else str(c) if isinstance(c, int) else f"{c:.3f}" for c in cells))
    out.print(table)
    for name, ratio in document["ratios"].items():
        met = "met" if ratio["met"] else "not met"
        out.print(f"{name}: {ratio['measured']:.3f}, at most {ratio['most']}: {met}", highlight=False)
    inside = "inside" if document["disk_inside_bound"] else "NOT inside"
    out.print(f"disk: {inside} its bounds", highlight=False)
