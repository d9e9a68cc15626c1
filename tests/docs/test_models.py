"""The table of models is what the registry and the measurement kept beside it say."""

from __future__ import annotations

import json
import re
from typing import Any

from model_zoo.registry import Model, load_registry
from pipeline.evaluation.speed.models import TASK_BY_NAME
from tests.clips import REPOSITORY

PAGE = (REPOSITORY / "docs" / "models.md").read_text()
MEASURED: dict[str, Any] = json.loads((REPOSITORY / "benchmarks" / "models.json").read_text())
NO_MODEL = ("", "", "")


def cells_of(name: str) -> list[str]:
    """The cells of a model's row: task, size, licence, extra, seconds per frame, weights that were timed."""
    model = load_registry().get(name)
    size, licence, extra = NO_MODEL if model is None else (_size(model), model.licence, model.extra)
    timed = next(row for row in MEASURED["models"] if row["name"] == name)
    seconds = timed["seconds_per_frame"]
    shown = "not timed" if seconds is None else f"{seconds:.3f}"
    return [TASK_BY_NAME[name], size, licence, f"`{extra}`" if extra else "", shown, timed["weights"]]


def _size(model: Model) -> str:
    return "not stated" if model.size_bytes is None else f"{model.size_bytes / 2**20:,.0f} MiB"


def test_every_model_stands_in_the_table_as_measured() -> None:
    section = PAGE.split("## All models")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    assert {row[0].strip("`"): row[1:] for row in rows[2:]} == {name: cells_of(name) for name in TASK_BY_NAME}


RUNS = {
    "`--box-tracker opencv_template`": "one_pass",
    "`--box-tracker nanotrack_v2`": "trackers_nanotrack",
    "`--point-tracker xfeat`": "trackers_xfeat",
    "`--point-tracker xfeat --option restart=never`": "trackers_xfeat_never",
}


def tracker_rows() -> dict[str, list[str]]:
    """Mean J, J&F and seconds per frame over the clips of one object, by what was chosen."""
    rows = {}
    for options, name in RUNS.items():
        document = json.loads((REPOSITORY / "benchmarks" / f"{name}.json").read_text())
        clips = [clip for clip in document["sequences"] if not clip["name"].startswith("comp-")]
        assert (document["complete"], len(clips)) == (True, 10)
        keys = ("j", "jf", "seconds_per_frame")
        rows[options] = [f"{sum(clip[key] for clip in clips) / len(clips):.3f}" for key in keys]
    return rows


def test_the_trackers_stand_in_their_table_as_measured() -> None:
    section = PAGE.split("## Which tracker")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    assert {row[1]: row[2:] for row in rows[2:]} == tracker_rows()
