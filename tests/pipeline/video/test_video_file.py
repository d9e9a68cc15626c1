"""Frames of real video files: order, count, orientation, and files that are no videos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.video.reader import VideoError, VideoReader
from pipeline.video.video_file import VideoFileFrames
from tests.pipeline.video.numbered_video import turn

pytestmark = pytest.mark.usefixtures("temporary_folder")
N_FRAMES = 12


def video(path: Path, codec: str = "mp4v", n_frames: int = N_FRAMES) -> Path:
    """Frame k is grey of brightness 20 * k, with a bright block at the top left."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (96, 64))
    assert writer.isOpened()
    for frame_index in range(n_frames):
        image = np.full((64, 96, 3), 20 * frame_index, np.uint8)
        image[:16, :16] = 255
        writer.write(image)
    writer.release()
    return path


@pytest.mark.parametrize("name", ["a.mp4", "frames: 100%d.avi"])
def test_frames_in_any_order_are_the_decoders(name: str, tmp_path: Path, temporary_folder: Path) -> None:
    path = video(tmp_path / name, "mp4v" if name.endswith("mp4") else "MJPG")
    with VideoReader(path) as reader:
        expected = [image for image in reader.frames() if image is not None]
        assert reader.announced_frames == N_FRAMES
    seen: list[tuple[int, int]] = []
    with VideoFileFrames(path, on_frame=lambda *counts: seen.append(counts)) as frames:
        assert len(frames) == len(expected) == N_FRAMES
        assert seen == [(n + 1, N_FRAMES) for n in range(N_FRAMES)]
        assert frames.size_hw_px == (64, 96)
        for frame_index in [11, 0, *range(10, -1, -1), 5]:
            difference = np.abs(frames.frame(frame_index).astype(int) - expected[frame_index])
            assert difference.mean() < 2, frame_index
            assert abs(int(frames.frame(frame_index)[60, 90].mean()) - 20 * frame_index) < 8
        kept = [path.stat().st_size for path in temporary_folder.rglob("*.jpg")]
        assert sum(kept) == frames.disk_bytes
    assert list(temporary_folder.iterdir()) == []


def test_colours_survive(tmp_path: Path) -> None:
    path = tmp_path / "red.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (96, 64))
    writer.write(np.full((64, 96, 3), (10, 20, 220), np.uint8))
    writer.release()
    with VideoFileFrames(path) as frames:
        assert np.abs(frames.frame(0)[30, 40].astype(int) - (220, 20, 10)).max() < 12


@pytest.mark.parametrize(
    ("degrees", "size_hw_px", "block_xy_px"),
    [(90, (96, 64), (58, 5)), (180, (64, 96), (90, 58)), (270, (96, 64), (5, 90))],
)
def test_a_turned_video_is_upright(
    degrees: int, size_hw_px: tuple[int, int], block_xy_px: tuple[int, int], tmp_path: Path
) -> None:
    path = video(tmp_path / "turned.mp4")
    turn(path, degrees)
    x_px, y_px = block_xy_px
    for disk_mib in (1.0, 0.01):
        with VideoFileFrames(path, disk_mib=disk_mib) as frames:
            assert frames.size_hw_px == size_hw_px
            for frame_index in (0, 11, 3):
                assert frames.frame(frame_index)[y_px, x_px].min() > 200, "the block that was at the top left"
                assert abs(int(frames.frame(frame_index)[30, 30].mean()) - 20 * frame_index) < 12


def test_a_truncated_file_gives_the_frames_it_has(tmp_path: Path) -> None:
    data = video(tmp_path / "a.avi", "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 3 // 4])
    with VideoFileFrames(tmp_path / "cut.avi") as frames:
        assert 0 < len(frames) < frames.announced_frames == N_FRAMES
        with pytest.raises(IndexError):
            frames.frame(len(frames))


@pytest.mark.parametrize("fault", ["absent", "text", "empty", "cut", "folder", "image"])
def test_a_file_that_is_no_video_is_refused(fault: str, tmp_path: Path, temporary_folder: Path) -> None:
    path = tmp_path / ("frame.png" if fault == "image" else "a.mp4")
    data = video(tmp_path / "whole.mp4").read_bytes()
    if fault == "folder":
        path.mkdir()
    elif fault != "absent":
        path.write_bytes({"text": b"no video" * 99, "empty": b"", "cut": data[: len(data) // 2], "image": b"x"}[fault])
    expected = {"absent": "no such file", "folder": "no such file", "image": "is one image; expected a video file"}
    with pytest.raises(VideoError, match=expected.get(fault, "no frame can be decoded; expected a video")) as caught:
        VideoFileFrames(path)
    assert str(path) in str(caught.value)
    assert list(temporary_folder.iterdir()) == []


def test_stopping_half_way_leaves_no_files(tmp_path: Path, temporary_folder: Path) -> None:
    def stop(n_frames: int, _announced: int) -> None:
        if n_frames == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VideoFileFrames(video(tmp_path / "a.mp4"), on_frame=stop)
    assert list(temporary_folder.iterdir()) == []
