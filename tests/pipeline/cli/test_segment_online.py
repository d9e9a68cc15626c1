"""`ivos segment --online` as a user runs it: frames and answers through pipes, folders and cameras."""

from __future__ import annotations

import itertools
import json
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner, Result

from ls_backend.cli.main import app
from pipeline.batch.summary import Summary
from pipeline.video.sample_clip import SampleClip
from tests.pipeline.streaming.online_command import (
    Command,
    centre_xy_px,
    eventually,
    first_mask,
    iou,
    jpeg,
    masks_of,
    online,
    small_clip,
    video_file,
)
from tests.pipeline.streaming.stream_server import MjpegServer, serving

N_FRAMES = 8
ALWAYS_ASKING = ("--option", "tau_u=0", "--option", "tau_p=0")
"""Help is requested wherever the uncertainty does not fall."""


@pytest.fixture(scope="module")
def clip() -> SampleClip:
    return small_clip(N_FRAMES)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def summary_of(output: Path) -> Summary:
    return Summary.model_validate_json((output / "summary.json").read_bytes())


def logged(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]


def test_a_request_is_answered_through_standard_input(clip: SampleClip, tmp_path: Path, output: Path) -> None:
    video, prompts = video_file(tmp_path / "clip.avi", clip), first_mask(tmp_path, clip)
    with online(video, "-p", prompts, "-o", output, "--answer-timeout-s", "60", *ALWAYS_ASKING) as command:
        start = command.until("start")
        assert (start["method"], start["answers"], start["live"], start["drop_late"]) == ("lazy", "-", False, False)
        request = command.until("request")
        frame_index = request["frame_index"]
        assert 0 <= request["x_px"] < 128
        assert 0 <= request["y_px"] < 72
        assert request["change"] >= 0
        asked = cv2.imread(str(output / request["image"]))
        assert np.abs(asked[..., ::-1].astype(int) - clip.frames[frame_index]).mean() < 12, "the frame it is about"
        assert command.of("frame")[-1]["frame_index"] == frame_index, "nothing goes on while it waits"
        command.send(b"what?\n")
        assert "not JSON" in command.until("answer_refused")["reason"]
        x_px, y_px = centre_xy_px(clip.labels[frame_index], 1)
        command.answer(object_id=1, frame_index=frame_index, x_px=x_px, y_px=y_px)
        taken = command.until("answer_taken")
        assert (taken["object_id"], taken["frame_index"], taken["kind"]) == (1, frame_index, "point")
        assert taken["objects"][0]["area_px"] > 0
        command.stdin.close()
        assert command.exit_code() == 0, command.stderr
        end = command.until("end")
    assert (end["ended"], end["complete"], end["frames"]) == ("source_ended", True, N_FRAMES)
    assert (end["answers_taken"], end["answers_refused"]) == (1, 1)
    assert end["requests"] == len(command.of("request")) >= 1
    assert command.events == logged(output)
    order = [(line["event"], line.get("frame_index")) for line in command.events]
    assert order.index(("answer_taken", frame_index)) < order.index(("frame", frame_index + 1))
    found = summary_of(output)
    assert frame_index in found.objects[0].prompted_frames
    assert found.online is not None
    assert found.online.answers_taken == 1
    assert np.mean([iou(labels, clip.labels[k], 1) for k, labels in masks_of(output).items()]) > 0.7


def test_frames_through_standard_input_and_answers_through_a_named_pipe(
    clip: SampleClip, tmp_path: Path, output: Path
) -> None:
    os.mkfifo(tmp_path / "answers")
    with online("-", "-o", output, "--answers", tmp_path / "answers") as command:
        for frame_index in range(4):
            command.send(jpeg(clip.frames[frame_index]))
            line = command.until("frame", frame_index=frame_index)
            assert [each["object_id"] for each in line["objects"]] == ([2] if frame_index > 1 else [])
            if frame_index == 1:
                x_px, y_px = centre_xy_px(clip.labels[1], 2)
                answers = [
                    {"object_id": 2, "frame_index": 0, "x_px": x_px, "y_px": y_px},
                    {"object_id": 2, "frame_index": 1, "x_px": x_px, "y_px": y_px, "positive": False},
                    {"object_id": 2, "frame_index": 1, "x_px": 5000, "y_px": y_px},
                    {"object_id": 2, "frame_index": 1, "x_px": x_px, "y_px": y_px},
                ]
                (tmp_path / "answers").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
                assert command.until("answer_taken")["frame_index"] == 1
        assert [line["reason"].partition(";")[0] for line in command.of("answer_refused")] == [
            "frame 0 is past",
            "object 2 is not known (known: none)",
            command.of("answer_refused")[2]["reason"].partition(";")[0],
        ]
        assert "is outside the image" in command.of("answer_refused")[2]["reason"]
        command.send(b"This is no image.")
        assert command.exit_code() == 1
    assert "expected JPEG or PNG images one after another, but byte" in command.stderr
    end = command.until("end")
    assert (end["ended"], end["complete"], end["frames"]) == ("source_failed", False, 4)
    assert "expected JPEG or PNG" in end["reason"]
    found = masks_of(output)
    assert list(found) == [1, 2, 3], "object 2 began on frame 1"
    assert iou(found[3], clip.labels[3], 2) > 0.5
    assert summary_of(output).frames_done == [(0, 3)]


def test_a_folder_is_followed_until_the_end_is_marked(clip: SampleClip, tmp_path: Path, output: Path) -> None:
    frames, prompts = tmp_path / "frames", first_mask(tmp_path, clip, frame_index=1)
    frames.mkdir()

    def n_segmented() -> int:
        events = output / "events.jsonl"
        return events.read_text().count('"event":"frame"') if events.exists() else 0

    def write() -> None:
        for frame_index in range(N_FRAMES):
            if frame_index == 4:
                continue
            path = frames / f"{frame_index + 10:05d}.jpg"
            data = jpeg(clip.frames[frame_index])
            path.write_bytes(data[: len(data) // 2])
            wanted = min(frame_index, 4)
            eventually(lambda wanted=wanted: n_segmented() >= wanted)
            path.write_bytes(data)
        (frames / "end").touch()

    writer = threading.Thread(target=write)
    writer.start()
    lite = ("--segmenter", "lite", "--device", "cpu")
    result = segment(frames, "--online", *lite, "-p", prompts, "-o", output, "--idle-s", "60")
    writer.join()
    assert result.exit_code == 0, result.stderr
    lines = [line for line in logged(output) if line["event"] == "frame"]
    assert [line["frame_index"] for line in lines] == list(range(N_FRAMES))
    assert [line["missing"] for line in lines if line["missing"]] == ["no image before 00015.jpg has its number"]
    found = masks_of(output)
    assert list(found) == [1, 2, 3, 5, 6, 7]
    assert np.mean([iou(labels, clip.labels[k], 1) for k, labels in found.items()]) > 0.7
    summary = summary_of(output)
    assert summary.complete
    assert summary.frames_done == [(0, 3), (5, 7)]
    assert [failed.frame_index for failed in summary.failed_frames] == [4]


def test_a_camera_that_is_too_fast_and_then_stalls(clip: SampleClip, tmp_path: Path, output: Path) -> None:
    prompted, other = 30, clip.frames[7]
    images = (other if k == prompted else clip.frames[0] for k in itertools.count())
    prompts = first_mask(tmp_path, clip)
    file = json.loads(prompts.read_text())
    ys, xs = np.nonzero(clip.labels[7] == 2)
    box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    file["objects"].append({"object_id": 2, "prompts": [{"frame_index": prompted, "box_xyxy_px": box}]})
    prompts.write_text(json.dumps(file))
    camera = MjpegServer([images], pause_s=0.005)
    with serving(camera) as url, online(url, "-p", prompts, "-o", output) as command:
        start = command.until("start")
        assert (start["live"], start["drop_late"]) == (True, True)
        command.until("frame", frame_index=prompted)
        eventually(lambda: command.of("frame")[-1]["frame_index"] > prompted)
        camera.go_on.clear()
        command.stop()
        assert command.exit_code() == 130, command.stderr
    lines, end = command.of("frame"), command.until("end")
    assert end["ended"] == "interrupted"
    assert end["dropped"] == sum(line["dropped"] for line in lines) > 0
    assert end["frames"] == lines[-1]["frame_index"] + 1 == end["dropped"] + len(lines)
    masks = masks_of(output)
    assert list(masks) == [line["frame_index"] for line in lines]
    assert iou(masks[prompted], clip.labels[7], 2) > 0.5, "frame k in the masks is frame k of the camera"
    assert summary_of(output).online.ended == "interrupted"
    assert f"interrupted: {len(lines)} frames are done" in command.stderr


def test_memory_stays_constant_and_a_closed_output_does_not_end_the_run(output: Path) -> None:
    image = jpeg(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    n_frames = 3000

    def rss_after(command: Command, n_frames: int) -> int:
        command.send(image * (n_frames - len(command.of("frame"))))
        command.until("frame", frame_index=n_frames - 1)
        return psutil.Process(command.process.pid).memory_info().rss

    with online("-", "-o", output) as command:
        early, late = rss_after(command, 500), rss_after(command, n_frames)
        command.hang_up()
        command.send(image)
        eventually(lambda: command.has_ended)
        command.send(image * 6)
        assert command.exit_code() == 0, command.stderr
    assert late - early < 6 << 20
    assert "note: standard output: Broken pipe; further events are only in the output folder" in command.stderr
    assert len(command.of("frame")) == n_frames + 1
    assert len([line for line in logged(output) if line["event"] == "frame"]) == n_frames + 7
    assert logged(output)[-1]["complete"]


def segment(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (
            ("clip.avi", "--online", "--method", "i_pt"),
            1,
            "--online needs one that follows a video while it arrives: lazy",
        ),
        (("nowhere.mp4", "--online"), 1, "nowhere.mp4: there is no such file or folder"),
        (("-", "--online", "--answers", "-"), 1, "standard input is the video; --answers needs a file or a named pipe"),
        (("clip.avi", "--online", "--answers", "nowhere"), 1, "nowhere cannot be read: No such file or directory"),
        (("clip.avi", "--online", "--end-file", "a/b"), 1, "--end-file is 'a/b'; expected the name of a file"),
        (("clip.avi", "--online", "--idle-s", "inf"), 1, "--idle-s is inf; expected seconds"),
        (("clip.avi", "--online", "-p", "nowhere.json"), 1, "nowhere.json cannot be read"),
        (("clip.avi", "--online", "--option", "colour=red"), 1, "colour"),
        (("clip.avi", "--online", "--resume"), 2, "Invalid value for --resume: does not go with --online"),
        (("clip.avi", "-p", "p.json", "--answers", "x"), 2, "Invalid value for --answers: needs --online"),
        (("clip.avi",), 2, "Invalid value for --prompts / -p: missing"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...],
    exit_code: int,
    message: str,
    clip: SampleClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video_file(tmp_path / "clip.avi", clip)
    monkeypatch.chdir(tmp_path)
    result = segment(*arguments, "--segmenter", "lite", "-o", "out")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr
    if exit_code == 1:
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_prompts_outside_the_first_frame_are_refused(clip: SampleClip, tmp_path: Path) -> None:
    prompts = first_mask(tmp_path, SampleClip(clip.frames, np.zeros((1, 5, 5), np.uint8)))
    result = segment(video_file(tmp_path / "clip.avi", clip), "--online", "-p", prompts, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "is 5x5 px, but the video is 128x72 px" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_earlier_run_is_only_replaced_when_asked(clip: SampleClip, tmp_path: Path, output: Path) -> None:
    video = video_file(tmp_path / "clip.avi", clip)
    arguments = (video, "--online", "--segmenter", "lite", "-o", output)
    assert segment(*arguments).exit_code == 0
    refused = segment(*arguments)
    assert refused.exit_code == 1
    assert "holds an earlier run; --overwrite replaces it (a single pass cannot be resumed)" in refused.stderr
    assert segment(*arguments, "--overwrite").exit_code == 0
    assert [line["event"] for line in logged(output)] == ["start", *["frame"] * N_FRAMES, "end"]


def test_the_schema_is_printed() -> None:
    result = segment("--online-schema")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"event", "answer"}
