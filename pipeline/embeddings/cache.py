"""Image embeddings: in memory and on disk, both bounded in bytes, least recently used out first, shared by all videos.

An embedding depends on the frame and the segmenter alone. Where a video can say which frames are the same as ones seen
before (`IdentifiedFrames`), it is made once for all sessions of them; and where making it takes much longer than
reading it back (`StorableEmbeddings`), once for all restarts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pipeline.embeddings.disk import EmbeddingDisk
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameSource, frame_identity


class Sized(Protocol):
    """Something that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        ...


T = TypeVar("T", bound=Sized)


@runtime_checkable
class StorableEmbeddings(Protocol):
    """A segmenter whose embeddings take so long to make that they are worth their place on a disk."""

    @property
    def stored_as(self) -> str:
        """Names the network, its weights and the form of what it stores: two that differ in any of these differ."""
        ...

    def pack(self, embedding: Any) -> bytes:
        """An embedding as bytes."""
        ...

    def unpack(self, data: bytes) -> Any:
        """The embedding again.

        Raises:
            ValueError: the bytes are not what `pack` gave.
        """
        ...


class _Embeds(Protocol):
    @property
    def name(self) -> str: ...

    def embed(self, frame_rgb: FrameRGB) -> Any: ...


class EmbeddingCache(Generic[T]):
    """A thread-safe cache of at most ``limit_mib`` MiB. A value larger than that is handed out but not kept."""

    def __init__(self, limit_mib: float, disk: EmbeddingDisk | None = None) -> None:
        if limit_mib <= 0:
            raise ValueError(f"the embedding cache needs a positive bound in MiB, but got {limit_mib}")
        self.disk = disk
        self._limit_bytes = int(limit_mib * 2**20)
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, Future[T]] = {}
        self._held_bytes = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes kept now; never more than the bound."""
        return self._held_bytes

    def __len__(self) -> int:
        return len(self._values)

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made by ``make`` if it is not there; who asks meanwhile waits for it.

        Raises:
            Exception: whatever ``make`` raised. Others that waited call their own ``make``.
        """
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                others = self._making.get(key)
                if others is None:
                    mine = self._making[key] = Future()
                    break
            if others.exception() is None:
                return others.result()
        return self._made(key, make, mine)

    def drop(self, belongs: Callable[[Hashable], bool]) -> None:
        """Forget every key for which ``belongs`` is true (a closed video's)."""
        with self._lock:
            for key in [key for key in self._values if belongs(key)]:
                self._held_bytes -= self._values.pop(key).nbytes

    def forget(self, key: Hashable) -> None:
        """Forget one key, if it is there."""
        with self._lock:
            value = self._values.pop(key, None)
            self._held_bytes -= 0 if value is None else value.nbytes

    def close(self) -> None:
        """Close what is on disk; it stays there."""
        if self.disk is not None:
            self.disk.close()

    def _made(self, key: Hashable, make: Callable[[], T], promise: Future[T]) -> T:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            promise.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            if value.nbytes <= self._limit_bytes:
                self._values[key] = value
                self._held_bytes += value.nbytes
                while self._held_bytes > self._limit_bytes:
                    _, dropped = self._values.popitem(last=False)
                    self._held_bytes -= dropped.nbytes
        promise.set_result(value)
        return value


class FrameEmbeddings:
    """The embeddings of one open video's frames."""

    def __init__(self, cache: EmbeddingCache[Any], segmenter: _Embeds, frames: FrameSource, video_key: int) -> None:
        """Nothing is embedded yet.

        Args:
            cache: shared with other videos.
            segmenter: makes the embeddings.
            frames: the video.
            video_key: tells the video's frames from those of others where they have no identity.
        """
        self._cache, self._segmenter, self._frames, self._video_key = cache, segmenter, frames, video_key

    def get(self, frame_index: int) -> Any:
        """The embedding of a frame.

        Raises:
            FrameError: the frame cannot be read.
        """
        identity = frame_identity(self._frames, frame_index)
        return self._cache.get_or_make(self._key(frame_index, identity), lambda: self._made(frame_index, identity))

    def forget(self, frame_index: int) -> None:
        """Drop the embedding of a frame from memory."""
        self._cache.forget(self._key(frame_index, frame_identity(self._frames, frame_index)))

    def _key(self, frame_index: int, identity: str | None) -> Hashable:
        own = (self._video_key, frame_index)
        return self._segmenter.name, own if identity is None else identity

    def _made(self, frame_index: int, identity: str | None) -> Any:
        disk, segmenter = self._cache.disk, self._segmenter
        if disk is None or identity is None or not isinstance(segmenter, StorableEmbeddings):
            return segmenter.embed(self._frames.frame(frame_index))
        name = f"{segmenter.stored_as}|{identity}"
        data = disk.get(name)
        if data is not None:
            try:
                return segmenter.unpack(data)
            except ValueError:
                pass  # Of a program with another form of embeddings; what is made now replaces it.
        embedding = segmenter.embed(self._frames.frame(frame_index))
        disk.put(name, segmenter.pack(embedding))
        return embedding


def embedding_cache(ram_mib: float, disk_mib: int, folder: Path) -> EmbeddingCache[Any]:
    """A cache of embeddings.

    Args:
        ram_mib: bound in memory.
        disk_mib: bound on disk; 0 keeps none there.
        folder: where those on disk lie, for them alone.

    Raises:
        ValueError: a bound is too small.
    """
    return EmbeddingCache(ram_mib, EmbeddingDisk(folder, disk_mib) if disk_mib else None)
