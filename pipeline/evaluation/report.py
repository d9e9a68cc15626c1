"""The benchmark's JSON: what is measured per clip, and the figures over all clips. docs/bench.md lists every key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.curves import ClipRounds, mean_over_objects, over_rounds, over_time
from pipeline.evaluation.results import machine, peak_rss_mib, versions
from pipeline.evaluation.runner import ClipScore
from pipeline.evaluation.single_frames import KINDS, SingleFrameScore
from pipeline.evaluation.timing import PARTS

SCHEMA_VERSION = 1
AT_S = 60.0
FIGURES = ("j", "f", "jf")


def clip_entry(score: ClipScore) -> dict[str, Any]:
    """One clip's entry of ``sequences``."""
    rounds = [
        {
            "round": r.round,
            **_means(r.j, r.f),
            "seconds": r.seconds,
            "frame_index": r.frame_indices[0],
            "frame_indices": list(r.frame_indices),
            "prompts": r.n_prompts,
            "frames_segmented": r.n_segmented,
            "objects": _by_object(r.j, r.f),
        }
        for r in score.rounds
    ]
    entry: dict[str, Any] = {
        "name": score.name,
        "frames": score.n_frames,
        "height_px": score.size_hw_px[0],
        "width_px": score.size_hw_px[1],
        "objects": len(score.object_ids),
        "rounds": rounds,
        "jf_per_frame": [None if math.isnan(v) else round(float(v), 4) for v in score.jf_per_frame],
        "seconds_by_part": dict(score.part_seconds),
        "before_aggregation": None,
    }
    if score.own_j:
        own = {**_means(score.own_j, score.own_f), "objects": _by_object(score.own_j, score.own_f)}
        entry["before_aggregation"] = own
    return entry | _last(rounds) | _areas([entry]) | _per_frame([entry])


def report(
    entries: Sequence[Mapping[str, Any]],
    single_frames: Sequence[SingleFrameScore],
    settings: Mapping[str, Any],
    *,
    device: str,
    complete: bool,
) -> dict[str, Any]:
    """The whole JSON document.

    Args:
        entries: finished clips, from `clip_entry`.
        single_frames: finished single frames; empty if none were asked for.
        settings: of the run; ``method``, ``segmenter``, ``box_tracker`` and ``seed`` also stand at the top.
        device: the torch device in use.
        complete: whether everything asked for is in it.
    """
    rounds = _rounds(entries)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        **{key: settings[key] for key in ("method", "segmenter", "box_tracker", "seed")},
        "settings": dict(settings),
        "frames": sum(entry["frames"] for entry in entries),
        "objects": sum(entry["objects"] for entry in entries),
        "rounds": rounds,
        **_last(rounds),
        **_areas(entries),
        **_per_frame(entries),
        "sequence_mean": {key: _mean([entry[key] for entry in entries]) for key in FIGURES},
        "before_aggregation": _before_aggregation(entries),
        "peak_rss_mib": peak_rss_mib(),
        "machine": machine(device),
        "versions": versions(),
        "single_frames": _single_frames(single_frames) if single_frames else None,
        "sequences": [dict(entry) for entry in entries],
    }
    return document


def _clips(entries: Sequence[Mapping[str, Any]], key: str) -> list[ClipRounds]:
    return [
        ClipRounds(tuple(r[key] for r in e["rounds"]), tuple(r["seconds"] for r in e["rounds"]), e["objects"])
        for e in entries
    ]


def _rounds(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per round the mean over all objects, and the mean seconds of a clip."""
    n_rounds = len(entries[0]["rounds"]) if entries else 0
    columns = {key: mean_over_objects(_clips(entries, key), n_rounds) if entries else () for key in FIGURES}
    return [
        {"round": i + 1}
        | {key: columns[key][i] for key in FIGURES}
        | {"seconds": _mean([entry["rounds"][i]["seconds"] for entry in entries])}
        for i in range(n_rounds)
    ]


def _areas(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    if not entries:
        return dict.fromkeys(("auc_j", "auc_jf", "r_auc_jf", "j_at_60s", "jf_at_60s"))
    j, jf = over_time(_clips(entries, "j")), over_time(_clips(entries, "jf"))
    return {
        "auc_j": j.area(),
        "auc_jf": jf.area(),
        "r_auc_jf": over_rounds(_clips(entries, "jf")).area(),
        "j_at_60s": j.at(AT_S),
        "jf_at_60s": jf.at(AT_S),
    }


def _per_frame(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    n_segmented = sum(r["frames_segmented"] for entry in entries for r in entry["rounds"])
    by_part = {part: sum(entry["seconds_by_part"][part] for entry in entries) for part in PARTS}
    if not n_segmented:
        return {"seconds_per_frame": None, "seconds_per_frame_by_part": dict.fromkeys(PARTS)}
    return {
        "seconds_per_frame": sum(by_part.values()) / n_segmented,
        "seconds_per_frame_by_part": {part: seconds / n_segmented for part, seconds in by_part.items()},
    }


def _last(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {key: rounds[-1][key] if rounds else None for key in FIGURES}


def _means(j: Mapping[int, float], f: Mapping[int, float]) -> dict[str, float]:
    mean_j, mean_f = float(np.mean(list(j.values()))), float(np.mean(list(f.values())))
    return {"j": mean_j, "f": mean_f, "jf": (mean_j + mean_f) / 2}


def _by_object(j: Mapping[int, float], f: Mapping[int, float]) -> list[dict[str, Any]]:
    return [{"object_id": i, "j": j[i], "f": f[i], "jf": (j[i] + f[i]) / 2} for i in j]


def _before_aggregation(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Means over the objects of the clips with several, before and after they settled who owns which pixel."""
    several = [entry for entry in entries if entry["before_aggregation"]]
    if not several:
        return None
    before = [each for entry in several for each in entry["before_aggregation"]["objects"]]
    after = [each for entry in several for each in entry["rounds"][-1]["objects"]]
    return {
        "objects": len(before),
        **{key: _mean([each[key] for each in before]) for key in FIGURES},
        "after": {key: _mean([each[key] for each in after]) for key in FIGURES},
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _single_frames(scores: Sequence[SingleFrameScore]) -> dict[str, Any]:
    clips = list(dict.fromkeys(score.sequence for score in scores))
    return {
        "frames": sorted({score.frame_index for score in scores}),
        "masks": len(scores),
        "mean_iou": {kind: _mean([score.iou[kind] for score in scores]) for kind in KINDS},
        "sequences": [
            {"name": name, "masks": sum(score.sequence == name for score in scores)}
            | {kind: _mean([score.iou[kind] for score in scores if score.sequence == name]) for kind in KINDS}
            for name in clips
        ],
    }
