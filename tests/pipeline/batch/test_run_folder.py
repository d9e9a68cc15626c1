"""The folder of a batch run: what is written, and what a later run restores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.batch.run_folder import RunFolder
from pipeline.batch.summary import PromptsSummary, RunFolderError, RunInputs, Summary, VideoSummary, read_summary
from pipeline.session.next_frame import Suggestion
from pipeline.types import FrameResult, RunLengthMask

N_FRAMES = 6
SIZE_HW_PX = (8, 10)
INPUTS = RunInputs(
    video=VideoSummary(path="clip.mp4", sha256="v", frames=N_FRAMES, height_px=8, width_px=10),
    prompts=PromptsSummary(path="prompts.json", sha256="p"),
    method="one",
    segmenter="two",
    box_tracker="three",
    device="cpu",
)


def run_folder(folder: Path, inputs: RunInputs = INPUTS) -> RunFolder:
    return RunFolder(folder, inputs, {2: "dög [ a ]", 1: ""}, {1: [0], 2: [3, 3]})


def result(object_id: int, frame_index: int, score: float = 0.5, rows: slice = slice(0, 4)) -> FrameResult:
    mask = np.zeros(SIZE_HW_PX, np.bool_)
    mask[rows] = True
    return FrameResult(object_id, frame_index, RunLengthMask.encode(mask), score, frame_index in (0, 3))


def labels(folder: Path, frame_index: int) -> np.ndarray:
    with Image.open(folder / "masks" / f"{frame_index:05d}.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]  # type: ignore[index]
        return np.asarray(image)


def test_a_frame_is_written_with_all_its_objects(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.add(result(1, 4))
    assert np.array_equal(np.unique(labels(tmp_path, 4)), [0, 1])
    folder.add(result(2, 4, rows=slice(3, 6)))
    assert labels(tmp_path, 4)[:, 0].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]
    folder.add(result(1, 4, rows=slice(0, 1)))
    assert labels(tmp_path, 4)[:, 0].tolist() == [1, 0, 0, 2, 2, 2, 0, 0]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["00004.png", "masks"]


def test_the_summary_of_an_unfinished_run(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    for frame_index in (0, 1, 2, 4):
        folder.add(result(1, frame_index, 1.0 if frame_index == 0 else 0.9 - frame_index / 10))
    for frame_index in (1, 2, 3, 4):
        folder.add(result(2, frame_index, 0.123456, slice(0, 0)))
    folder.add_failed({5: "not an image"})
    assert not folder.is_complete
    returned = folder.write_summary(run_s=4.0, segment_s=3.0)
    summary = read_summary(tmp_path)
    assert summary == returned
    assert summary is not None
    assert not summary.complete
    assert summary.frames_done == [(1, 2), (4, 4)]
    assert [(failed.frame_index, failed.reason) for failed in summary.failed_frames] == [(5, "not an image")]
    assert (summary.seconds, summary.seconds_per_frame) == (4.0, 1.0)
    first, second = summary.objects
    assert (first.object_id, first.prompted_frames, first.frames_with_mask) == (1, [0], 4)
    assert folder.n_masks == 8
    assert first.scores == [1.0, 0.8, 0.7, None, 0.5, None]
    assert first.mean_score == 0.75
    assert [(low.frame_index, low.score) for low in first.lowest_scores] == [(4, 0.5), (2, 0.7), (1, 0.8)]
    assert (second.name, second.frames_with_mask, second.prompted_frames) == ("dög [ a ]", 0, [3])
    assert second.scores[1] == 0.1235
    folder.add(result(1, 3))
    folder.add(result(2, 0))
    assert folder.is_complete
    assert folder.write_summary(run_s=1, segment_s=1).complete


def test_suggestions_stay_in_the_summary_until_a_later_run_replaces_them(tmp_path: Path) -> None:
    first = run_folder(tmp_path)
    first.add(result(1, 0))
    first.set_suggestions(
        [Suggestion(4, 2, 3.14159, 7.25, True, 2.718281, 0.123456), Suggestion(1, 1, 0.5, 0.5, False, 1.0, 0.9)]
    )
    first.write_summary(run_s=1.0, segment_s=1.0)
    earlier = read_summary(tmp_path)
    assert earlier is not None
    best = earlier.next_frames[0]
    assert (best.frame_index, best.object_id, best.positive) == (4, 2, True)
    assert (best.x_px, best.y_px, best.gain, best.score) == (3.1, 7.2, 2.7183, 0.1235)
    second = run_folder(tmp_path)
    second.restore(earlier)
    assert second.write_summary(run_s=1.0, segment_s=1.0).next_frames == earlier.next_frames
    second.set_suggestions([])
    assert second.write_summary(run_s=1.0, segment_s=1.0).next_frames == []


def test_an_interrupted_run_is_restored(tmp_path: Path) -> None:
    first = run_folder(tmp_path)
    given = [result(1, 0, 1.0), result(1, 1), result(2, 1, rows=slice(5, 6)), result(2, 3), result(1, 4), result(1, 5)]
    for one in given:
        first.add(one)
    first.add_failed({2: "not an image"})
    earlier = first.write_summary(run_s=10.0, segment_s=6.0)
    first.add(result(2, 4, rows=slice(6, 7)))
    (tmp_path / "masks" / "00005.png").write_bytes(b"\x89PNG")
    second = run_folder(tmp_path, INPUTS.model_copy(update={"device": "cuda"}))
    restored = second.restore(earlier)
    assert restored == given[:5], "newer than the summary and damaged masks are not taken over"
    assert second.done_frames == [1]
    assert second.failed_frames == {2: "not an image"}
    summary = second.write_summary(run_s=5.0, segment_s=2.0)
    assert (summary.seconds, summary.seconds_per_frame) == (15.0, 8.0)
    (tmp_path / "masks" / "00000.png").unlink()
    (tmp_path / "masks" / "00001.png").write_bytes((tmp_path / "masks" / "00004.png").read_bytes())
    Image.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / "masks" / "00003.png")
    assert {one.frame_index for one in run_folder(tmp_path).restore(earlier)} == {1, 4}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"video": INPUTS.video.model_copy(update={"sha256": "x", "path": "b.mp4"})}, r"of another clip \(b\.mp4, 6"),
        ({"prompts": PromptsSummary(path="q.json", sha256="x")}, r"with other prompts \(q\.json\)"),
        ({"method": "m"}, "with the method m"),
        ({"segmenter": "s"}, "with the segmenter s"),
        ({"box_tracker": "b"}, "with the box tracker b"),
    ],
)
def test_a_run_with_other_inputs_is_not_continued(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    earlier = run_folder(tmp_path, INPUTS.model_copy(update=changed)).write_summary(run_s=0, segment_s=0)
    with pytest.raises(RunFolderError, match=message + ".*; choose another folder, or --overwrite"):
        run_folder(tmp_path).restore(earlier)


def test_clearing_deletes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.add(result(1, 0))
    folder.write_summary(run_s=0, segment_s=0)
    for name in ("mine.txt", "masks/overview.png", "masks/.00001.part.png"):
        (tmp_path / name).write_text("")
    folder.clear()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "masks/overview.png",
        "mine.txt",
    ]


def test_folders_of_other_programs_are_refused(tmp_path: Path) -> None:
    assert read_summary(tmp_path / "absent") is None
    assert read_summary(tmp_path) is None
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunFolderError, match="is a file; --output needs a folder"):
        read_summary(file)
    with pytest.raises(RunFolderError, match="is not empty, and not from an earlier run"):
        read_summary(tmp_path)
    for content in ("", "{}", json.dumps({"version": 2})):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(RunFolderError, match="is not the summary of an earlier run"):
            read_summary(tmp_path)


def test_write_errors_are_reported(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"masks/00000\.png cannot be written: (File exists|Not a directory)"):
        run_folder(tmp_path).add(result(1, 0))
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(RunFolderError, match=r"summary\.json cannot be written"):
        run_folder(tmp_path).write_summary(run_s=0, segment_s=0)


def test_the_summary_is_readable_line_by_line(tmp_path: Path) -> None:
    run_folder(tmp_path).write_summary(run_s=0, segment_s=0)
    lines = (tmp_path / "summary.json").read_text().splitlines()
    assert lines[1] == ' "version": 1,'
    assert lines[2] == ' "complete": false,'
    assert len(lines) == 3 + len(Summary.model_fields) + 2
