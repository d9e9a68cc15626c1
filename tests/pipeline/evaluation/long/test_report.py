"""The figures of long runs: pace robust against a disturbance, J where the object is, quotients beside their bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.datasets import LongClip, find_clips
from pipeline.evaluation.long.report import length_entry, long_report, steady_seconds
from pipeline.types import RunLengthMask
from tests.clips import REPOSITORY
from tests.pipeline.evaluation.davis_folder import write_clip

SETTINGS = {"frame_disk_mib": 64, "embedding_disk_mib": 0}


def test_one_pause_does_not_change_the_steady_seconds() -> None:
    assert steady_seconds([0.1] * 30) == pytest.approx(0.1)
    assert steady_seconds([0.1] * 20 + [60.0] + [0.1] * 9) == pytest.approx(0.1)
    assert steady_seconds([0.1] * 15 + [0.3] * 15) == pytest.approx(0.2)
    assert steady_seconds([0.5]) == 0.5


def test_work_that_comes_in_chunks_counts_whole() -> None:
    """Ten frames wait for the chunk that brings them: the first of each pays for all."""
    assert steady_seconds(([1.0] + [0.0] * 9) * 10) == pytest.approx(0.1)


def measured(clip: LongClip, n_frames: int, seconds: list[float]) -> dict[str, Any]:
    """As a run of n frames that found the true masks, but nothing in the last tenth."""
    masks = {
        "1": {
            str(k): RunLengthMask.encode(clip.mask(k, 1)).counts.decode() for k in range(n_frames - n_frames // 10 + 1)
        }
    }
    rss_mib = 500.0 + n_frames
    return {
        "frames": n_frames,
        "seconds": seconds,
        "masks": masks,
        "peak_rss_mib": rss_mib,
        "frame_disk_mib": 63.9,
        "embedding_disk_mib": 0.0,
    }


@pytest.fixture
def clip(tmp_path: Path) -> LongClip:
    labels = np.zeros((5, 24, 32), np.uint8)
    labels[:, 4:12, 4:12] = 1
    write_clip(tmp_path, "a", labels)
    return LongClip.from_clips(find_clips(tmp_path), 40)


def test_start_and_end_of_one_length(clip: LongClip) -> None:
    entry = length_entry(clip, measured(clip, 40, [0.1] * 36 + [0.2] * 4))
    assert (entry["j_start"], entry["j_end"]) == (1.0, 0.25), "one of the last four frames has its mask"
    assert entry["end_vs_start"] == pytest.approx(2.0)
    assert entry["seconds_per_frame"] == pytest.approx(0.11)
    assert "masks" not in entry


def test_lengths_are_compared(clip: LongClip) -> None:
    entries = [length_entry(clip, measured(clip, n, [0.1] * n)) for n in (40, 20)]
    document = long_report(entries, SETTINGS, device="cpu", complete=True)
    assert [entry["frames"] for entry in document["lengths"]] == [20, 40]
    assert document["ratios"]["peak_rss"] == {"measured": pytest.approx(540 / 520), "most": 1.1, "met": True}
    assert document["ratios"]["end_vs_start_40"]["met"]
    assert document["disk_inside_bound"]
    beyond = [{**entries[0], "frame_disk_mib": 64.1}]
    assert not long_report(beyond, SETTINGS, device="cpu", complete=True)["disk_inside_bound"]
    grown = [{**entries[0], "peak_rss_mib": 900.0}, entries[1]]
    assert not long_report(grown, SETTINGS, device="cpu", complete=True)["ratios"]["peak_rss"]["met"]


HOLDS_AND_PRINTS = """
import numpy as np
from pipeline.evaluation.long.child import peak_own_rss_mib
before_mib = peak_own_rss_mib()
held = np.ones((64, 2**20), np.uint8)
print(before_mib, peak_own_rss_mib())
"""


def test_peak_memory_counts_what_the_program_held() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", HOLDS_AND_PRINTS], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    before_mib, peak_mib = map(float, printed.split())
    assert before_mib + 48 < peak_mib < 1024
