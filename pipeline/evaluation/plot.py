"""The curve of a benchmark: J&F over rounds and over seconds, as an image or a vector file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLIP_COLOUR, MEAN_COLOUR = "#b8c4d0", "#0b3d66"


def supported_suffixes() -> tuple[str, ...]:
    """Endings of files that `plot_report` can write, without the dot."""
    from matplotlib.figure import Figure

    return tuple(sorted(Figure().canvas.get_supported_filetypes()))


def plot_report(document: Mapping[str, Any], path: Path) -> None:
    """Draw the rounds of a report (see `report.report`) with at least one finished clip into a file.

    Raises:
        OSError: the file cannot be written.
        ValueError: the file's ending is none of `supported_suffixes`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    over_rounds, over_seconds = figure.subplots(1, 2, sharey=True)
    for entry in document["sequences"]:
        _line(over_rounds, over_seconds, entry["rounds"], color=CLIP_COLOUR, linewidth=1)
    label = "mean over objects" if document["objects"] > 1 else "the one object"
    _line(over_rounds, over_seconds, document["rounds"], color=MEAN_COLOUR, linewidth=2.5, marker="o", label=label)
    over_rounds.set(xlabel="round", ylabel="J&F", ylim=(0, 1), xticks=[r["round"] for r in document["rounds"]])
    over_seconds.set(xlabel="accumulated time of a clip (s)", xlim=(0, None))
    for axes in (over_rounds, over_seconds):
        axes.grid(alpha=0.3)
    over_rounds.legend(loc="lower right", frameon=False)
    n_clips = len(document["sequences"])
    clips = "1 clip" if n_clips == 1 else f"{n_clips} clips (grey)"
    figure.suptitle(f"{document['method']}, {document['segmenter']}: {clips}, R-AUC-J&F {document['r_auc_jf']:.3f}")
    figure.savefig(path, dpi=150)


def _line(over_rounds: Any, over_seconds: Any, rounds: list[dict[str, Any]], **style: Any) -> None:
    jf = [r["jf"] for r in rounds]
    over_rounds.plot([r["round"] for r in rounds], jf, **style)
    over_seconds.plot(np.cumsum([r["seconds"] for r in rounds]), jf, **style)
