from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, ImageFileFrames, RecentFrames, decode_image


def write(path: Path, value: int, size_hw_px: tuple[int, int] = (6, 8)) -> Path:
    """A one-coloured image: its red is ``value``, green and blue are 0."""
    image = np.zeros((*size_hw_px, 3), np.uint8)
    image[..., 0] = value
    Image.fromarray(image).save(path)
    return path


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, value in {"00002.png": 30, "00000.png": 10, "00001.bmp": 20}.items():
        write(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = ImageFileFrames.from_folder(tmp_path)
    assert len(frames) == 3
    assert frames.size_hw_px == (6, 8)
    assert [int(frames.frame(index)[0, 0, 0]) for index in range(3)] == [10, 20, 30]
    assert frames.frame(0)[0, 0].tolist() == [10, 0, 0], "channels are red, green, blue"


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["shot1-9.png", "shot1-10.png", "shot1-100.png", "shot2-1.png", "shot10-1.png", "take1.png"]
    for value, name in enumerate(names):
        write(tmp_path / name, value)
    assert [path.name for path in ImageFileFrames.from_folder(tmp_path).paths] == names


def test_a_folder_without_images_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no image; expected files ending in \.jpg"):
        ImageFileFrames.from_folder(tmp_path)


def test_bad_frames_are_named_and_the_others_read(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and nothing more")
    paths = [tmp_path / "absent.png", tmp_path / "broken.png", write(tmp_path / "a.png", 1)]
    frames = ImageFileFrames([*paths, write(tmp_path / "large.png", 2, (12, 8)), write(tmp_path / "b.png", 3)])
    assert frames.size_hw_px == (6, 8), "the first readable frame says the size"
    assert [int(frames.frame(index)[0, 0, 0]) for index in (2, 4)] == [1, 3]
    for index, reason in {
        0: "No such file",
        1: "not a readable image",
        3: "is 8x12 px, but the video is 8x6 px",
    }.items():
        with pytest.raises(FrameError, match=f"frame {index}: .*{reason}"):
            frames.frame(index)
    for outside in (-1, 5):
        with pytest.raises(IndexError, match="of a video of 5 frames"):
            frames.frame(outside)


@pytest.mark.parametrize("paths", [[], [Path("nowhere/0.png"), Path("nowhere/1.png")]])
def test_a_video_without_a_readable_frame(paths: list[Path]) -> None:
    with pytest.raises(FrameError, match="frame 0: "):
        _ = ImageFileFrames(paths).size_hw_px


def test_images_are_turned_upright_as_browsers_show_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert decode_image((tmp_path / "turned.jpg").read_bytes(), 0).shape == (8, 6, 3)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_images_become_rgb(channels: int) -> None:
    shape = (6, 8) if channels == 1 else (6, 8, channels)
    data = bytes(cv2.imencode(".png", np.full(shape, 7, np.uint8))[1])
    assert decode_image(data, 0).shape == (6, 8, 3)


class CountedFrames(ImageFileFrames):
    """Image files that count how often each frame is read."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(paths)
        self.reads = [0] * len(paths)

    def read(self, frame_index: int) -> FrameRGB:
        self.reads[frame_index] += 1
        return super().read(frame_index)


@pytest.mark.parametrize(
    ("room_frames", "reads"),
    [(2, [1, 2, 1]), (3, [1, 1, 1]), (1, [2, 2, 1]), (0, [2, 2, 1])],
    ids=["two", "three", "one", "none"],
)
def test_recent_frames_stay_within_their_bound_and_the_least_recently_used_goes_first(
    room_frames: int, reads: list[int], tmp_path: Path
) -> None:
    source = CountedFrames([write(tmp_path / f"{k}.png", k) for k in range(3)])
    source.size_hw_px  # noqa: B018
    source.reads = [0, 0, 0]
    frame_bytes = 6 * 8 * 3
    frames = RecentFrames(source, limit_mib=room_frames * frame_bytes / 2**20)
    for frame_index in (0, 1, 0, 2, 1):
        assert frames.frame(frame_index)[0, 0, 0] == frame_index
        assert frames.held_bytes <= room_frames * frame_bytes
    assert source.reads == reads


def test_recent_frames_note_errors_until_the_frame_can_be_read(tmp_path: Path) -> None:
    paths = [write(tmp_path / "0.png", 0), tmp_path / "1.png"]
    frames = RecentFrames(ImageFileFrames(paths))
    with pytest.raises(FrameError):
        frames.frame(1)
    assert list(frames.errors) == [1]
    write(paths[1], 1)
    frames.frame(1)
    assert frames.errors == {}
