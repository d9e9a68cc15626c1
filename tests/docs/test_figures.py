"""The figures in the documents are those of the measurements kept beside them."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from tests.clips import REPOSITORY

RESULTS, EARLIER = ((REPOSITORY / "docs" / f"{name}.md").read_text() for name in ("results", "results_classical"))


def measurement(name: str) -> dict[str, Any]:
    """A file of ``benchmarks/``."""
    document: dict[str, Any] = json.loads((REPOSITORY / "benchmarks" / f"{name}.json").read_text())
    return document


def rows(title: str, document: str = EARLIER) -> dict[str, list[str]]:
    """The table below a title: cells by first cell."""
    section = document.split(f"\n## {title}")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    return {row[0]: row[1:] for row in cells[2:]}


def shown(*figures: float) -> list[str]:
    return [f"{figure:.3f}" for figure in figures]


def test_one_pass() -> None:
    clips = measurement("one_pass")["sequences"]
    table = rows("One pass")
    assert table == {clip["name"]: shown(clip["j"], clip["f"], clip["seconds_per_frame"]) for clip in clips}
    single = [clip["j"] for clip in clips if not clip["name"].startswith("comp-")]
    assert f"**{sum(single) / len(single):.3f}**" in EARLIER


def test_single_frames() -> None:
    found = measurement("single_frames")["single_frames"]
    kinds = ("box", "box_clicks", "click")
    expected = {clip["name"]: shown(*(clip[kind] for kind in kinds)) for clip in found["sequences"]}
    expected[f"**mean of {found['masks']} masks**"] = shown(*(found["mean_iou"][kind] for kind in kinds))
    assert rows("Single frames") == expected


def test_eight_rounds() -> None:
    # Where a clip is in both runs, the first one's figures stand.
    by_name = {clip["name"]: clip for name in ("rounds_2", "rounds") for clip in measurement(name)["sequences"]}
    clips = list(by_name.values())
    expected = {clip["name"]: shown(*(each["jf"] for each in clip["rounds"])) for clip in clips}
    objects = np.array([[entry["jf"] for clip in clips for entry in clip["rounds"][k]["objects"]] for k in range(8)])
    means = objects.mean(axis=1)
    expected[f"**mean of {objects.shape[1]} objects**"] = shown(*means)
    earlier = measurement("rounds_before")["rounds"]
    expected["mean before"] = shown(*(each["jf"] for each in earlier))
    assert rows("Eight rounds") == expected
    for curve in (means, [each["jf"] for each in earlier]):
        heights = np.array([0.0, *curve, curve[-1]])
        assert f"**{float(np.mean((heights[1:] + heights[:-1]) / 2)):.3f}**" in EARLIER


def test_how_far_corrections_spread() -> None:
    expected = {}
    for name, suffix, mean in (("spread", "", "**mean of ten clips**"), ("spread_before", ", before", "mean before")):
        curves = {clip["name"]: [each["jf"] for each in clip["rounds"]] for clip in measurement(name)["sequences"]}
        expected |= {clip + suffix: shown(*curve) for clip, curve in curves.items()}
        expected[mean] = shown(*np.mean(list(curves.values()), axis=0))
    assert rows("How far corrections spread") == expected


@pytest.mark.parametrize("name", ["ablation_points", "ablation_boxes", "ablation_memory"])
def test_ablation(name: str) -> None:
    found = measurement(name)
    (cells,) = [cells for first, cells in rows("What each part").items() if f"{name}.json" in first]
    assert cells[1:3] == shown(found["j"], found["jf"])


def test_idpro_on_the_composed_clips() -> None:
    one_pass, rounds = measurement("composed_one_pass"), measurement("composed_rounds")
    figures: dict[str, list[float]] = {}
    for document in (one_pass, rounds):
        for clip in document["sequences"]:
            pairs = zip(clip["before_aggregation"]["objects"], clip["rounds"][-1]["objects"], strict=True)
            for before, after in pairs:
                figures.setdefault(f"{clip['name']}, {before['object_id']}", []).extend([before["jf"], after["jf"]])
    expected = {name: shown(*values) for name, values in figures.items()}
    expected["**mean**"] = shown(*np.mean(list(figures.values()), axis=0))
    assert rows("IDPro") == expected
    for document in (one_pass, rounds):
        assert f"**{document['before_aggregation']['after']['j']:.3f}**" in EARLIER


def test_several_frames_in_one_round() -> None:
    single = {clip["name"]: clip["rounds"] for clip in measurement("frames_1")["sequences"]}
    figures = {
        clip["name"]: [
            *(clip["rounds"][k]["jf"] for k in (0, 1, 2)),
            *(single[clip["name"]][k]["jf"] for k in (2, 5, 8)),
        ]
        for clip in measurement("frames_3")["sequences"]
    }
    expected = {name: shown(*values) for name, values in figures.items()}
    expected["**mean**"] = shown(*np.mean(list(figures.values()), axis=0))
    assert rows("Several frames") == expected


def test_speed() -> None:
    found = measurement("speed")
    sign = {"at_most": "<=", "at_least": ">="}
    expected = {}
    for name, ratio in found["ratios"].items():
        ((kind, limit),) = found["targets"][name].items()
        expected[f"`{name}`"] = [f"{ratio:.3f}", f"{sign[kind]} {limit:.2f}", "yes" if found["met"][name] else "no"]
    assert rows("Speed") == expected
    beside = {
        f"{row['name']}, {row['objects']}": [str(row["frames_timed"]), *shown(row["seconds_per_frame"])]
        for row in found["side_by_side"]
    }
    assert rows("Side by side") == beside


def test_next_frames() -> None:
    measured = {name: measurement(f"next_{name}") for name in ("suggested", "random", "worst")}
    assert rows("The suggested frame") == {
        name: shown(*(each["jf"] for each in found["rounds"]), found["r_auc_jf"]) for name, found in measured.items()
    }
    clips = {tuple(clip["name"] for clip in found["sequences"]) for found in measured.values()}
    assert len(clips) == 1
    suggested, random, worst = (found["r_auc_jf"] for found in measured.values())
    assert f"**{(suggested - random) / (worst - random):.0%}**" in EARLIER


@pytest.mark.parametrize("method", ["idpro", "i_pt"])
def test_long_videos(method: str) -> None:
    found = measurement(f"long_{method}")
    assert found["complete"]
    assert found["settings"]["method"] == method
    table = {first: cells for first, cells in rows("Long videos").items() if first.startswith(f"{method},")}
    assert table == {
        f"{method}, {each['frames']}": [
            f"{each['peak_rss_mib']:.0f}",
            f"{each['frame_disk_mib']:.1f}",
            *shown(each["seconds_per_frame_start"], each["seconds_per_frame_end"], each["end_vs_start"]),
            *shown(each["j_start"], each["j_end"]),
        ]
        for each in found["lengths"]
    }
    assert f"{found['ratios']['peak_rss']['measured']:.3f}" in EARLIER


def test_memory_policies() -> None:
    expected = {}
    for name in ("libby", "dog"):
        found = measurement(f"memory_{name}")
        assert found["complete"]
        clips, frames = ", ".join(found["settings"]["sequences"]), found["settings"]["frames"]
        for policy, each in found["policies"].items():
            figures = (each["jf_present"], each["jf_present_last_quarter"], each["jf_absent"])
            determinants = [f"{each['log_det']:.2f}", f"{each['log_det_last']:.2f}"]
            expected[f"{clips}; {frames}; {policy}"] = [*shown(*figures), *determinants, str(each["changes"])]
    assert rows("READMem") == expected


def test_help_on_the_way() -> None:
    helped, unhelped = measurement("zivos")["passes"], measurement("zivos_none")["passes"]["none"]
    passes = {f"twelve: {kind}": each for kind, each in {**helped, "neither": unhelped}.items()}
    for clip in ("libby", "bmx-trees"):
        long = measurement(f"zivos_long_{clip}")["passes"]
        passes |= {f"{clip}, 300 frames: {kind}": each for kind, each in long.items()}
    expected = {}
    for name, each in passes.items():
        robustness = (each["robustness"][share] for share in ("0.1", "0.25", "0.5"))
        expected[name] = [*shown(each["j"], *robustness), str(each["noc"])]
    assert rows("Help on the way") == expected
    assert unhelped["spearman_objects"] == 15
    for key in ("spearman_median", "spearman_of_score_median"):
        assert f"**{unhelped[key]:.3f}**" in EARLIER


KINDS = ("box", "box_clicks", "click", "click_1", "click_2", "click_3")


def test_masks_from_prompts() -> None:
    found, before = (measurement(name)["single_frames"] for name in ("lite_single_frames", "single_frames"))
    expected = {clip["name"]: shown(*(clip[kind] for kind in KINDS)) for clip in found["sequences"]}
    expected[f"**mean of {found['masks']} masks**"] = shown(*(found["mean_iou"][kind] for kind in KINDS))
    expected["mean of `classical`"] = [*shown(*(before["mean_iou"][kind] for kind in KINDS[:3])), "", "", ""]
    assert rows("Masks from prompts", RESULTS) == expected


def test_one_pass_from_the_true_first_mask() -> None:
    clips = measurement("lite_one_pass_i_pt")["sequences"]
    figures = {clip["name"]: [clip["j"], clip["f"], clip["seconds_per_frame"]] for clip in clips}
    for title, composed in (("**mean of ten single clips**", False), ("**mean of two composed clips**", True)):
        chosen = [each for name, each in figures.items() if name.startswith("comp-") is composed]
        figures[title] = list(np.mean(chosen, axis=0))
    table = rows("One pass from the true first mask", RESULTS)
    assert {name: row[:3] for name, row in table.items()} == {name: shown(*each) for name, each in figures.items()}
