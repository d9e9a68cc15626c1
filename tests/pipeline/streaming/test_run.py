"""An online run in this process: when answers are applied, and how the masks change."""

from __future__ import annotations

import gc
import json
import os
import threading
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.batch.summary import Summary
from pipeline.cli.stopping import StopRequest
from pipeline.methods.choice import MethodChoice
from pipeline.streaming.options import OnlineOptions
from pipeline.streaming.run import OnlineRun
from pipeline.streaming.run_folder import OnlineRunFolder
from pipeline.types import FrameResult, RunLengthMask
from pipeline.video.sample_clip import SampleClip
from tests.built_methods import NOWHERE
from tests.pipeline.streaming.online_command import (
    centre_xy_px,
    first_mask,
    iou,
    jpeg,
    masks_of,
    small_clip,
    video_file,
)

N_FRAMES = 6
LAZY = MethodChoice(method="lazy", segmenter="lite")
ASKING = replace(LAZY, options={"tau_u": 0.0, "tau_p": 0.0})


@pytest.fixture(scope="module")
def clip() -> SampleClip:
    return small_clip(N_FRAMES)


@pytest.fixture
def options(clip: SampleClip, tmp_path: Path) -> OnlineOptions:
    """Object 1 from a mask on frame 0; answers from a file that each test writes."""
    (tmp_path / "answers").touch()
    return OnlineOptions(
        source=str(video_file(tmp_path / "clip.avi", clip)),
        prompts=first_mask(tmp_path, clip),
        output=tmp_path / "out",
        choice=LAZY,
        store=NOWHERE,
        device="cpu",
        answers=str(tmp_path / "answers"),
    )


def answers(options: OnlineOptions, lines: Iterable[dict[str, Any] | str]) -> None:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    Path(str(options.answers)).write_text("".join(f"{text}\n" for text in texts))


def run(options: OnlineOptions) -> list[dict[str, Any]]:
    """All events of a run."""
    OnlineRun(options, StopRequest()).run()
    return events_of(options)


def events_of(options: OnlineOptions) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (options.output / "events.jsonl").read_text().splitlines()]


def test_answers_written_beforehand_are_applied_to_their_frames(options: OnlineOptions, clip: SampleClip) -> None:
    x_px, y_px = centre_xy_px(clip.labels[3], 2)
    inside = {"x_px": x_px, "y_px": y_px}
    answers(
        options,
        [
            {"object_id": 2, "frame_index": 3, **inside},
            {"object_id": 2, "frame_index": 5, "x_px": 1, "y_px": 1, "positive": False},
            "{}",
            {"object_id": 9, "frame_index": 4, "box_xyxy_px": [10, 10, 300, 20]},
            {"object_id": 7, "frame_index": 2, **inside, "positive": False},
            {"object_id": 1, "frame_index": 1, "skip": True},
            {"object_id": 1, "frame_index": 99, **inside},
        ],
    )
    events = run(options)
    order = [(line["event"], line.get("frame_index"), line.get("object_id")) for line in events]
    assert [entry for entry in order if entry[0] in ("frame", "answer_taken")] == [
        ("frame", 0, None),
        ("frame", 1, None),
        ("answer_taken", 1, 1),
        ("frame", 2, None),
        ("frame", 3, None),
        ("answer_taken", 3, 2),
        ("frame", 4, None),
        ("frame", 5, None),
        ("answer_taken", 5, 2),
    ]
    refusals = [line for line in events if line["event"] == "answer_refused"]
    refused = [(line["reason"].partition(";")[0], line["newest_frame_index"]) for line in refusals]
    assert [reason for reason, _ in refused[1:4]] == [
        "object 7 is not known (known: 1)",
        refused[2][0],
        "the video ended before frame 99",
    ]
    assert "expected an object with object_id, frame_index" in refused[0][0]
    assert "is not a box in the image" in refused[2][0]
    assert [newest for _, newest in refused[1:4]] == [2, 4, 5]
    found = masks_of(options.output)
    assert [2 in labels for labels in found.values()] == [False, False, False, True, True, True]
    assert min(iou(found[k], clip.labels[k], 2) for k in (3, 4)) > 0.3
    summary = Summary.model_validate_json((options.output / "summary.json").read_bytes())
    assert summary.complete
    assert [entry.prompted_frames for entry in summary.objects] == [[0], [3, 5]]
    assert summary.online is not None
    assert (summary.online.answers_taken, summary.online.answers_refused) == (3, 4)


def test_a_correction_changes_this_frame_and_those_after_it(options: OnlineOptions, clip: SampleClip) -> None:
    plain = run(options)
    before = masks_of(options.output)
    x_px, y_px = centre_xy_px(clip.labels[3], 2)
    answers(options, [{"object_id": 1, "frame_index": 3, "x_px": x_px, "y_px": y_px}])
    corrected = run(replace(options, overwrite=True))
    after = masks_of(options.output)
    assert [line["objects"] for line in plain if line["event"] == "frame"][:4] == [
        line["objects"] for line in corrected if line["event"] == "frame"
    ][:4]
    assert [bool(np.array_equal(before[k], after[k])) for k in range(N_FRAMES)] == [True] * 3 + [False] * 3
    assert iou(after[3], clip.labels[3], 1, true_id=2) > iou(before[3], clip.labels[3], 1, true_id=2) + 0.3
    taken = next(line for line in corrected if line["event"] == "answer_taken")
    assert taken["objects"][0]["area_px"] == int((after[3] == 1).sum())


def test_no_wait_for_answers_where_nobody_can_answer(options: OnlineOptions) -> None:
    events = run(replace(options, answers=os.devnull, choice=ASKING, answer_timeout_s=600))
    assert [line for line in events if line["event"] == "request"]
    assert events[-1]["complete"]


def test_the_wait_for_an_answer_ends_in_time(options: OnlineOptions) -> None:
    events = run(replace(options, choice=ASKING, answer_timeout_s=0.3))
    n_requests = len([line for line in events if line["event"] == "request"])
    summary = Summary.model_validate_json((options.output / "summary.json").read_bytes())
    assert events[-1]["requests"] == n_requests >= 1
    assert summary.seconds >= 0.3 * n_requests
    assert summary.complete
    assert {path.name for path in (options.output / "requests").iterdir()} == {
        f"{line['frame_index']:05d}.jpg" for line in events if line["event"] == "request"
    }


def test_a_method_without_requests_works_online(options: OnlineOptions, clip: SampleClip) -> None:
    events = run(replace(options, choice=MethodChoice(method="idpro", segmenter="lite")))
    assert [line["event"] for line in events] == ["start", *["frame"] * N_FRAMES, "end"]
    assert np.mean([iou(labels, clip.labels[k], 1) for k, labels in masks_of(options.output).items()]) > 0.7


def test_a_stop_request_ends_the_run_after_the_current_frame(options: OnlineOptions) -> None:
    os.mkfifo(Path(options.output.parent) / "never")
    stop = StopRequest()
    asking = replace(options, choice=ASKING, answer_timeout_s=600, answers=str(options.output.parent / "never"))
    online = OnlineRun(asking, stop)
    thread = threading.Thread(target=online.run, daemon=True)
    thread.start()
    while not (options.output / "requests").exists():
        thread.join(0.05)
    stop.requested = True
    thread.join(20)
    assert not thread.is_alive()
    assert online.interrupted
    end = events_of(options)[-1]
    assert (end["event"], end["ended"], end["complete"]) == ("end", "interrupted", False)
    assert 2 <= end["frames"] < N_FRAMES
    assert list(masks_of(options.output)) == list(range(end["frames"]))


def test_frames_of_another_size_and_prompts_on_them_are_reported(
    options: OnlineOptions, clip: SampleClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for frame_index, image in enumerate(clip.frames):
        other = image[:40] if frame_index == 2 else image
        (folder / f"{frame_index}.jpg").write_bytes(jpeg(other))
    prompts = json.loads(Path(str(options.prompts)).read_text())
    prompts["objects"].append({"object_id": 2, "prompts": [{"frame_index": 2, "point_xy_px": [5, 5]}]})
    Path(str(options.prompts)).write_text(json.dumps(prompts))
    events = run(replace(options, source=str(folder), idle_s=0.2))
    missing = [line for line in events if line["event"] == "frame" and line["missing"]]
    assert [(line["frame_index"], line["missing"]) for line in missing] == [
        (2, "is 128x40 px, but the video is 128x72 px")
    ]
    assert "warning: frame 2 has prompts, but it never arrived or could not be read" in capsys.readouterr().err
    assert (events[-1]["ended"], events[-1]["complete"], events[-1]["missing"]) == ("source_ended", False, 1)


def test_masks_of_finished_frames_do_not_stay_in_memory(tmp_path: Path) -> None:
    mask = RunLengthMask.encode(np.random.default_rng(0).random((24, 32)) > 0.5)
    image = np.zeros((24, 32, 3), np.uint8)
    folder = OnlineRunFolder(tmp_path, {})
    folder.clear()

    def write(frames: range) -> None:
        for k in frames:
            folder.add(k, image, [FrameResult(object_id, k, mask, 0.5, False) for object_id in (1, 2)])

    write(range(100))
    gc.collect()
    tracemalloc.start()
    try:
        write(range(100, 700))
        gc.collect()
        kept = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, file) for file in ("*/ls_backend/*", "*/pipeline/*")]
        )
    finally:
        tracemalloc.stop()
    assert sum(entry.size for entry in kept.statistics("filename")) < 600 * 40, "one result has hundreds of bytes"


def test_an_answer_for_a_dropped_frame_is_refused(options: OnlineOptions) -> None:
    lines = [{"object_id": 1, "frame_index": k, "x_px": 1, "y_px": 1, "positive": False} for k in range(N_FRAMES)]
    answers(options, lines)
    events = run(replace(options, drop_late=True))
    frames = [line["frame_index"] for line in events if line["event"] == "frame"]
    taken = [line["frame_index"] for line in events if line["event"] == "answer_taken"]
    refused = [line["reason"] for line in events if line["event"] == "answer_refused"]
    assert frames[0] == 0, "a frame with prompts is never dropped"
    assert frames[-1] == N_FRAMES - 1, "the newest frame is taken"
    assert events[-1]["dropped"] == N_FRAMES - len(frames) > 0
    assert [*taken, *(int(reason.split()[1]) for reason in refused)] == [
        *frames,
        *(sorted(set(range(N_FRAMES)) - set(frames))),
    ]
    assert all(reason.endswith("was dropped") or "is past" in reason for reason in refused)
