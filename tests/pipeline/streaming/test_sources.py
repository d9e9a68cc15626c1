"""Sources yield every frame with its number; missing ones have a reason."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.batch.run import SegmentError
from pipeline.streaming.sources import (
    GrowingFolderSource,
    PipeSource,
    Source,
    SourceFrame,
    StreamSource,
    VideoFileSource,
    shown_url,
)
from tests.pipeline.streaming.rtsp_server import rtsp_camera
from tests.pipeline.streaming.stream_server import MjpegServer, file_server, serving

STEP = 20
IDLE_S = 0.8


def grey(frame_index: int) -> np.ndarray:
    """A frame that tells its number."""
    return np.full((32, 48, 3), STEP * frame_index, np.uint8)


def number(frame: SourceFrame) -> int | None:
    """Which frame `grey` made this; None for a missing one."""
    return None if frame.image is None else round(float(frame.image.mean()) / STEP)


def numbers(frames: list[SourceFrame]) -> list[int | None]:
    assert [frame.frame_index for frame in frames] == list(range(len(frames)))
    return [number(frame) for frame in frames]


def encoded(frame_index: int, suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, grey(frame_index))[1])


class Watched:
    """A source that is read in the background, as the command does."""

    def __init__(self, source: Source) -> None:
        self.frames: list[SourceFrame] = []
        self.error: SegmentError | None = None
        self._thread = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._thread.start()

    def _read(self, source: Source) -> None:
        try:
            for frame in source.frames():
                self.frames.append(frame)
        except SegmentError as error:
            self.error = error

    def until(self, n_frames: int) -> None:
        """Wait until so many have come."""
        until_s = time.monotonic() + 20
        while len(self.frames) < n_frames:
            assert time.monotonic() < until_s, self.frames
            time.sleep(0.01)

    def ended(self) -> list[SourceFrame]:
        """All frames, once no more come."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.frames


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    return path


def growing(folder: Path, stopping: threading.Event, idle_s: float = IDLE_S) -> GrowingFolderSource:
    return GrowingFolderSource(folder, idle_s=idle_s, end_name="end", stopping=stopping)


def test_a_video_file_is_read_from_first_to_last(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (48, 32))
    for frame_index in range(9):
        writer.write(grey(frame_index))
    writer.release()
    assert numbers(list(VideoFileSource(path).frames())) == list(range(9))
    path.write_text("no video")
    with pytest.raises(SegmentError, match="no frame can be decoded"):
        list(VideoFileSource(path).frames())


def pipe_of(data: bytes) -> int:
    source, sink = os.pipe()
    os.write(sink, data)
    os.close(sink)
    return source


def test_a_pipe_of_both_formats_with_a_broken_image() -> None:
    broken = bytearray(encoded(1, ".png"))
    broken[60:80] = bytes(20)
    data = encoded(0) + bytes(broken) + encoded(2, ".png") + encoded(3)[:-40]
    frames = list(PipeSource(pipe_of(data)).frames())
    assert numbers(frames[:3]) == [0, None, 2]
    assert "not a readable image" in frames[1].reason
    assert len(frames) == 4


@pytest.mark.parametrize(
    ("data", "n_frames", "message"),
    [
        (b"", 0, "standard input ended without an image; expected JPEG or PNG images one after another"),
        (b"Hello", 0, "standard input: expected JPEG or PNG images one after another, but byte 0"),
        (encoded(0) + b"Hello", 1, "`ffmpeg -i IN -f image2pipe -c:v mjpeg -q:v 2 -` writes them"),
    ],
)
def test_a_pipe_without_images_is_an_error(data: bytes, n_frames: int, message: str) -> None:
    watched = Watched(PipeSource(pipe_of(data)))
    assert len(watched.ended()) == n_frames
    assert message in str(watched.error)


def test_a_named_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "video"
    os.mkfifo(path)
    watched = Watched(PipeSource(path, "video"))
    path.write_bytes(encoded(0) + encoded(1) + b"Hello")
    assert numbers(watched.ended()) == [0, 1]
    assert str(watched.error).startswith("video: expected JPEG or PNG images")


def test_a_growing_folder_is_read_in_the_order_of_its_names(folder: Path, stopping: threading.Event) -> None:
    for frame_index in range(8, 11):
        (folder / f"{frame_index}.png").write_bytes(encoded(frame_index, ".png"))
    (folder / "notes.txt").write_text("no image")
    watched = Watched(growing(folder, stopping, idle_s=20))
    watched.until(3)
    for frame_index in (11, 12):
        (folder / f"{frame_index}.png").write_bytes(encoded(frame_index, ".png"))
        watched.until(frame_index - 7)
    (folder / "end").touch()
    assert numbers(watched.ended()) == [8, 9, 10, 11, 12]


def test_a_folder_ends_when_idle(folder: Path, stopping: threading.Event) -> None:
    (folder / "a.bmp").write_bytes(encoded(0, ".bmp"))
    began_s = time.monotonic()
    watched = Watched(growing(folder, stopping))
    watched.until(1)
    time.sleep(IDLE_S / 2)
    (folder / "b.bmp").write_bytes(encoded(1, ".bmp"))
    assert numbers(watched.ended()) == [0, 1]
    assert time.monotonic() - began_s > IDLE_S * 1.4


def test_an_empty_folder_is_an_error(folder: Path, stopping: threading.Event) -> None:
    watched = Watched(growing(folder, stopping, idle_s=0.2))
    assert watched.ended() == []
    assert "no image appeared; expected files ending in .jpg" in str(watched.error)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_a_half_written_image_is_waited_for(folder: Path, stopping: threading.Event, suffix: str) -> None:
    data = encoded(1, suffix)
    (folder / f"00000{suffix}").write_bytes(encoded(0, suffix))
    watched = Watched(growing(folder, stopping, idle_s=5))
    watched.until(1)
    with (folder / f"00001{suffix}").open("wb") as file:
        for at in range(0, len(data), len(data) // 5):
            file.write(data[at : at + len(data) // 5])
            file.flush()
            time.sleep(0.12)
            assert len(watched.frames) == 1 or at + len(data) // 5 >= len(data)
    watched.until(2)
    (folder / "end").touch()
    assert numbers(watched.ended()) == [0, 1]


def test_gaps_and_incomplete_images_are_missing_frames(folder: Path, stopping: threading.Event) -> None:
    for frame_index in (1, 2, 5, 7):
        (folder / f"{frame_index:05d}.jpg").write_bytes(encoded(frame_index))
    (folder / "00006.jpg").write_bytes(encoded(6)[:200])
    watched = Watched(growing(folder, stopping))
    watched.until(2)
    time.sleep(IDLE_S / 3)
    assert len(watched.frames) == 2, "3 and 4 may still come"
    frames = watched.ended()
    assert numbers(frames) == [1, 2, None, None, 5, None, 7], "frame 0 is the first image"
    assert frames[2].reason == "no image before 00005.jpg has its number"
    assert frames[5].reason == "00006.jpg is cut off after 200 bytes"


def test_a_gap_may_be_filled_in_time(folder: Path, stopping: threading.Event) -> None:
    for frame_index in (0, 2):
        (folder / f"{frame_index:05d}.jpg").write_bytes(encoded(frame_index))
    watched = Watched(growing(folder, stopping, idle_s=20))
    watched.until(1)
    time.sleep(0.3)
    (folder / "00001.jpg").write_bytes(encoded(1))
    watched.until(3)
    (folder / "00003.jpg").write_bytes(encoded(3))
    (folder / "00005.jpg").write_bytes(encoded(5))
    (folder / "end").touch()
    assert numbers(watched.ended()) == [0, 1, 2, 3, None, 5], "after the end is marked nothing is waited for"


def test_a_late_image_is_left_out(folder: Path, stopping: threading.Event) -> None:
    for frame_index in (0, 2):
        (folder / f"{frame_index}.jpg").write_bytes(encoded(frame_index))
    (folder / "3.jpg").write_bytes(encoded(3)[:200])
    watched = Watched(growing(folder, stopping, idle_s=0.6))
    watched.until(3)
    for frame_index in (1, 4, 3):
        (folder / f"{frame_index}.jpg").write_bytes(encoded(frame_index))
    (folder / "end").touch()
    assert numbers(watched.ended()) == [0, None, 2, 3, 4]


def test_names_that_are_times_make_no_gaps(folder: Path, stopping: threading.Event) -> None:
    for frame_index, name in enumerate(("1699999000.jpg", "1700000900.jpg", "1700090000.jpg")):
        (folder / name).write_bytes(encoded(frame_index))
    (folder / "end").touch()
    assert numbers(Watched(growing(folder, stopping)).ended()) == [0, 1, 2]


def test_a_deleted_folder_is_an_error(folder: Path, stopping: threading.Event) -> None:
    (folder / "0.jpg").write_bytes(encoded(0))
    watched = Watched(growing(folder, stopping, idle_s=20))
    watched.until(1)
    (folder / "0.jpg").unlink()
    folder.rmdir()
    watched.ended()
    assert "cannot be read: No such file or directory" in str(watched.error)


def stream(url: str, stopping: threading.Event, *, reconnects: int = 2) -> tuple[StreamSource, list[str]]:
    notes: list[str] = []
    return StreamSource(url, timeout_s=5, reconnects=reconnects, stopping=stopping, note=notes.append), notes


def test_a_broken_camera_stream_is_opened_again_and_counted_on(stopping: threading.Event) -> None:
    camera = MjpegServer([[grey(k) for k in (0, 1, 2)], [grey(k) for k in (3, 4, 5)]])
    with serving(camera) as url:
        source, notes = stream(url, stopping)
        frames = Watched(source).ended()
    assert numbers(frames) == [0, 1, 2, 3, 4, 5]
    assert source.live
    assert camera.connections == 4, "two attempts after the last frame"
    assert [note.rpartition("; ")[2] for note in notes] == [
        "attempt 1 of 2 in 0.5 s",
        "attempt 1 of 2 in 0.5 s",
        "attempt 2 of 2 in 1 s",
    ]


def test_frames_over_rtsp_keep_their_numbers(stopping: threading.Event) -> None:
    with rtsp_camera([grey(k) for k in range(12)], pause_s=0.03) as url:
        source, notes = stream(url, stopping, reconnects=1)
        frames = Watched(source).ended()
    assert numbers(frames) == list(range(12))
    assert all(frame.image is not None and frame.image.shape == (32, 48, 3) for frame in frames)
    assert source.live
    assert len(notes) == 1


def test_a_missing_stream_is_an_error_without_the_password(stopping: threading.Event) -> None:
    with serving(MjpegServer([])) as url:
        source, notes = stream(url.replace("http://", "http://user:secret@"), stopping, reconnects=1)
        watched = Watched(source)
        assert watched.ended() == []
    assert str(watched.error).startswith(f"{url} cannot be opened (2 attempts); expected a video stream")
    assert len(notes) == 1
    assert "secret" not in str(watched.error) + notes[0]


def test_a_file_on_a_server_is_not_live(tmp_path: Path, stopping: threading.Event) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (48, 32))
    for frame_index in range(6):
        writer.write(grey(frame_index))
    writer.release()
    with file_server(tmp_path) as url:
        source, notes = stream(f"{url}/clip.avi", stopping)
        assert numbers(Watched(source).ended()) == list(range(6))
    assert not source.live
    assert notes == []


def test_reading_a_stream_can_be_stopped(stopping: threading.Event) -> None:
    camera = MjpegServer([[grey(0)] * 500], pause_s=0.02)
    with serving(camera) as url:
        watched = Watched(stream(url, stopping)[0])
        watched.until(3)
        stopping.set()
        assert len(watched.ended()) < 500


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:p@ss@camera:554/live?x=1", "rtsp://camera:554/live?x=1"),
        ("http://host/stream.mjpg", "http://host/stream.mjpg"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
