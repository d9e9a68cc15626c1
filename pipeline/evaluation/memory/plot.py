"""J&F and the Gram determinant over time, one line per memory policy, as an image or a vector file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation.memory.measurement import running_mean

COLOURS = {"fifo": "#c0392b", "readmem": "#0b3d66"}
LABELS = {"fifo": "first in, first out", "readmem": "READMem"}
ABSENT_COLOUR = "#eceff2"
SMOOTHED_FRAMES = 50


def plot_memory(document: Mapping[str, Any], path: Path) -> None:
    """Draw a document of `memory_report` with at least one finished policy into a file.

    J&F is the mean of the last `SMOOTHED_FRAMES` frames on which the objects' own clip is shown; where another one is,
    the background is grey. The determinant is drawn from where the slots are taken.

    Raises:
        OSError: the file cannot be written.
        ValueError: the file's ending is none of `plot.supported_suffixes`.
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
