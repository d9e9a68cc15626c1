"""`ivos bench long`: does a long video cost more memory, more disk or more seconds per frame than a short one?"""

from __future__ import annotations

import json as json_format
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from pipeline.cli.console import error_exit, progress_bar
from pipeline.cli.options import (
    DEFAULT_CHOICE,
    DeviceName,
    MethodName,
    MethodOptions,
    SegmenterName,
    method_choice,
    resolved_choice,
)
from pipeline.evaluation.datasets import DatasetError
from pipeline.evaluation.long.child import LongTask
from pipeline.evaluation.options import (
    BenchError,
    DataFolder,
    LongSequences,
    check_files,
    comma_separated,
    data_folder,
)
from pipeline.evaluation.results import Results
from pipeline.parts.auto import DOWNLOAD_FREE
from pipeline.types import RunLengthMask

if TYPE_CHECKING:
    from pipeline.evaluation.datasets import LongClip

SEQUENCES = "blackswan"
LEAST_FRAMES = 20
VIDEO_FRAMES_PER_S = 25


@dataclass(frozen=True)
class LongPlan:
    """What to run and where to write it.

    ``settings`` go to the process of each length and into the JSON, ``places`` (of the models) only to the process.
    """

    clip: LongClip
    lengths: tuple[int, ...]
    settings: Mapping[str, Any]
    places: Mapping[str, Any]
    device: str
    json: Path | None


def long(
    data: DataFolder = None,
    sequences: LongSequences = SEQUENCES,
    frames: Annotated[str, typer.Option(help="Lengths to compare, in frames.")] = "300,3000",
    method: MethodName = DEFAULT_CHOICE.method,
    segmenter: SegmenterName = DOWNLOAD_FREE,
    option: MethodOptions = None,
    device: DeviceName = "auto",
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
        plan = _plan(data, comma_separated(sequences), frames, (method, segmenter, option), bounds, device, json)
    except (BenchError, DatasetError, ValueError, OSError) as error:
        raise error_exit(error) from error
    run_lengths(plan)


def run_lengths(plan: LongPlan) -> None:
    """Measure every length, then show and write what was measured, also after Ctrl-C or an error.

    Raises:
        typer.Exit: it was stopped (130), or something went wrong (1).
    """
    from pipeline.evaluation.long.report import long_report, show_long
    from pipeline.video.frames import FrameError

    entries: list[dict[str, Any]] = []
    results = Results(
        lambda complete: long_report(entries, plan.settings, device=plan.device, complete=complete), plan.json
    )

    def run() -> None:
        with progress_bar() as progress:
            for n_frames in plan.lengths:
                entries.append(_measure_length(plan, n_frames, progress))
                results.write()

    results.run_and_report(
        run,
        lambda document: show_long(document, Console()),
        lambda: f"{len(entries)} of {len(plan.lengths)} lengths are kept",
        (BenchError, FrameError, OSError),
    )


def _measure_length(plan: LongPlan, n_frames: int, progress: Progress) -> dict[str, Any]:
    from pipeline.evaluation.long.report import length_entry

    bar = progress.add_task(f"{n_frames} frames, writing the video", total=n_frames)

    def on_frame(done: int) -> None:
        progress.update(bar, completed=done)

    with tempfile.TemporaryDirectory(prefix="ivos-long-") as folder:
        video = Path(folder) / "long.mp4"
        write_long_video(plan.clip, video, n_frames, on_frame)
        progress.update(bar, description=f"{n_frames} frames", completed=0)
        task = asdict(long_task(plan.clip, video, plan.settings["frame_disk_mib"]))
        task |= {**plan.settings, **plan.places, "embedding_folder": str(Path(folder) / "embeddings")}
        return length_entry(plan.clip, run_in_process(task, Path(folder), on_frame))


def write_long_video(clip: LongClip, path: Path, n_frames: int, on_frame: Callable[[int], None]) -> None:
    """Render the beginning of a long clip as an MP4.

    Raises:
        OSError: it cannot be written.
        FrameError: a frame cannot be read.
    """
    import cv2

    height_px, width_px = clip.size_hw_px
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, VIDEO_FRAMES_PER_S, (width_px, height_px))
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write the video {path}")
    frames = clip.frames
    for frame_index in range(n_frames):
        writer.write(cv2.cvtColor(frames.frame(frame_index), cv2.COLOR_RGB2BGR))
        on_frame(frame_index + 1)
    writer.release()


def long_task(clip: LongClip, video: Path, frame_disk_mib: float) -> LongTask:
    """The round that starts from the true masks of the objects on frame 0.

    Raises:
        ValueError: it shows none of those that count.
    """
    masks = {object_id: clip.mask(0, object_id) for object_id in clip.object_ids}
    counts = {object_id: RunLengthMask.encode(mask).counts.decode() for object_id, mask in masks.items() if mask.any()}
    if not counts:
        raise ValueError(f"{clip.name}: frame 0 shows none of the objects that count; name another clip first")
    return LongTask(str(video), counts, clip.size_hw_px, frame_disk_mib)


def run_in_process(task: Mapping[str, Any], folder: Path, on_frame: Callable[[int], None]) -> dict[str, Any]:
    """Measure one length in a process of its own, which ends with this call.

    Args:
        task: see `child.main`.
        folder: for the files that pass the task and the result.
        on_frame: called with the number of frames done.

    Raises:
        BenchError: it failed.
    """
    task_file, result_file = folder / "task.json", folder / "result.json"
    task_file.write_text(json_format.dumps(task))
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
        error_lines = errors.read().strip().splitlines()
    if code or not result_file.is_file():
        raise BenchError(
            f"the process of this length ended with {code}: {error_lines[-1] if error_lines else 'it said nothing'}"
        )
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
    """The plan that the options describe, checked.

    Raises:
        BenchError, DatasetError, ValueError, OSError: an option does not fit.
    """
    from pipeline.embeddings.disk import LEAST_MIB
    from pipeline.evaluation.datasets import LongClip, find_clips
    from pipeline.methods.choice import require_installed
    from pipeline.parts.device import resolve_device

    words = comma_separated(frames)
    lengths = sorted({int(word) for word in words if word.isdecimal()})
    if len(lengths) != len(words) or not lengths or lengths[0] < LEAST_FRAMES:
        raise BenchError(
            f"--frames needs different lengths of {LEAST_FRAMES} frames or more such as 300,3000, but got {frames!r}"
        )
    if not names:
        raise BenchError("--sequences needs a clip at least: the one whose objects count")
    if 0 < bounds["embedding_disk_mib"] < LEAST_MIB:
        raise BenchError(f"--embedding-disk-mib must be 0, or {LEAST_MIB} or more")
    check_files(json)
    method, segmenter, option = parts
    choice, store = resolved_choice(method_choice(method, segmenter, option=option))
    require_installed(choice, store)
    folder = data_folder(data)
    clip = LongClip.from_clips(find_clips(folder, names), lengths[-1], counted=names[0])
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
