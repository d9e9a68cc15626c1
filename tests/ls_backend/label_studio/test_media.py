from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ls_backend.errors import TaskError
from ls_backend.label_studio.connections import LabelStudioAuth
from ls_backend.label_studio.media import MIB, MediaFetcher, TaskFrames, frame_urls
from ls_backend.protocol.payloads import TaskPayload
from ls_backend.settings import Settings
from pipeline.video.frames import FrameError, frame_identity
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer, png


def frame(seed: int, size_hw_px: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A frame of noise, (H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*size_hw_px, 3), dtype=np.uint8)


@pytest.fixture
def fetcher(settings: Settings, tmp_path: Path) -> Iterator[MediaFetcher]:
    fetcher = MediaFetcher(settings, tmp_path / "frames")
    yield fetcher
    fetcher.close()


def task_frames(media: MediaServer, fetcher: MediaFetcher, urls: list[str], token: str = LEGACY_TOKEN) -> TaskFrames:
    return TaskFrames(urls, fetcher, LabelStudioAuth(media.url, token))


def test_frames_are_fetched_once_and_exact(
    media: MediaServer, fetcher: MediaFetcher, settings: Settings, tmp_path: Path
) -> None:
    frames = task_frames(media, fetcher, [media.put(f"{index}", frame(index)) for index in range(3)])
    assert frames.size_hw_px == (48, 64)
    for index in range(3):
        assert (frames.frame(index) == frame(index)).all()
        assert not frames.frame(index).flags.writeable, "a shared frame must not be painted on"
    assert [media.asked(f"{index}") for index in range(3)] == [1, 1, 1]
    restarted = MediaFetcher(settings, tmp_path / "frames")
    assert (task_frames(media, restarted, list(frames.urls)).frame(2) == frame(2)).all()
    assert media.asked("2") == 1, "the disk cache outlives the process"
    restarted.close()


def test_plain_http_needs_no_label_studio(media: MediaServer, fetcher: MediaFetcher) -> None:
    media.put("a", frame(1))
    frames = TaskFrames([f"{media.url}/open/a"], fetcher, LabelStudioAuth("", ""))
    assert (frames.frame(0) == frame(1)).all()
    assert media.requests == [("a", "")]


def test_a_frame_is_known_by_its_content(
    media: MediaServer, fetcher: MediaFetcher, settings: Settings, tmp_path: Path
) -> None:
    """Whatever its address; what cannot be fetched has no identity, and says why when it is read."""
    urls = [media.put(name, frame(seed)) for name, seed in (("a", 1), ("b", 2), ("again", 1), ("gone", 3))]
    del media.files["gone"]
    frames = task_frames(media, fetcher, urls)
    a, b, again, gone = (frame_identity(frames, index) for index in range(4))
    assert a == again != b
    assert None not in (a, b)
    assert gone is None
    with pytest.raises(FrameError, match="frame 3"):
        frames.frame(3)
    assert media.asked("a") == 1
    restarted = MediaFetcher(settings, tmp_path / "frames")
    assert frame_identity(task_frames(media, restarted, urls), 0) == a
    assert media.asked("a") == 1
    restarted.close()


def test_one_bad_frame_is_named_and_the_others_are_read(media: MediaServer, fetcher: MediaFetcher) -> None:
    urls = [media.put(name, frame(index)) for index, name in enumerate("abcde")]
    del media.files["a"]
    media.files["b"] = b"<html>an error page</html>"
    media.files["c"] = png(frame(9, (24, 64)))
    frames = task_frames(media, fetcher, [*urls[:1], urls[1], urls[3], urls[2], urls[4], "s3://bucket/x.png"])
    assert frames.size_hw_px == (48, 64)
    assert (frames.frame(2) == frame(3)).all()
    assert (frames.frame(4) == frame(4)).all()
    for index, reason in {
        0: "answered 404: no such file",
        1: "not a readable image",
        3: "is 64x24 px.*64x48",
        5: "s3://",
    }.items():
        with pytest.raises(FrameError, match=f"frame {index}: .*{reason}"):
            frames.frame(index)
    media.put("b", frame(1))
    assert (frames.frame(1) == frame(1)).all(), "what did not decode was not kept"


@pytest.mark.parametrize(
    ("token", "reason"), [("", "IVOS_LABEL_STUDIO_TOKEN"), ("wrong", "IVOS_LABEL_STUDIO_TOKEN"), ("not.a.token", "401")]
)
def test_refused_token_says_what_to_do(media: MediaServer, fetcher: MediaFetcher, token: str, reason: str) -> None:
    frames = task_frames(media, fetcher, [media.put("a", frame(0))], token)
    with pytest.raises(FrameError, match=reason):
        frames.frame(0)


def test_unknown_label_studio_says_what_to_do(media: MediaServer, fetcher: MediaFetcher) -> None:
    frames = TaskFrames([media.put("a", frame(0))], fetcher, LabelStudioAuth("", ""))
    with pytest.raises(FrameError, match="reload the project's page or set IVOS_LABEL_STUDIO_URL"):
        frames.frame(0)


def test_unreachable_server_is_asked_once(fetcher: MediaFetcher) -> None:
    # A port nobody listens on; the first request is retried, the others must not wait.
    frames = TaskFrames([f"http://127.0.0.1:9/{index}.png" for index in range(500)], fetcher, LabelStudioAuth("", ""))
    with pytest.raises(FrameError, match=r"frame 0: .*cannot be fetched"):
        _ = frames.size_hw_px
    with pytest.raises(FrameError, match=r"frame 499: .*cannot be fetched"):
        frames.read(499)


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (404, 50), (503, 3)])
def test_a_refusal_of_everything_is_not_asked_for_50_times(
    media: MediaServer, fetcher: MediaFetcher, status: int, asked: int
) -> None:
    urls = [media.put(f"{index}", frame(index)) for index in range(50)]
    media.status = {f"{index}": [status] * 10 for index in range(50)}
    with pytest.raises(FrameError, match=str(status)):
        _ = task_frames(media, fetcher, urls).size_hw_px
    assert len(media.requests) == asked
    other_project = task_frames(media, fetcher, [media.put("good", frame(9))])
    assert (other_project.frame(0) == frame(9)).all(), "only this token's requests wait"


def test_too_large_a_file_is_refused(media: MediaServer, settings: Settings, tmp_path: Path) -> None:
    fetcher = MediaFetcher(settings.model_copy(update={"fetch_max_mib": 1}), tmp_path / "frames")
    frames = task_frames(media, fetcher, [media.put("a", frame(0, (800, 800)))])
    with pytest.raises(FrameError, match="larger than IVOS_FETCH_MAX_MIB=1"):
        frames.frame(0)
    fetcher.close()


def test_both_caches_hold_their_bounds(media: MediaServer, settings: Settings, tmp_path: Path) -> None:
    bounds = settings.model_copy(update={"frame_disk_mib": 16, "frame_ram_mib": 16})
    fetcher = MediaFetcher(bounds, tmp_path / "frames")
    frames = task_frames(media, fetcher, [media.put(f"{index}", frame(index, (600, 1000))) for index in range(24)])
    for index in range(24):
        frames.frame(index)
    assert fetcher.ram_bytes <= 16 * MIB
    on_disk = sum(path.stat().st_size for path in (tmp_path / "frames").rglob("*.val"))
    # 24 frames of 1.7 MiB would be 41 MiB; the library lets the bound be passed by the file being written.
    assert on_disk <= 18 * MIB
    assert (frames.frame(0) == frame(0, (600, 1000))).all()
    fetcher.close()


@pytest.mark.parametrize("frames", [None, [], "a.jpg", {"a": 1}, [1], [""], ["a.jpg", None]])
def test_task_without_frames(frames: object) -> None:
    task = TaskPayload(id="5", data={"frames": frames})
    with pytest.raises(TaskError, match='task 5 has no frames: its data needs "frames"'):
        frame_urls(task, "frames")
