"""`ivos segment` as a user runs it: on a folder and on a video file, interrupted and continued, and with bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from ls_backend.cli.main import app
from pipeline.batch import run
from pipeline.batch.prompt_file import json_schema
from pipeline.batch.run import SegmentOptions
from pipeline.batch.summary import Summary
from pipeline.cli.stopping import StopRequest
from pipeline.embeddings.cache import embedding_cache
from pipeline.methods.choice import MethodChoice
from pipeline.parts.registry import METHOD, own_names
from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests import colour_segmenter, slow_colour_segmenter
from tests.built_methods import NOWHERE
from tests.pipeline.streaming.online_command import masks_of

N_FRAMES = 6
LONG_N_FRAMES = 12
"""Enough that a signal after the third mask arrives in time."""
SIZE_HW_PX = (96, 160)


@pytest.fixture(scope="module")
def clip() -> SampleClip:
    return render_sample_clip(N_FRAMES, SIZE_HW_PX)


@pytest.fixture
def frames(clip: SampleClip, tmp_path: Path) -> Path:
    """The clip as a folder of images whose names need natural order."""
    return frame_folder(tmp_path / "frames", clip)


@pytest.fixture
def prompts(clip: SampleClip, tmp_path: Path) -> Path:
    """Object 1 from a mask, object 2 from a box and a click."""
    Image.fromarray(clip.labels[0]).save(tmp_path / "first.png")
    return prompts_file(tmp_path, clip)


def frame_folder(folder: Path, clip: SampleClip) -> Path:
    folder.mkdir()
    for frame_index, image in enumerate(clip.frames):
        Image.fromarray(image).save(folder / f"{frame_index}.png")
    return folder


def prompts_file(folder: Path, clip: SampleClip, **changed: Any) -> Path:
    ys, xs = np.nonzero(clip.labels[0] == 2)
    box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    centre = [float(np.median(xs)), float(np.median(ys))]
    content = {
        "version": 1,
        "objects": [
            {"object_id": 1, "name": "front", "prompts": [{"frame_index": 0, "mask_png": "first.png"}]},
            {
                "object_id": 2,
                "name": "back",
                "prompts": [{"frame_index": 0, "box_xyxy_px": box}, {"frame_index": 0, "point_xy_px": centre}],
            },
        ],
        **changed,
    }
    path = folder / "prompts.json"
    path.write_text(json.dumps(content))
    return path


def segment(*arguments: str | Path) -> Result:
    """Run the command with a screen wide enough that no message is wrapped."""
    return CliRunner().invoke(app, ["segment", *map(str, arguments)], env={"COLUMNS": "200"})


def summary_of(output: Path) -> Summary:
    return Summary.model_validate_json((output / "summary.json").read_bytes())


def mean_iou(found: dict[int, np.ndarray], labels: np.ndarray, object_id: int) -> float:
    pairs = [(found[k] == object_id, labels[k] == object_id) for k in range(len(labels))]
    return float(np.mean([(a & b).sum() / max(1, (a | b).sum()) for a, b in pairs]))


def test_a_folder_becomes_masks_and_a_summary(frames: Path, prompts: Path, clip: SampleClip, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    result = segment(frames, "--prompts", prompts, "--output", output)
    assert result.exit_code == 0, result.output
    found = masks_of(output)
    assert list(found) == list(range(N_FRAMES))
    assert np.array_equal(found[0] == 1, clip.labels[0] == 1), "a given mask is kept"
    assert mean_iou(found, clip.labels, 1) > 0.8
    assert mean_iou(found, clip.labels, 2) > 0.6
    summary = summary_of(output)
    assert summary.complete
    assert summary.frames_done == [(0, N_FRAMES - 1)]
    assert (summary.video.frames, summary.video.height_px, summary.video.width_px) == (N_FRAMES, *SIZE_HW_PX)
    assert (summary.method, summary.segmenter, summary.box_tracker) == ("i_pt", "lite", "opencv_template")
    assert [(entry.object_id, entry.name) for entry in summary.objects] == [(1, "front"), (2, "back")]
    for entry in summary.objects:
        assert entry.frames_with_mask == sum(bool((labels == entry.object_id).any()) for labels in found.values())
        assert None not in entry.scores
    assert sorted(path.name for path in output.iterdir()) == ["masks", "summary.json"]
    assert f"{N_FRAMES} frames, 2 objects in" in result.output
    again = segment(frames, "-p", prompts, "-o", output)
    assert again.exit_code == 1
    assert "holds a complete run; --resume continues it, --overwrite replaces it" in again.output
    assert "nothing to do" in segment(frames, "-p", prompts, "-o", output, "--resume").output
    (output / "masks" / f"{N_FRAMES - 1:05d}.png").unlink()
    assert segment(frames, "-p", prompts, "-o", output, "--resume").exit_code == 0
    assert list(masks_of(output)) == list(range(N_FRAMES)), "a mask that went missing is made again"


def video(path: Path, codec: str, clip: SampleClip) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, SIZE_HW_PX[::-1])
    for image in clip.frames:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def test_a_video_file_becomes_the_same_masks(prompts: Path, clip: SampleClip, tmp_path: Path) -> None:
    output = tmp_path / "out"
    path = video(tmp_path / "clip.mp4", "mp4v", clip)
    result = segment(path, "-p", prompts, "-o", output, "--box-tracker", "mask_box")
    assert result.exit_code == 0, result.output
    found = masks_of(output)
    assert list(found) == list(range(N_FRAMES))
    assert mean_iou(found, clip.labels, 1) > 0.8
    assert summary_of(output).box_tracker == "mask_box"


def test_the_length_of_a_video_is_what_can_be_decoded(clip: SampleClip, tmp_path: Path) -> None:
    data = video(tmp_path / "whole.avi", "MJPG", clip).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 3 // 4])
    prompts = prompts_file(tmp_path, clip, objects=[{"object_id": 1, "prompts": [point(N_FRAMES - 1)]}])
    result = segment(tmp_path / "cut.avi", "-p", prompts, "-o", tmp_path / "out")
    assert result.exit_code == 1
    n_decoded = int(re.findall(rf"announces {N_FRAMES} frames, but only (\d+) can be decoded", result.output)[0])
    assert f"is on frame {N_FRAMES - 1}, but the clip has frames 0 to {n_decoded - 1}" in result.output


def point(frame_index: int, x_px: float = 5) -> dict[str, Any]:
    return {"frame_index": frame_index, "point_xy_px": [x_px, 5]}


def test_an_unreadable_frame_is_reported_and_the_others_are_segmented(
    frames: Path, prompts: Path, tmp_path: Path
) -> None:
    (frames / "4.png").write_bytes(b"not an image")
    output = tmp_path / "out"
    result = segment(frames, "-p", prompts, "-o", output)
    assert result.exit_code == 0, result.output
    assert "warning: frame 4 has no mask: 12 bytes that are not a readable image" in result.output
    assert set(masks_of(output)) == set(range(N_FRAMES)) - {4}
    summary = summary_of(output)
    assert summary.complete
    assert summary.frames_done == [(0, 3), (5, N_FRAMES - 1)]
    assert [failed.frame_index for failed in summary.failed_frames] == [4]
    (frames / "0.png").write_bytes(b"not an image")
    refused = segment(frames, "-p", prompts, "-o", tmp_path / "other")
    assert refused.exit_code == 1
    assert "frame 0: 12 bytes that are not a readable image" in refused.output
    assert "it has prompts" in refused.output


class SignalAfterMasks(threading.Thread):
    """Sends this process a signal once a run has written three masks."""

    def __init__(self, output: Path, number: signal.Signals) -> None:
        super().__init__(daemon=True)
        self._masks, self._number = output / "masks", number
        self.cancelled = threading.Event()

    def run(self) -> None:
        while len(list(self._masks.glob("[0-9]*.png"))) < 3:
            if self.cancelled.wait(0.005):
                return
        os.kill(os.getpid(), self._number)


def interrupted_segment(output: Path, number: signal.Signals, *arguments: str | Path) -> Result:
    """Run the command, and send a signal once some masks are there."""
    sender = SignalAfterMasks(output, number)
    sender.start()
    # A signal that comes too late is caught here, and the test fails instead of the whole test run.
    with StopRequest() as late:
        result = segment(*arguments, "-o", output)
        sender.cancelled.set()
        sender.join()
    assert not late.requested, "the run ended before the signal"
    return result


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, SampleClip]:
    """A folder of frames and prompts for runs that are long enough to be interrupted, and the clip."""
    folder = tmp_path_factory.mktemp("long_run")
    clip = render_sample_clip(LONG_N_FRAMES, SIZE_HW_PX)
    Image.fromarray(clip.labels[0]).save(folder / "first.png")
    return frame_folder(folder / "frames", clip), prompts_file(folder, clip), clip


def test_an_interrupted_run_keeps_its_frames_and_is_continued(
    long_run: tuple[Path, Path, SampleClip], tmp_path: Path
) -> None:
    frames, prompts, clip = long_run
    output = tmp_path / "out"
    stopped = interrupted_segment(output, signal.SIGINT, frames, "-p", prompts)
    assert stopped.exit_code == 130, stopped.output
    (note,) = (line for line in stopped.stderr.splitlines() if line.startswith("interrupted: "))
    parts = "--segmenter lite --box-tracker opencv_template"
    command = f"ivos segment {frames} --prompts {prompts} --output {output} {parts} --resume"
    assert note.endswith(command)
    before, summary = masks_of(output), summary_of(output)
    assert not summary.complete
    assert 0 < len(before) < LONG_N_FRAMES
    assert all(labels.shape == SIZE_HW_PX for labels in before.values())
    done = [k for first, last in summary.frames_done for k in range(first, last + 1)]
    assert set(done) <= set(before)
    assert f"{len(done)} of {LONG_N_FRAMES} frames are done" in note
    resumed = segment(frames, "-p", prompts, "-o", output, "--resume")
    assert resumed.exit_code == 0, resumed.output
    after = masks_of(output)
    assert list(after) == list(range(LONG_N_FRAMES))
    assert all(np.array_equal(after[k], before[k]) for k in done), "finished frames stay as they were"
    final = summary_of(output)
    assert final.complete
    assert final.seconds > summary.seconds
    assert mean_iou(after, clip.labels, 1) > 0.7


def test_termination_keeps_the_frames_too(long_run: tuple[Path, Path, SampleClip], tmp_path: Path) -> None:
    frames, prompts, _ = long_run
    stopped = interrupted_segment(tmp_path / "out", signal.SIGTERM, frames, "-p", prompts)
    assert stopped.exit_code == 130
    assert "interrupted: " in stopped.stderr
    assert 0 < len(masks_of(tmp_path / "out")) < LONG_N_FRAMES
    assert not summary_of(tmp_path / "out").complete


def test_runs_are_not_mixed(frames: Path, prompts: Path, clip: SampleClip, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert segment(frames, "-p", prompts, "-o", output, "--resume").exit_code == 0, "there is nothing to continue yet"
    first = masks_of(output)
    other = prompts_file(tmp_path, clip, objects=[{"object_id": 3, "prompts": [{**point(2), "point_xy_px": [60, 60]}]}])
    refused = segment(frames, "-p", other, "-o", output, "--resume")
    assert refused.exit_code == 1
    assert "holds a run with other prompts" in refused.output
    np.testing.assert_equal(masks_of(output), first)
    replaced = segment(frames, "-p", other, "-o", output, "--overwrite")
    assert replaced.exit_code == 0, replaced.output
    assert {int(value) for labels in masks_of(output).values() for value in np.unique(labels)} == {0, 3}


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_folders_of_other_programs_are_left_alone(option: str, frames: Path, prompts: Path) -> None:
    result = segment(frames, "-p", prompts, "-o", frames, option)
    assert result.exit_code == 1
    assert "is not empty, and not from an earlier run; choose another folder" in result.output
    assert len(list(frames.iterdir())) == N_FRAMES


@pytest.mark.parametrize(
    ("video", "arguments", "message"),
    [
        ("absent.mp4", (), "absent.mp4: there is no such file"),
        ("first.png", (), "is one image; expected a video file"),
        ("prompts.json", (), "no frame can be decoded; expected a video"),
        ("empty", (), "holds no image; expected files ending in .jpg"),
        ("frames", ("--method", "magic"), f"unknown method 'magic'; known are {', '.join(own_names(METHOD))}"),
        ("frames", ("--segmenter", "magic"), "unknown segmenter 'magic'; known are auto, edgetam, lite, "),
        ("frames", ("--box-tracker", "magic"), "unknown box tracker 'magic'; known are auto, mask_box, "),
        ("frames", ("--device", "tpu"), "device 'tpu' is none of auto, cpu, cuda"),
        ("frames", ("--resume", "--overwrite"), "give one of them"),
        ("frames", ("--output", "prompts.json"), "prompts.json is a file; --output needs a folder"),
        ("frames", ("--prompts", "absent.json"), "absent.json cannot be read: No such file"),
    ],
)
@pytest.mark.usefixtures("frames", "prompts")
def test_errors_are_one_line_and_write_nothing(
    video: str, arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    result = segment(video, "--prompts", "prompts.json", "--output", "out", *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert [line.startswith("error: ") for line in result.output.splitlines() if "━" not in line] == [True]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (point(N_FRAMES), f"frame {N_FRAMES}, but the clip has frames 0 to {N_FRAMES - 1}"),
        (point(0, SIZE_HW_PX[1] + 1), f"is outside the image; x must be in [0, {SIZE_HW_PX[1]}]"),
        ({"frame_index": 0, "mask_png": "absent.png"}, "absent.png: No such file"),
        ({"frame_index": 0}, "exactly one of point_xy_px, box_xyxy_px, scribble_xy_px, mask_png"),
    ],
)
def test_wrong_prompts_are_refused_before_any_work(
    prompt: dict[str, Any], message: str, frames: Path, clip: SampleClip, tmp_path: Path
) -> None:
    path = prompts_file(tmp_path, clip, objects=[{"object_id": 1, "prompts": [point(0), prompt]}])
    result = segment(frames, "-p", path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"error: {path}: objects[0].prompts[1]: " in result.output
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_to_continue_has_the_options() -> None:
    options = SegmentOptions(
        Path("a clip.mp4"), Path("p.json"), Path("out"), MethodChoice(box_tracker="mask_box"), NOWHERE, "cpu", 64
    )
    chosen = "ivos segment 'a clip.mp4' --prompts p.json --output out --box-tracker mask_box --device cpu"
    assert options.command_to_continue(started=True) == f"{chosen} --embedding-ram-mib 64 --resume"
    afresh = replace(options, overwrite=True)
    assert afresh.command_to_continue(started=False) == f"{chosen} --embedding-ram-mib 64 --overwrite"
    assert afresh.command_to_continue(started=True).endswith("--resume")
    kept = replace(options, embedding_disk_mib=512, embedding_folder=Path("a folder"))
    assert "--embedding-ram-mib 64 --embedding-disk-mib 512 " in kept.command_to_continue(started=True)
    assert "--embedding-folder 'a folder' " in kept.command_to_continue(started=True)


def test_embeddings_beyond_the_memory_come_from_disk(
    frames: Path, clip: SampleClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame is embedded twice in a run, nor by the next run on the same frames; 0 keeps none on disk."""
    made = slow_colour_segmenter.use_it(monkeypatch)
    monkeypatch.setenv("IVOS_CACHE_DIR", str(tmp_path / "cache"))
    row, column = np.argwhere(clip.labels[0] == 1).mean(axis=0).round()
    prompts = [{"frame_index": k, "point_xy_px": [float(column), float(row)]} for k in (0, N_FRAMES - 1)]
    path = prompts_file(tmp_path, clip, objects=[{"object_id": 1, "prompts": prompts}])
    words = (frames, "-p", path, "--method", "sam_pd", "--segmenter", slow_colour_segmenter.NAME)
    monkeypatch.setattr(run, "embedding_cache", lambda _, *rest: embedding_cache(2, *rest))
    for output in ("out", "again"):
        result = segment(*words, "-o", tmp_path / output)
        assert result.exit_code == 0, result.output
        assert sorted(made.values()) == [1] * N_FRAMES
    assert list((tmp_path / "cache" / "embeddings").rglob("*.db"))
    elsewhere = ("--embedding-folder", tmp_path / "elsewhere")
    assert segment(*words, "-o", tmp_path / "third", *elsewhere).exit_code == 0
    assert sorted(made.values()) == [2] * N_FRAMES
    made.clear()
    assert segment(*words, "-o", tmp_path / "fourth", "--embedding-disk-mib", "0").exit_code == 0
    assert max(made.values()) > 1, "they do not fit into memory"


def test_a_segmenter_that_cannot_store_its_embeddings_stores_none(
    frames: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colour_segmenter.use_it(monkeypatch)
    monkeypatch.setenv("IVOS_CACHE_DIR", str(tmp_path / "cache"))
    result = segment(frames, "-p", prompts, "-o", tmp_path / "out", "--segmenter", colour_segmenter.NAME)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "cache" / "embeddings").exists()


def test_the_schema_is_printed_without_other_arguments() -> None:
    result = segment("--schema")
    assert result.exit_code == 0
    assert json.loads(result.output) == json_schema()
