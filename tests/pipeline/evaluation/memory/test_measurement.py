"""One pass over a long clip, looked at from inside: what is measured of masks and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.datasets import DatasetError, LongClip, find_clips
from pipeline.evaluation.memory.measurement import MemoryRun, run_memory
from pipeline.evaluation.memory.report import curves, running_mean, summary
from pipeline.methods.choice import MethodChoice
from tests.built_methods import built
from tests.pipeline.evaluation.davis_folder import write_clip, write_rendered_clip

N_FRAMES = 17


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("davis")
    write_rendered_clip(folder, "ours", 5, object_ids=(1,))
    write_rendered_clip(folder, "other", 3, object_ids=(2,))
    late = np.zeros((3, 120, 214), np.uint8)
    late[2, 20:60, 20:60] = 1
    write_clip(folder, "late", late)
    return folder


def long_clip(data: Path, *names: str, n_frames: int = N_FRAMES) -> LongClip:
    return LongClip.from_clips(find_clips(data, names), n_frames, counted=names[0])


@pytest.fixture(scope="module")
def run(data: Path) -> MemoryRun:
    options = {"memory_policy": "readmem", "memory_slots": 1, "interval_frames": 2, "memory_similarity": -1.0}
    method = built(MethodChoice("idpro", "lite", options=options))
    return run_memory(long_clip(data, "ours", "other"), method)


def test_every_frame_but_the_given_one_is_scored(run: MemoryRun) -> None:
    assert run.object_ids == (1,)
    assert np.isnan(run.jf[0]).all()
    assert not np.isnan(run.jf[1:]).any()
    assert float(run.jf[1:5].min()) > 0.5
    shown = [*[False] * 9, *[True] * 5, *[False] * 3]
    assert run.absent[:, 0].tolist() == shown
    assert bool((run.seconds[1:] > 0).all())


def test_the_memory_is_measured_from_when_it_is_full(run: MemoryRun) -> None:
    taken = [t for t in range(N_FRAMES) if not np.isnan(run.log_dets[t, 0])]
    assert taken == [10]
    assert len(run.kept[1]) == 1
    assert run.n_changes[0] >= 1


def test_figures_of_a_pass() -> None:
    jf = np.array([[np.nan], [1.0], [0.5], [0.0], [1.0], [0.25], [0.75], [0.25]])
    absent = np.array([[False], [False], [False], [True], [True], [False], [False], [False]])
    log_dets = np.full((8, 1), np.nan)
    log_dets[[5, 6], 0] = -2.0, -4.0
    run = MemoryRun((1,), jf, absent, log_dets, {1: (5,)}, (2,), np.array([9.0, 1, 2, 2, 2, 2, 2, 3]))
    found = summary(run)
    assert found["jf"] == pytest.approx(3.75 / 7)
    assert found["jf_present"] == pytest.approx(2.75 / 5)
    assert found["jf_present_last_quarter"] == 0.5
    assert found["jf_absent"] == 0.5
    assert (found["log_det"], found["log_det_last"]) == (-3.0, -4.0)
    assert (found["changes"], found["kept"]) == (2, {"1": [5]})
    assert (found["seconds_per_frame_first_tenth"], found["seconds_per_frame_last_tenth"]) == (1.0, 3.0)
    assert curves(run)["jf"][:3] == [None, 1.0, 0.5]
    assert curves(run)["log_det"] == [None] * 5 + [-2.0, -4.0, None]


def test_objects_count_alike() -> None:
    jf = np.array([[np.nan, np.nan], [1.0, 0.0], [1.0, np.nan]])
    run = MemoryRun((1, 2), jf, np.zeros((3, 2), np.bool_), np.full((3, 2), np.nan), {}, (0, 0), np.ones(3))
    assert summary(run)["jf"] == 0.5
    assert summary(run)["jf_absent"] is None
    assert summary(run)["log_det"] is None


def test_a_method_without_a_policy_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="has no policy; choose i_pt, idpro"):
        run_memory(long_clip(data, "ours"), built(MethodChoice("sam_pd", "lite")))


def test_a_pass_needs_an_object_on_its_first_frame(data: Path) -> None:
    with pytest.raises(DatasetError, match="late shows no object that counts on frame 0"):
        run_memory(long_clip(data, "late"), built(MethodChoice("idpro", "lite")))


def test_the_running_mean_leaves_out_what_is_missing() -> None:
    assert running_mean([None, 1.0, 0.0, None, None], 2) == [None, 1.0, 0.5, 0.0, None]
