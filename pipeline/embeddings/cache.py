"""A cache of image embeddings in memory and on disk, both bounded in bytes, shared by all videos of a process.

An embedding depends only on the frame and the segmenter. Where a video can tell that a frame is the same as one seen
before (`IdentifiedFrames`), its embedding is made once for all sessions. Where making it takes much longer than reading
it back (`StorableEmbeddings`), it is made once for all restarts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from cachetools import LRUCache

from pipeline.embeddings.disk import EmbeddingDisk
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameSource, frame_identity


class SupportsNbytes(Protocol):
    """A value that knows how many bytes of memory it takes."""

    @property
    def nbytes(self) -> int:
        """Memory, in bytes."""
        ...


T = TypeVar("T", bound=SupportsNbytes)
DISK_MIB = 4096
"""Bound on disk of the commands that come back to a clip's frames, as of the backend: some 500 frames of HQ-SAM."""


@runtime_checkable
class StorableEmbeddings(Protocol):
    """A segmenter whose embeddings take so long to make that storing them on disk pays."""

    @property
    def stored_as(self) -> str:
        """Names the network, its weights and the format of `pack`; where any of these differs, the names differ."""
        ...

    def pack(self, embedding: Any) -> bytes:
        """An embedding as bytes."""
        ...

    def unpack(self, data: bytes) -> Any:
        """The embedding again.

        Raises:
            ValueError: the bytes did not come from `pack`.
        """
        ...


class _Embeds(Protocol):
    @property
    def name(self) -> str: ...

    def embed(self, frame_rgb: FrameRGB) -> Any: ...


class EmbeddingCache(Generic[T]):
    """A thread-safe cache of at most ``limit_mib`` MiB; the least recently used values are dropped first.

    A value larger than the bound is returned but not kept.
    """

    def __init__(self, limit_mib: float, disk: EmbeddingDisk | None = None) -> None:
        if limit_mib <= 0:
            raise ValueError(f"the embedding cache needs a positive bound in MiB, but got {limit_mib}")
        self.disk = disk
        self._values: LRUCache[Hashable, T] = LRUCache(int(limit_mib * 2**20), getsizeof=lambda value: value.nbytes)
        self._in_progress: dict[Hashable, Future[T]] = {}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes kept now; never more than the bound."""
        return int(self._values.currsize)

    def __len__(self) -> int:
        return len(self._values)

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made by ``make`` if it is missing. Other threads that want it meanwhile wait for it.

        Raises:
            Exception: whatever ``make`` raised. Threads that waited then call their own ``make``.
        """
        while True:
            with self._lock:
                value = self._values.get(key)
                if value is not None:
                    return value
                of_other_thread = self._in_progress.get(key)
                if of_other_thread is None:
                    future = self._in_progress[key] = Future()
                    break
            if of_other_thread.exception() is None:
                return of_other_thread.result()
        return self._make(key, make, future)

    def forget_where(self, belongs: Callable[[Hashable], bool]) -> None:
        """Drop every key for which ``belongs`` is true (those of a closed video)."""
        with self._lock:
            for key in [key for key in self._values if belongs(key)]:
                del self._values[key]

    def forget(self, key: Hashable) -> None:
        """Drop one key, if it is there."""
        with self._lock:
            self._values.pop(key, None)

    def close(self) -> None:
        """Close the disk; what is stored stays there."""
        if self.disk is not None:
            self.disk.close()

    def _make(self, key: Hashable, make: Callable[[], T], future: Future[T]) -> T:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._in_progress[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._in_progress[key]
            if value.nbytes <= self._values.maxsize:
                self._values[key] = value
        future.set_result(value)
        return value


class FrameEmbeddings:
    """The embeddings of one open video's frames."""

    def __init__(self, cache: EmbeddingCache[Any], segmenter: _Embeds, frames: FrameSource, video_key: int) -> None:
        """Nothing is embedded yet.

        Args:
            cache: shared with other videos.
            segmenter: makes the embeddings.
            frames: the video.
            video_key: tells the frames of this video from those of others where frames have no identity.
        """
        self._cache, self._segmenter, self._frames, self._video_key = cache, segmenter, frames, video_key

    def get(self, frame_index: int) -> Any:
        """The embedding of a frame.

        Raises:
            FrameError: the frame cannot be read.
        """
        identity = frame_identity(self._frames, frame_index)
        return self._cache.get_or_make(self._key(frame_index, identity), lambda: self._make(frame_index, identity))

    def forget(self, frame_index: int) -> None:
        """Drop the embedding of a frame from memory."""
        self._cache.forget(self._key(frame_index, frame_identity(self._frames, frame_index)))

    def _key(self, frame_index: int, identity: str | None) -> Hashable:
        frame_key = (self._video_key, frame_index) if identity is None else identity
        return self._segmenter.name, frame_key

    def _make(self, frame_index: int, identity: str | None) -> Any:
        disk, segmenter = self._cache.disk, self._segmenter
        if disk is None or identity is None or not isinstance(segmenter, StorableEmbeddings):
            return segmenter.embed(self._frames.frame(frame_index))
        name = f"{segmenter.stored_as}|{identity}"
        data = disk.get(name)
        if data is not None:
            try:
                return segmenter.unpack(data)
            except ValueError:
                pass  # Stored by a version with another format; the new embedding replaces it.
        embedding = segmenter.embed(self._frames.frame(frame_index))
        disk.put(name, segmenter.pack(embedding))
        return embedding


def embedding_cache(ram_mib: float, disk_mib: int, folder: Path) -> EmbeddingCache[Any]:
    """A cache of embeddings.

    Args:
        ram_mib: bound in memory.
        disk_mib: bound on disk; 0 keeps none there.
        folder: where embeddings on disk are kept; for them alone.

    Raises:
        ValueError: a bound is too small.
    """
    return EmbeddingCache(ram_mib, EmbeddingDisk(folder, disk_mib) if disk_mib else None)
