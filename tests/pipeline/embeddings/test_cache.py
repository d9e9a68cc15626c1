"""The embedding cache: its bound, one maker per key, sharing between sessions, and what it keeps on disk."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import pipeline.embeddings.disk
from pipeline.embeddings.cache import EmbeddingCache, FrameEmbeddings, StorableEmbeddings, embedding_cache
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameError, ImageFileFrames
from tests.built_methods import lite_segmenter
from tests.pipeline.frame_sources import ArrayFrames
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter

MIB = 2**20


@dataclass(frozen=True)
class Block:
    nbytes: int


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 700_000)), max_size=40))
def test_held_bytes_never_exceed_the_bound(requests: list[tuple[int, int]]) -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    for key, nbytes in requests:
        cache.get_or_make(key, lambda nbytes=nbytes: Block(nbytes))  # type: ignore[misc]
        assert cache.held_bytes <= 2**20


def test_a_kept_value_is_not_made_again_and_the_least_recently_used_goes_first() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    made = []

    def get(key: str) -> None:
        def make() -> Block:
            made.append(key)
            return Block(400_000)

        cache.get_or_make(key, make)

    for key in "abaca":
        get(key)
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_a_value_larger_than_the_bound_is_returned_but_not_kept() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    assert cache.get_or_make("large", lambda: Block(2**21)).nbytes == 2**21
    assert len(cache) == 0
    assert cache.held_bytes == 0


def test_forgetting_all_frames_of_one_video() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    for key in (("v", 0), ("w", 0)):
        cache.get_or_make(key, lambda: Block(10))
    cache.forget_where(lambda key: isinstance(key, tuple) and key[0] == "v")
    assert (len(cache), cache.held_bytes) == (1, 10)


def test_a_bound_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        EmbeddingCache(0)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@dataclass(frozen=True)
class Packed:
    """An embedding that is the brightness of the frame, and takes 1 MiB."""

    brightness: float

    @property
    def nbytes(self) -> int:
        return MIB


class Segmenter:
    """Makes storable embeddings and counts them."""

    name = "of this test"

    def __init__(self, stored_as: str = "weights 1") -> None:
        self.stored_as, self.made = stored_as, 0
        self.slow = threading.Event()
        self.slow.set()

    def embed(self, frame_rgb: FrameRGB) -> Packed:
        self.slow.wait(10)
        self.made += 1
        return Packed(float(frame_rgb.mean()))

    def pack(self, embedding: Packed) -> bytes:
        return f"brightness {embedding.brightness}".encode().ljust(MIB)

    def unpack(self, data: bytes) -> Packed:
        word, value = data.split()
        if word != b"brightness":
            raise ValueError("not packed")
        return Packed(float(value))


@pytest.fixture
def clip(tmp_path: Path) -> ImageFileFrames:
    """Two frames of different brightness."""
    (tmp_path / "clip").mkdir()
    for frame_index, value in enumerate((50, 200)):
        Image.fromarray(np.full((32, 48, 3), value, np.uint8)).save(tmp_path / "clip" / f"{frame_index}.png")
    return ImageFileFrames.from_folder(tmp_path / "clip")


def opened(cache: EmbeddingCache[Any], segmenter: Any, frames: Any, video_key: int = 0) -> FrameEmbeddings:
    return FrameEmbeddings(cache, segmenter, frames, video_key)


def test_a_restart_embeds_nothing_again(clip: ImageFileFrames, tmp_path: Path) -> None:
    """But a frame whose file was replaced, and everything under other weights."""
    first, later, other = Segmenter(), Segmenter(), Segmenter("weights 2")
    with closing(embedding_cache(16, 64, tmp_path / "cache")) as cache:
        found = [opened(cache, first, clip).get(frame_index).brightness for frame_index in (0, 1)]
    with closing(embedding_cache(16, 64, tmp_path / "cache")) as cache:
        embeddings = opened(cache, later, clip, video_key=7)
        assert [embeddings.get(frame_index).brightness for frame_index in (0, 1)] == found == [50, 200]
        assert (first.made, later.made) == (2, 0)
        assert opened(embedding_cache(16, 0, tmp_path), Segmenter(), clip).get(0).brightness == 50
        Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(clip.paths[1])
        assert embeddings.get(1).brightness == 90
        assert later.made == 1
    with closing(embedding_cache(16, 64, tmp_path / "cache")) as cache:
        opened(cache, other, clip).get(0)
        assert other.made == 1


def test_two_sessions_of_the_same_frames_embed_them_once(clip: ImageFileFrames) -> None:
    cache, segmenter = EmbeddingCache[Packed](16), Segmenter()
    for video_key in (0, 1):
        opened(cache, segmenter, clip, video_key).get(0)
    assert segmenter.made == 1
    unnamed = ArrayFrames([np.zeros((8, 8, 3), np.uint8)])
    for video_key in (2, 3):
        opened(cache, segmenter, unnamed, video_key).get(0)
    assert segmenter.made == 3, "frames without an identity belong to one session"


def test_two_threads_make_one_embedding(clip: ImageFileFrames) -> None:
    cache, segmenter = EmbeddingCache[Packed](16), Segmenter()
    segmenter.slow.clear()
    found: list[Packed] = []
    threads = [threading.Thread(target=lambda: found.append(opened(cache, segmenter, clip).get(0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    segmenter.slow.set()
    for thread in threads:
        thread.join(10)
    assert segmenter.made == 1
    assert found == [Packed(50)] * 4


def test_a_thread_that_waited_for_a_failed_one_makes_its_own() -> None:
    cache = EmbeddingCache[Packed](16)
    started, may_fail, found = threading.Event(), threading.Event(), []

    def fail() -> Packed:
        started.set()
        may_fail.wait(10)
        raise FrameError(0, "on purpose")

    def first() -> None:
        with pytest.raises(FrameError):
            cache.get_or_make("a", fail)
        found.append("failed")

    threads = [
        threading.Thread(target=first),
        threading.Thread(target=lambda: found.append(cache.get_or_make("a", lambda: Packed(1)))),
    ]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    may_fail.set()
    for thread in threads:
        thread.join(10)
    assert "failed" in found
    assert Packed(1) in found


def test_a_full_disk_fails_no_round(clip: ImageFileFrames, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    segmenter = Segmenter()
    with closing(embedding_cache(16, 64, tmp_path / "cache")) as cache:
        with full_disk():
            assert opened(cache, segmenter, clip).get(0).brightness == 50
        assert "not kept on disk" in caplog.text
        assert opened(EmbeddingCache(16, cache.disk), segmenter, clip).get(0).brightness == 50
        assert segmenter.made == 2


def test_the_disk_is_tried_again(clip: ImageFileFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.embeddings.disk, "_PAUSE_S", 0.0)
    segmenter = Segmenter()
    with closing(embedding_cache(16, 64, tmp_path / "cache")) as cache:
        with full_disk():
            opened(cache, segmenter, clip).get(0)
        opened(cache, segmenter, clip).get(1)
        opened(EmbeddingCache(16, cache.disk), segmenter, clip).get(1)
        assert segmenter.made == 2


def test_a_folder_that_cannot_be_made_fails_nothing(clip: ImageFileFrames, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with closing(embedding_cache(16, 64, tmp_path / "file")) as cache:
        assert opened(cache, Segmenter(), clip).get(0).brightness == 50
        assert cache.disk is not None
        assert cache.disk.held_bytes == 0


def test_a_missing_frame_is_an_error(clip: ImageFileFrames) -> None:
    clip.paths[1].unlink()
    with pytest.raises(FrameError, match="frame 1"):
        opened(EmbeddingCache(16), Segmenter(), clip).get(1)


def test_forgetting_a_frame_makes_room(clip: ImageFileFrames) -> None:
    cache, segmenter = EmbeddingCache[Packed](16), Segmenter()
    embeddings = opened(cache, segmenter, clip)
    embeddings.get(0)
    embeddings.forget(0)
    embeddings.forget(1)
    assert (cache.held_bytes, len(cache)) == (0, 0)


def test_embeddings_that_are_quickly_made_are_not_stored() -> None:
    assert not isinstance(RecordingSegmenter(), StorableEmbeddings)
    assert isinstance(lite_segmenter(), StorableEmbeddings)
    assert isinstance(Segmenter(), StorableEmbeddings)
