"""Clips for the demo: drawn, decoded from real video files, and taken from folders of images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ls_backend.demo.clips import CLIPS_FOLDER, DemoClip, clip_from_frames, clip_from_video, sample_clip
from ls_backend.demo.local_server import DemoError
from pipeline.video.frames import ImageFileFrames
from pipeline.video.sample_clip import render_sample_clip

SIZE_HW_PX = (64, 96)


@pytest.fixture
def media_root(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my clip & more"
    folder.mkdir()
    return folder


def served(media_root: Path, clip: DemoClip) -> Path:
    """The clip's folder; checks that the addresses point into it, in order."""
    folder = media_root / CLIPS_FOLDER / clip.key
    prefix = f"/data/local-files/?d={CLIPS_FOLDER}/{clip.key}/"
    assert [address.removeprefix(prefix) for address in clip.frame_addresses] == list(clip.file_names)
    assert sorted(path.name for path in folder.iterdir()) == list(clip.file_names)
    assert not clip.key.strip("-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return folder


def write_video(path: Path, n_frames: int) -> list[np.ndarray]:
    frames = list(render_sample_clip(n_frames, SIZE_HW_PX).frames)
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, 25.0, (SIZE_HW_PX[1], SIZE_HW_PX[0]))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return frames


def save_flat(path: Path, grey: int, size_wh_px: tuple[int, int] = (32, 24)) -> None:
    Image.new("RGB", size_wh_px, (grey, grey, grey)).save(path)


def test_the_sample_clip_is_drawn_once(media_root: Path) -> None:
    messages: list[str] = []
    clip = sample_clip(media_root, messages.append, n_frames=3)
    folder = served(media_root, clip)
    assert clip.file_names == ("00000.jpg", "00001.jpg", "00002.jpg")
    assert ImageFileFrames.from_folder(folder).size_hw_px == (480, 854)
    assert any("2 of 3" in message for message in messages)
    before_ns = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
    assert sample_clip(media_root, n_frames=3) == clip
    assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] == before_ns


def test_a_video_becomes_numbered_frames_in_order(media_root: Path, tmp_path: Path) -> None:
    video = tmp_path / "schwan (1).mp4"
    frames = write_video(video, 7)
    messages: list[str] = []
    clip = clip_from_video(media_root, video, messages.append)
    decoded = ImageFileFrames.from_folder(served(media_root, clip))
    assert len(decoded) == len(frames) == 7
    assert "7 of 7" in messages[-1]
    for frame_index, frame in enumerate(frames):
        distances = [np.abs(decoded.frame(k).astype(int) - frame).mean() for k in range(7)]
        assert int(np.argmin(distances)) == frame_index
    assert clip_from_video(media_root, video) == clip
    write_video(video, 3)
    assert clip_from_video(media_root, video).key != clip.key


def test_what_is_not_a_video_is_named_and_leaves_nothing(media_root: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(DemoError, match=r"notes\.mp4: no frame can be decoded"):
        clip_from_video(media_root, text)
    assert list((media_root / CLIPS_FOLDER).iterdir()) == []
    with pytest.raises(DemoError, match="there is no such file"):
        clip_from_video(media_root, tmp_path / "missing.mp4")


def test_frames_keep_their_natural_order(media_root: Path, source: Path) -> None:
    for number, grey in ((10, 200), (2, 100), (1, 50)):
        save_flat(source / f"Frame {number}.png", grey)
    (source / "notes.txt").write_text("left alone")
    clip = clip_from_frames(media_root, source)
    folder = served(media_root, clip)
    assert clip.file_names == ("00000.png", "00001.png", "00002.png")
    assert [int(ImageFileFrames.from_folder(folder).frame(k)[0, 0, 0]) for k in range(3)] == [50, 100, 200]
    assert clip_from_frames(media_root, source) == clip


def test_formats_browsers_do_not_show_are_converted(media_root: Path, source: Path) -> None:
    save_flat(source / "a.tif", 77)
    clip = clip_from_frames(media_root, source)
    assert clip.file_names == ("00000.png",)
    assert int(ImageFileFrames.from_folder(served(media_root, clip)).frame(0)[0, 0, 0]) == 77


def test_the_users_files_survive_the_demos_folder(media_root: Path, source: Path) -> None:
    save_flat(source / "a.png", 10)
    clip = clip_from_frames(media_root, source)
    (served(media_root, clip) / "00000.png").unlink()
    assert (source / "a.png").is_file()


@pytest.mark.parametrize("fault", ["empty", "no image", "damaged", "other size", "missing"])
def test_unusable_folders_are_named_and_leave_nothing(media_root: Path, source: Path, fault: str) -> None:
    expected = {
        "empty": "no image in it",
        "no image": "no image in it",
        "damaged": r"b\.png is not a readable image",
        "other size": r"b\.png is 40x24 px, but the first image is 32x24 px",
        "missing": "there is no such folder",
    }[fault]
    if fault == "no image":
        (source / "notes.txt").write_text("text")
    if fault in ("damaged", "other size"):
        save_flat(source / "a.png", 10)
        save_flat(source / "b.png", 10, (40, 24))
    if fault == "damaged":
        (source / "b.png").write_bytes(b"not an image")
    with pytest.raises(DemoError, match=expected):
        clip_from_frames(media_root, source / "x" if fault == "missing" else source)
    clips = media_root / CLIPS_FOLDER
    assert not clips.exists() or list(clips.iterdir()) == []


def test_an_interrupted_import_starts_again(media_root: Path, source: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save_flat(source / name, 10)

    def interrupt(message: str) -> None:
        if "2 of 3" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clip_from_frames(media_root, source, interrupt)
    assert list((media_root / CLIPS_FOLDER).iterdir()) == []
    assert len(clip_from_frames(media_root, source).file_names) == 3
