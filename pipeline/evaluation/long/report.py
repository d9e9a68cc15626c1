"""What `ivos bench long` says: the JSON with the figures of each length and their quotients, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.evaluation.datasets import LongClip
from pipeline.evaluation.metrics import region_similarity
from pipeline.evaluation.results import machine, versions
from pipeline.types import RunLengthMask

SCHEMA_VERSION = 1
FIGURE_TITLES = {
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
EDGE_SHARE = 0.1
"""The share of the frames that is the start, and the share that is the end."""
WINDOWS = 10
"""Parts of the start, and of the end. The median part counts, so that a short disturbance of the machine does not."""
MAX_RATIO = 1.1
"""Bound of the memory of the longest clip over that of the shortest, and of seconds at the end over the start."""


def steady_seconds(seconds: Sequence[float]) -> float:
    """Seconds per frame: the median of the means over windows."""
    size = max(1, len(seconds) // WINDOWS)
    return median(fmean(seconds[start : start + size]) for start in range(0, len(seconds) - size + 1, size))


def length_entry(clip: LongClip, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one length, from what `child.run_long` measured."""
    n_frames, seconds = measured["frames"], measured["seconds"]
    n_edge = max(1, int(n_frames * EDGE_SHARE))
    start_s, end_s = steady_seconds(seconds[:n_edge]), steady_seconds(seconds[-n_edge:])
    kept = {key: value for key, value in measured.items() if key not in ("seconds", "masks")}
    return {
        **kept,
        "seconds_per_frame": fmean(seconds),
        "seconds_per_frame_start": start_s,
        "seconds_per_frame_end": end_s,
        "end_vs_start": end_s / start_s,
        "j_start": _mean_j(clip, measured["masks"], range(n_edge)),
        "j_end": _mean_j(clip, measured["masks"], range(n_frames - n_edge, n_frames)),
    }


def _mean_j(clip: LongClip, masks: Mapping[str, Mapping[str, str]], indices: range) -> float | None:
    """Mean J over objects and the frames that show their clip; a missing mask is empty. None if no frame does."""
    height_px, width_px = clip.size_hw_px
    found = []
    for object_id, by_frame in masks.items():
        for frame_index in indices:
            if clip.is_absent(frame_index, int(object_id)):
                continue
            truth = clip.mask(frame_index, int(object_id))
            counts = by_frame.get(str(frame_index))
            mask = RunLengthMask(height_px, width_px, counts.encode()).decode() if counts is not None else truth & False
            found.append(region_similarity(mask, truth))
    return fmean(found) if found else None


def long_report(
    entries: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], *, device: str, complete: bool
) -> dict[str, Any]:
    """The JSON document: the figures of every length, and the quotients with their bounds."""
    ordered = sorted(entries, key=lambda entry: entry["frames"])
    ratios: dict[str, Any] = {f"end_vs_start_{entry['frames']}": entry["end_vs_start"] for entry in ordered}
    if len(ordered) > 1:
        ratios = {"peak_rss": ordered[-1]["peak_rss_mib"] / ordered[0]["peak_rss_mib"], **ratios}
    bounds = {key: settings[key] for key in ("frame_disk_mib", "embedding_disk_mib")}
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        "settings": dict(settings),
        "lengths": [dict(entry) for entry in ordered],
        "ratios": {
            name: {"measured": ratio, "most": MAX_RATIO, "met": ratio <= MAX_RATIO} for name, ratio in ratios.items()
        },
        "disk_inside_bound": all(entry[key] <= bound for entry in ordered for key, bound in bounds.items()),
        "machine": machine(device),
        "versions": versions(),
    }


def show_long(document: Mapping[str, Any], console: Console) -> None:
    """Show a document of `long_report`: a column per length, then the quotients."""
    settings = document["settings"]
    table = Table(title=f"{settings['method']}, {settings['segmenter']}, {'+'.join(settings['sequences'])}")
    table.add_column("frames")
    for entry in document["lengths"]:
        table.add_column(str(entry["frames"]), justify="right")
    for key, title in FIGURE_TITLES.items():
        cells = [entry[key] for entry in document["lengths"]]
        table.add_row(title, *("-" if c is None else str(c) if isinstance(c, int) else f"{c:.3f}" for c in cells))
    console.print(table)
    for name, ratio in document["ratios"].items():
        met = "met" if ratio["met"] else "not met"
        console.print(f"{name}: {ratio['measured']:.3f}, at most {ratio['most']}: {met}", highlight=False)
    inside = "inside" if document["disk_inside_bound"] else "NOT inside"
    console.print(f"disk: {inside} its bounds", highlight=False)
