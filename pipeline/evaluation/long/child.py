"""The process in which `ivos bench long` measures one length: a task file in, a result file out, progress on stdout.

It runs one round over the video and measures what the round holds, on disk and in memory, and how fast it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.results import peak_rss_mib
from pipeline.types import MaskPrompt, RunLengthMask

if TYPE_CHECKING:
    from pipeline.embeddings.cache import EmbeddingCache
    from pipeline.methods.base import Method

MIB = 2**20


@dataclass(frozen=True)
class LongTask:
    """The round to run: the video, the masks of the objects on its frame 0 as COCO run lengths, and a bound in MiB."""

    video: str
    objects: dict[int, str]
    size_hw_px: tuple[int, int]
    frame_disk_mib: float

    def prompts(self) -> list[MaskPrompt]:
        """The masks as prompts."""
        height_px, width_px = self.size_hw_px
        return [
            MaskPrompt(object_id, 0, RunLengthMask(height_px, width_px, counts.encode()))
            for object_id, counts in self.objects.items()
        ]


def run_long(
    task: LongTask, method: Method, embeddings: EmbeddingCache[Any], on_frame: Callable[[int], None]
) -> dict[str, Any]:
    """Segment every frame of the video, and measure. Of the results only the masks are kept.

    Returns:
        what JSON can hold; ``masks`` are COCO run lengths by object and frame.
    """
    import psutil

    from pipeline.session.session import Session
    from pipeline.video.video_file import VideoFileFrames

    prompts = task.prompts()
    process = psutil.Process()
    with VideoFileFrames(Path(task.video), disk_mib=task.frame_disk_mib) as frames:
        session = Session(frames, method)
        before_mib = process.memory_info().rss / MIB
        n_missing = dict.fromkeys(range(len(frames)), len(prompts))
        seconds, rss_mib, disk_mib = [], [], 0.0
        last_s = time.perf_counter()
        for result in session.run_round(prompts, object_ids=task.objects.keys()):
            n_missing[result.frame_index] -= 1
            if n_missing[result.frame_index]:
                continue
            now_s = time.perf_counter()
            seconds.append(round(now_s - last_s, 5))
            last_s = now_s
            disk = 0 if embeddings.disk is None else embeddings.disk.held_bytes
            disk_mib = max(disk_mib, disk / MIB)
            if len(seconds) % max(1, len(frames) // 20) == 0:
                rss_mib.append([len(seconds), round(process.memory_info().rss / MIB, 1)])
            on_frame(len(seconds))
        peak_mib = peak_own_rss_mib()
        return {
            "frames": len(frames),
            "frames_kept_on_disk": frames.kept_frames,
            "decode_seconds": round(frames.decode_s, 3),
            "seconds": seconds,
            "rss_mib_before": round(before_mib, 1),
            "rss_mib": rss_mib,
            "peak_rss_mib": round(peak_mib, 1),
            "session_mib": round(session.held_bytes / MIB, 2),
            "embedding_ram_mib": round(embeddings.held_bytes / MIB, 1),
            "frame_disk_mib": round(frames.peak_disk_bytes / MIB, 2),
            "embedding_disk_mib": round(disk_mib, 2),
            "masks": {
                object_id: {r.frame_index: r.mask.counts.decode() for r in session.results(object_id)}
                for object_id in task.objects
            },
        }


def peak_own_rss_mib() -> float:
    """The peak memory of this program in MiB.

    `peak_rss_mib` may also count what the parent process held when it was forked; this does not, where ``/proc`` tells.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return peak_rss_mib()


def main(task_file: Path, result_file: Path) -> None:
    """Run the task file's round and write what it measured.

    Args:
        task_file: JSON with the fields of `LongTask`, the settings of `ivos bench long`, and the models' places.
        result_file: gets what `run_long` returns, as JSON.
    """
    from model_zoo.store import ModelStore
    from pipeline.embeddings.cache import embedding_cache
    from pipeline.methods.choice import MethodChoice, build_method

    task: dict[str, Any] = json.loads(task_file.read_text())
    long_round = LongTask(
        task["video"],
        {int(object_id): counts for object_id, counts in task["objects"].items()},
        (task["size_hw_px"][0], task["size_hw_px"][1]),
        task["frame_disk_mib"],
    )
    choice = MethodChoice(
        task["method"],
        task["segmenter"],
        task["point_tracker"],
        task["box_tracker"],
        options=task["options"],
    )
    embeddings = embedding_cache(task["embedding_ram_mib"], task["embedding_disk_mib"], Path(task["embedding_folder"]))
    store = ModelStore(Path(task["model_dir"]), task["model_mirror"])
    method = build_method(choice, store=store, device=task["device"], embeddings=embeddings)
    result = run_long(long_round, method, embeddings, lambda n_frames: print(n_frames, flush=True))
    embeddings.close()
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
