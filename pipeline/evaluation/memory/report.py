"""What `ivos bench memory` says: the JSON with figures and curves, the plot, and the table on screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipeline.evaluation.datasets import LongClip
from pipeline.evaluation.memory.measurement import MemoryRun
from pipeline.evaluation.results import machine, peak_rss_mib, versions

SCHEMA_VERSION = 1
FIGURES_SHOWN = (
    *("jf", "jf_present", "jf_present_last_quarter", "jf_absent", "log_det", "changes", "seconds_per_frame"),
)
COLOURS = {"fifo": "#c0392b", "readmem": "#0b3d66"}
LABELS = {"fifo": "first in, first out", "readmem": "READMem"}
ABSENT_COLOUR = "#eceff2"
SMOOTHED_FRAMES = 50


def plot_memory(document: Mapping[str, Any], path: Path) -> None:
    """Draw a document of `memory_report` with at least one finished policy into a file.

    J&F is the mean of the last `SMOOTHED_FRAMES` frames on which the objects' own clip is shown; where another one is,
    the background is grey. The determinant is drawn from the first frame on which all slots are taken.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib writes no files with this ending.
    """
    from matplotlib.figure import Figure

    absent = document["clip"]["absent"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    over_jf, over_det = figure.subplots(2, 1, sharex=True)
    for axes in (over_jf, over_det):
        for start, end in _stretches(absent):
            axes.axvspan(start, end, color=ABSENT_COLOUR, linewidth=0)
        axes.grid(alpha=0.3)
    for policy, found in document["policies"].items():
        style = {"color": COLOURS.get(policy), "label": LABELS.get(policy, policy)}
        present = [None if gone else jf for jf, gone in zip(found["curves"]["jf"], absent, strict=True)]
        smooth = running_mean(present, SMOOTHED_FRAMES)
        drawn = [math.nan if gone or jf is None else jf for jf, gone in zip(smooth, absent, strict=True)]
        over_jf.plot(drawn, **style)
        taken = [(frame, value) for frame, value in enumerate(found["curves"]["log_det"]) if value is not None]
        over_det.plot([frame for frame, _ in taken], [value for _, value in taken], **style)
    over_jf.set(ylabel=f"J&F, mean of {SMOOTHED_FRAMES} frames", ylim=(0, 1))
    over_det.set(ylabel="ln of the Gram determinant", xlabel="frame", xlim=(0, len(absent) - 1))
    over_jf.legend(loc="lower left", frameon=False)
    settings = document["settings"]
    figure.suptitle(f"{settings['method']}, {settings['segmenter']}: {document['clip']['name']}, {len(absent)} frames")
    figure.savefig(path, dpi=150)


def _stretches(absent: list[bool]) -> list[tuple[int, int]]:
    """First and last frame of each stretch of True."""
    edges = [t for t in range(len(absent) + 1) if (t < len(absent) and absent[t]) != (t > 0 and absent[t - 1])]
    return [(start, end - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def summary(run: MemoryRun) -> dict[str, Any]:
    """Figures of one pass; means over frames, then over objects.

    ``jf`` is over all frames but the first, ``jf_present`` over those on which the object's own clip is shown,
    ``jf_absent`` over the others (a mask there counts 0, none 1), ``jf_present_last_quarter`` over the last quarter of
    the clip. ``log_det`` is the mean over the frames on which it was computed.
    """
    late = np.zeros_like(run.absent)
    late[-(len(late) // 4) or None :] = True
    tenth = max(1, len(run.seconds) // 10)
    return {
        "jf": _mean(run.jf),
        "jf_present": _mean(run.jf, ~run.absent),
        "jf_present_last_quarter": _mean(run.jf, ~run.absent & late),
        "jf_absent": _mean(run.jf, run.absent),
        "log_det": _mean(run.log_dets),
        "log_det_last": _last(run.log_dets),
        "changes": sum(run.n_changes),
        "kept": {str(i): list(frames) for i, frames in run.kept.items()},
        "seconds_per_frame": float(run.seconds.mean()),
        "seconds_per_frame_first_tenth": float(run.seconds[1 : tenth + 1].mean()),
        "seconds_per_frame_last_tenth": float(run.seconds[-tenth:].mean()),
    }


def curves(run: MemoryRun) -> dict[str, list[float | None]]:
    """By frame the means over objects of ``jf`` and ``log_det``; None where there is none."""
    return {"jf": _by_frame(run.jf), "log_det": _by_frame(run.log_dets)}


def memory_report(
    clip: LongClip, runs: Mapping[str, MemoryRun], settings: Mapping[str, Any], *, device: str, complete: bool
) -> dict[str, Any]:
    """The JSON document.

    Args:
        clip: that every policy ran on.
        runs: the finished ones, by policy.
        settings: of the command.
        device: the torch device in use.
        complete: whether all policies are finished.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        "settings": dict(settings),
        "clip": {
            "name": clip.name,
            "frames": len(clip),
            "height_px": clip.size_hw_px[0],
            "width_px": clip.size_hw_px[1],
            "objects": 0 if not runs else len(next(iter(runs.values())).object_ids),
            "absent": [bool(all(clip.is_absent(t, i) for i in clip.object_ids)) for t in range(len(clip))],
        },
        "policies": {name: {**summary(run), "curves": curves(run)} for name, run in runs.items()},
        "peak_rss_mib": peak_rss_mib(),
        "machine": machine(device),
        "versions": versions(),
    }


def show_memory(document: Mapping[str, Any], console: Console) -> None:
    """Show a document of `memory_report`: a column per policy."""
    table = Table(title=f"{document['settings']['method']}, {document['clip']['name']}", title_justify="left")
    table.add_column("figure")
    for policy in document["policies"]:
        table.add_column(policy, justify="right")
    for key in FIGURES_SHOWN:
        cells = [found[key] for found in document["policies"].values()]
        table.add_row(key, *("-" if c is None else str(c) if isinstance(c, int) else f"{c:.3f}" for c in cells))
    console.print(table)


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_] | None = None) -> float | None:
    chosen = np.where(True if where is None else where, values, np.nan)
    columns = [column[~np.isnan(column)] for column in chosen.T]
    means = [float(column.mean()) for column in columns if len(column)]
    return float(np.mean(means)) if means else None


def _last(values: NDArray[np.float64]) -> float | None:
    columns = [column[~np.isnan(column)] for column in values.T]
    last = [float(column[-1]) for column in columns if len(column)]
    return float(np.mean(last)) if last else None


def _by_frame(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(row).all() else round(float(np.nanmean(row)), 4) for row in values]


def running_mean(values: Sequence[float | None], n_frames: int) -> list[float | None]:
    """The mean of the last ``n_frames`` values, those that are None left out; None where all are."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        part = [value for value in values[max(0, end - n_frames) : end] if value is not None]
        means.append(sum(part) / len(part) if part else None)
    return means
