"""Frame k of the source is frame k on screen: whatever the file is like, in whatever order, kept or decoded again."""

from __future__ import annotations

import collections
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.video.frames import FrameError, frame_identity
from pipeline.video.reader import VideoReader
from pipeline.video.video_file import MIB, VideoFileFrames
from tests.pipeline.video.numbered_video import (
    announce,
    blank_frame,
    number_shown,
    picture_types,
    turn,
    vary_frame_rate,
    write_video,
)

pytestmark = pytest.mark.usefixtures("temporary_folder")
N_FRAMES = 60
TIGHT_MIB = 0.2
"""So that most frames of `N_FRAMES` have to be decoded again."""


@dataclass(frozen=True)
class Case:
    """A file, the number that each of its frames shows (None: it cannot be decoded), and how many it claims to have."""

    write: Callable[[Path], Path]
    shown: list[int | None]
    announced: int = N_FRAMES


def _edited(name: str, codec: str, edit: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = write_video(folder / name, codec, range(N_FRAMES))
        edit(path)
        return path

    return write


def _plain(name: str, codec: str) -> Callable[[Path], Path]:
    return _edited(name, codec, lambda _: None)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


def _blank(path: Path) -> None:
    for number in (4, 30, 31):
        blank_frame(path, number)


ALL: list[int | None] = list(range(N_FRAMES))
VARYING = [(20, 256), (20, 1024), (20, 256)]
SLIGHTLY = [(20, 512), (20, 520), (20, 504)]
"""B-frames are shown at a distance from their place in the file that is written down beside the durations."""
CASES = {
    "key frames only": Case(_plain("a.avi", "MJPG"), ALL),
    "few key frames": Case(_plain("a.mp4", "mp4v"), ALL),
    "another codec": Case(_plain("a.webm", "VP80"), ALL),
    "B-frames": Case(_plain("a.mp4", "mpg2"), ALL),
    "B-frames, program stream": Case(_plain("a.mpg", "mpg2"), ALL),
    "B-frames, no index": Case(_plain("a.ts", "mpg2"), ALL),
    "varying frame rate": Case(_edited("a.mp4", "mp4v", lambda path: vary_frame_rate(path, VARYING)), ALL),
    "varying frame rate, B-frames": Case(_edited("a.mp4", "mpg2", lambda path: vary_frame_rate(path, SLIGHTLY)), ALL),
    "announces more": Case(_edited("a.avi", "MJPG", lambda path: announce(path, 90)), ALL, announced=90),
    "announces fewer": Case(_edited("a.avi", "MJPG", lambda path: announce(path, 7)), ALL, announced=7),
    "announces none": Case(_edited("a.avi", "MJPG", lambda path: announce(path, 0)), ALL, announced=0),
    "turned": Case(
        _edited("a.mp4", "mp4v", lambda path: turn(path, 180)), [int(f"{k:08b}"[::-1], 2) for k in range(N_FRAMES)]
    ),
    "cut short": Case(_edited("a.avi", "MJPG", _cut), list(range(45))),
    "damaged frames": Case(
        _edited("a.avi", "MJPG", _blank), [None if k in (4, 30, 31) else k for k in range(N_FRAMES)]
    ),
    "one picture again and again": Case(
        lambda folder: write_video(folder / "a.ts", "mpg2", [5] * 30 + list(range(30))), [*[5] * 30, *range(30)]
    ),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a case, written once."""

    @cache
    def write(name: str) -> Path:
        return CASES[name].write(tmp_path_factory.mktemp("case"))

    return write


def on_disk_bytes(folder: Path) -> int:
    """The size of all frames in the folder now."""
    return sum(path.stat().st_size for path in folder.rglob("*.jpg"))


def orders(n_frames: int) -> dict[str, list[int]]:
    """The orders in which a video is read."""
    middle = n_frames // 2
    outward = [k for away in range(1, n_frames) for k in (middle + away, middle - away) if 0 <= k < n_frames]
    return {
        "forwards": list(range(n_frames)),
        "backwards": list(range(n_frames))[::-1],
        "outward from the middle": [middle, *outward],
        "random": random.Random(0).sample(range(n_frames), n_frames),
    }


def number_of(frames: VideoFileFrames, frame_index: int) -> int | None:
    """What a frame shows, None if it cannot be read."""
    try:
        return number_shown(frames.frame(frame_index))
    except FrameError as error:
        return None if (error.frame_index, "damaged there" in error.reason) == (frame_index, True) else -1


@pytest.mark.parametrize("disk_mib", [64.0, TIGHT_MIB, 0.001], ids=["all kept", "some kept", "none kept"])
@pytest.mark.parametrize("name", CASES)
def test_every_frame_shows_its_own_number(
    name: str, disk_mib: float, written: Callable[[str], Path], temporary_folder: Path
) -> None:
    case = CASES[name]
    with VideoFileFrames(written(name), disk_mib=disk_mib) as frames:
        assert (len(frames), frames.announced_frames) == (len(case.shown), case.announced)
        assert (frames.kept_frames == len(frames)) == (disk_mib == 64)
        for order, indices in orders(len(frames)).items():
            if disk_mib < TIGHT_MIB and order != "backwards":
                indices = indices[::7]
            for frame_index in indices:
                assert number_of(frames, frame_index) == case.shown[frame_index], (order, frame_index)
            assert on_disk_bytes(temporary_folder) == frames.disk_bytes
        assert frames.disk_bytes <= frames.peak_disk_bytes <= disk_mib * MIB


def test_the_cases_are_as_hard_as_they_claim(tmp_path: Path) -> None:
    """There are B-frames, and a plain seek does go wrong: else the cases would prove nothing."""
    assert "BB" in picture_types(CASES["B-frames, no index"].write(tmp_path))
    assert "BB" in picture_types(CASES["B-frames"].write(tmp_path))
    for name in ("announces fewer", "varying frame rate"):
        with VideoReader(CASES[name].write(tmp_path)) as reader:
            assert reader.seek(30)
            image = reader.next_frame()
            assert image is None or number_shown(image) != 30, name


def test_a_frame_decoded_again_is_the_frame_that_was_kept(tmp_path: Path) -> None:
    path = CASES["few key frames"].write(tmp_path)
    with VideoFileFrames(path) as kept, VideoFileFrames(path, disk_mib=TIGHT_MIB) as again:
        for frame_index in (59, 3, 40):
            np.testing.assert_array_equal(kept.frame(frame_index), again.frame(frame_index))


def test_the_bound_holds_at_every_moment(tmp_path: Path, temporary_folder: Path) -> None:
    path = CASES["key frames only"].write(tmp_path)
    most_bytes = 0

    def measure(*_: int) -> None:
        nonlocal most_bytes
        most_bytes = max(most_bytes, on_disk_bytes(temporary_folder))

    with VideoFileFrames(path, disk_mib=TIGHT_MIB, on_frame=measure, check=measure) as frames:
        for indices in orders(len(frames)).values():
            for frame_index in indices:
                frames.frame(frame_index)
                measure()
        assert 0 < frames.kept_frames < len(frames)
        assert TIGHT_MIB * MIB / 2 < most_bytes <= frames.peak_disk_bytes <= TIGHT_MIB * MIB
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.parametrize(("name", "most"), [("a.mp4", 6), ("a.avi", 6)])
def test_either_direction_costs_a_few_decodes_a_frame(name: str, most: int, tmp_path: Path) -> None:
    """Decoding from the start for every chunk would take some 25 decodes a frame."""
    path = write_video(tmp_path / name, "mp4v" if name == "a.mp4" else "MJPG", [k % 256 for k in range(300)])
    decoded = 0

    def count() -> None:
        nonlocal decoded
        decoded += 1

    with VideoFileFrames(path, disk_mib=0.5, check=count) as frames:
        assert frames.kept_frames < 60
        for order in ("forwards", "backwards", "outward from the middle"):
            decoded = 0
            for frame_index in orders(300)[order]:
                assert number_shown(frames.frame(frame_index)) == frame_index % 256
            assert decoded < most * 300, order


def test_stopping_while_a_frame_is_decoded_again(tmp_path: Path) -> None:
    """Once the stop is over, the same frames are there."""
    countdown = [1000]

    def stop() -> None:
        countdown[0] -= 1
        if not countdown[0]:
            raise KeyboardInterrupt

    with VideoFileFrames(CASES["B-frames"].write(tmp_path), disk_mib=TIGHT_MIB, check=stop) as frames:
        for after in (1, 2, 20):
            countdown[0] = after
            with pytest.raises(KeyboardInterrupt):
                collections.deque(map(frames.frame, reversed(range(len(frames)))), maxlen=0)
            countdown[0] = 10_000
            assert [number_shown(frames.frame(k)) for k in (59, 30, 31, 0)] == [59, 30, 31, 0]


@pytest.mark.parametrize("fate", ["gone", "another video", "cut"])
def test_a_file_that_changes_meanwhile_is_an_error(fate: str, tmp_path: Path) -> None:
    path = CASES["key frames only"].write(tmp_path)
    with VideoFileFrames(path, disk_mib=TIGHT_MIB) as frames:
        data = path.read_bytes()
        path.unlink()
        if fate == "another video":
            write_video(path, "MJPG", range(100, 100 + N_FRAMES))
        elif fate == "cut":
            path.write_bytes(data[: len(data) // 2])
        with pytest.raises(FrameError, match=r"frame 59: cannot be decoded again: .*(no such file|no longer what it)"):
            frames.frame(59)
        assert number_shown(frames.frame(0)) == 0, "it was kept"


def test_two_threads_in_opposite_directions(tmp_path: Path) -> None:
    path = CASES["few key frames"].write(tmp_path)
    wrong: list[object] = []

    def read(frames: VideoFileFrames, indices: list[int]) -> None:
        try:
            wrong.extend(k for k in indices if number_shown(frames.frame(k)) != k)
        except Exception as error:
            wrong.append(error)

    with VideoFileFrames(path, disk_mib=TIGHT_MIB) as frames:
        by_name = orders(len(frames))
        threads = [threading.Thread(target=read, args=(frames, by_name[name])) for name in ("forwards", "backwards")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_identities_of_frames_stay_until_the_file_changes(tmp_path: Path) -> None:
    path = CASES["key frames only"].write(tmp_path)
    with VideoFileFrames(path) as one, VideoFileFrames(path, disk_mib=TIGHT_MIB) as other:
        names = {frame_identity(one, k) for k in range(N_FRAMES)}
        assert len(names) == N_FRAMES
        assert names == {frame_identity(other, k) for k in range(N_FRAMES)}
    write_video(path, "MJPG", range(N_FRAMES))
    with VideoFileFrames(path) as changed:
        assert frame_identity(changed, 0) not in names
