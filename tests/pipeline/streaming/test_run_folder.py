"""The folder of an online run: masks and events are written at once, and the summary needs no masks in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.batch.summary import (
    FrameRanges,
    OnlineSummary,
    PromptsSummary,
    RunFolderError,
    RunInputs,
    Summary,
    VideoSummary,
    read_summary,
)
from pipeline.streaming.run_folder import OnlineRunFolder
from pipeline.types import FrameResult, RunLengthMask

SIZE_HW_PX = (20, 30)
IMAGE = np.zeros((*SIZE_HW_PX, 3), np.uint8)
INPUTS = RunInputs(
    video=VideoSummary(path="-", sha256="", frames=0, height_px=20, width_px=30),
    prompts=PromptsSummary(path="", sha256=""),
    method="lazy",
    segmenter="lite",
    box_tracker="",
    device="cpu",
)
ONLINE = OnlineSummary(ended="source_ended", dropped=[], requests=3, answers_taken=2, answers_refused=1)


def result(
    object_id: int, frame_index: int, *, score: float = 0.5, area_px: int = 10, prompted: bool = False
) -> FrameResult:
    mask = np.zeros(SIZE_HW_PX, np.bool_)
    mask[object_id, :area_px] = True
    return FrameResult(object_id, frame_index, RunLengthMask.encode(mask), score, prompted)


def summary(folder: OnlineRunFolder, *, complete: bool = True) -> Summary:
    return folder.write_summary(INPUTS, ONLINE, complete=complete, run_s=4, segment_s=2)


@pytest.fixture
def folder(tmp_path: Path) -> OnlineRunFolder:
    made = OnlineRunFolder(tmp_path / "out", {1: "first"})
    made.clear()
    return made


def test_files_of_a_run(folder: OnlineRunFolder, tmp_path: Path) -> None:
    assert folder.add(0, IMAGE, ()) is None, "no object has begun"
    folder.add_dropped(1)
    assert folder.add(2, IMAGE, [result(1, 2, prompted=True)]) == "masks/00002.png"
    folder.add_missing(3, "no image")
    folder.add(4, IMAGE, [result(7, 4, score=0.25, area_px=0), result(1, 4, score=0.75)])
    found = summary(folder)
    assert read_summary(tmp_path / "out") == found
    assert found.complete
    assert found.video.frames == 5
    assert found.frames_done == [(0, 0), (2, 2), (4, 4)]
    assert [(each.frame_index, each.reason) for each in found.failed_frames] == [(3, "no image")]
    assert found.online == ONLINE.model_copy(update={"dropped": [(1, 1)]})
    first, late = found.objects
    assert (first.object_id, first.name, first.prompted_frames, first.frames_with_mask) == (1, "first", [2], 2)
    assert first.scores == [None, None, 0.5, None, 0.75]
    assert first.mean_score == 0.625
    assert [(low.frame_index, low.score) for low in first.lowest_scores] == [(4, 0.75)]
    assert (late.object_id, late.name, late.frames_with_mask) == (7, "", 0)
    assert late.scores == [None, None, None, None, 0.25]
    assert (found.seconds, found.seconds_per_frame) == (4, round(2 / 3, 4))
    with Image.open(tmp_path / "out" / "masks" / "00004.png") as image:
        assert image.mode == "P"
        assert sorted(np.unique(np.asarray(image))) == [0, 1]


def test_a_frame_may_be_written_again(folder: OnlineRunFolder, tmp_path: Path) -> None:
    folder.add(0, IMAGE, [result(1, 0, score=0.1)])
    folder.write(0, [result(1, 0, score=0.9, area_px=0, prompted=True), result(2, 0)])
    first, second = summary(folder).objects
    assert (first.scores, first.frames_with_mask, first.prompted_frames) == ([0.9], 0, [0])
    assert second.scores == [0.5]
    with Image.open(tmp_path / "out" / "masks" / "00000.png") as image:
        assert int((np.asarray(image) == 2).sum()) == 10
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["00000.png"]


def test_complete_needs_every_object_from_its_first_frame_on(folder: OnlineRunFolder) -> None:
    folder.add(0, IMAGE, ())
    assert not summary(folder).complete, "object 1 never began"
    folder.add(1, IMAGE, [result(1, 1)])
    folder.add(2, IMAGE, [result(1, 2), result(2, 2)])
    assert summary(folder).complete
    assert not summary(folder, complete=False).complete
    folder.add(3, IMAGE, [result(1, 3)])
    assert not summary(folder).complete, "object 2 is missing on frame 3"


def test_only_an_earlier_run_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    for _ in range(2):
        run = OnlineRunFolder(tmp_path, {})
        run.check(overwrite=True)
        run.clear()
        run.add_event('{"event":"start"}')
        run.add(0, IMAGE, [result(1, 0)])
        run.write_request_image(0, IMAGE)
        summary(run)
        assert (tmp_path / "events.jsonl").read_text() == '{"event":"start"}\n'
    with pytest.raises(RunFolderError, match="holds an earlier run; --overwrite replaces it"):
        OnlineRunFolder(tmp_path, {}).check(overwrite=False)
    (tmp_path / "masks" / "mine.png").touch()
    OnlineRunFolder(tmp_path, {}).clear()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "events.jsonl",
        "masks/mine.png",
        "summary.json",
    ]
    (tmp_path / "summary.json").unlink()
    with pytest.raises(RunFolderError, match="is not empty, and not from an earlier run"):
        OnlineRunFolder(tmp_path, {}).check(overwrite=True)


def test_request_images_are_bounded(folder: OnlineRunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.streaming.run_folder.REQUEST_IMAGES_MIB", 1)
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    for frame_index in range(12):
        assert folder.write_request_image(frame_index, image) == f"requests/{frame_index:05d}.jpg"
    kept = sorted((tmp_path / "out" / "requests").iterdir())
    assert sum(path.stat().st_size for path in kept) <= 1 << 20
    assert kept[-1].name == "00011.jpg"
    assert 2 <= len(kept) < 12


def test_ranges() -> None:
    ranges = FrameRanges()
    for frame_index in (0, 1, 4, 7, 8):
        ranges.add(frame_index)
    assert ranges.ranges == [(0, 1), (4, 4), (7, 8)]
    assert ranges.n_frames == 5
    assert [ranges.n_from(first) for first in (0, 1, 3, 8, 9)] == [5, 4, 3, 1, 0]
