"""Image embeddings in memory: bounded in bytes, least recently used out first, shared by all videos of the process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Something that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        ...


T = TypeVar("T", bound=Sized)


class EmbeddingCache(Generic[T]):
    """A thread-safe cache of at most ``limit_mib`` MiB. A value larger than that is handed out but not kept."""

    def __init__(self, limit_mib: float) -> None:
        if limit_mib <= 0:
            raise ValueError(f"the embedding cache needs a positive bound in MiB, but got {limit_mib}")
        self._limit_bytes = int(limit_mib * 2**20)
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes kept now; never more than the bound."""
        return self._held_bytes

    def __len__(self) -> int:
        return len(self._values)

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made by ``make`` (outside the lock) if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values and value.nbytes <= self._limit_bytes:
                self._values[key] = value
                self._held_bytes += value.nbytes
                while self._held_bytes > self._limit_bytes:
                    _, dropped = self._values.popitem(last=False)
                    self._held_bytes -= dropped.nbytes
        return value

    def drop(self, belongs: Callable[[Hashable], bool]) -> None:
        """Forget every key for which ``belongs`` is true (a closed video's)."""
        with self._lock:
            for key in [key for key in self._values if belongs(key)]:
                self._held_bytes -= self._values.pop(key).nbytes
