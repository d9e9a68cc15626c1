"""What rounds over long clips show: the figures of one length, and the quotients between lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from pipeline.evaluation.datasets import LongClip
from pipeline.evaluation.metrics import region_similarity
from pipeline.evaluation.results import machine, versions
from pipeline.types import RunLengthMask

SCHEMA_VERSION = 1
EDGE_SHARE = 0.1
"""How much of the frames counts as the start, and as the end."""
WINDOWS = 10
"""Parts of the start, and of the end; the middle one's pace counts, so that a short disturbance does not."""
MOST = 1.1
"""What the longest clip may take of what the shortest does: memory; and the end of what the start does: seconds."""


def pace_s(seconds: Sequence[float]) -> float:
    """Seconds per frame: the median of the means over windows."""
    size = max(1, len(seconds) // WINDOWS)
    return median(fmean(seconds[start : start + size]) for start in range(0, len(seconds) - size + 1, size))


def length_entry(clip: LongClip, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one length, from what `long_run.run_long` measured."""
    n_frames, seconds = measured["frames"], measured["seconds"]
    n_edge = max(1, int(n_frames * EDGE_SHARE))
    start_s, end_s = pace_s(seconds[:n_edge]), pace_s(seconds[-n_edge:])
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
    """The JSON document: the figures of every length, and quotients beside what they may be."""
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
        "ratios": {name: {"measured": ratio, "most": MOST, "met": ratio <= MOST} for name, ratio in ratios.items()},
        "disk_inside_bound": all(entry[key] <= bound for entry in ordered for key, bound in bounds.items()),
        "machine": machine(device),
        "versions": versions(),
    }
