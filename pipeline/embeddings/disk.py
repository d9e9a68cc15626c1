"""Packed embeddings in a folder, bounded in bytes, shared by processes and kept over restarts."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import zlib
from pathlib import Path
from typing import Any

from cachetools import TTLCache
from diskcache import Cache, Disk, Timeout
from diskcache.core import MODE_PICKLE

logger = logging.getLogger(__name__)
LEAST_MIB = 64
_FORMAT = "1"
_FILLED, _LARGEST = 3 / 4, 1 / 8
"""Shares of the bound: from where on old values are dropped, and the most that one value may take. What is left between
the first and the bound is for the newest value, which is written before others are dropped, and for the index."""
_DROPPED_PER_WRITE = 8
_CHECKSUM_BYTES = 4
_PAUSE_S = 60.0
_FAULTS = (OSError, sqlite3.Error, Timeout)


class _PlainDisk(Disk):  # type: ignore[misc]
    """Never unpickles: this module stores bytes only, so anything else in the index was not written by it."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise OSError("a pickled value lies in the embedding cache")
        return super().fetch(mode, filename, value, read)


class EmbeddingDisk:
    """Bytes by name; the least recently used are dropped first. Thread-safe.

    The folder is opened with the first value, so that it is not made where no segmenter stores anything. A fault of the
    disk (full, damaged, locked) at worst makes a value missing; after one the disk is not used for a minute. A value
    larger than an eighth of the bound is not kept.
    """

    def __init__(self, folder: Path, limit_mib: int) -> None:
        """Nothing is opened yet. The folder must hold nothing else; if its index is damaged, it is emptied.

        Raises:
            ValueError: the bound is less than `LEAST_MIB`.
        """
        if limit_mib < LEAST_MIB:
            raise ValueError(f"embeddings on disk need {LEAST_MIB} MiB or more (0 turns them off), but got {limit_mib}")
        self._folder, self._limit_bytes = folder / f"v{_FORMAT}", limit_mib * 2**20
        self._write_lock = threading.Lock()
        self._recent_fault: TTLCache[str, bool] = TTLCache(1, ttl=_PAUSE_S)
        self._cache: Any = None
        self._open_lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes kept on disk now."""
        if not self._folder.exists():
            return 0
        try:
            return int(self._cache.volume()) if self._is_usable() else 0
        except _FAULTS:
            return 0

    def get(self, name: str) -> bytes | None:
        """What was put under a name; None if it is missing or damaged."""
        if not self._is_usable():
            return None
        try:
            data = self._cache.get(name)
            if not isinstance(data, bytes):
                return None
            if zlib.crc32(data[_CHECKSUM_BYTES:]).to_bytes(_CHECKSUM_BYTES, "big") == data[:_CHECKSUM_BYTES]:
                return data[_CHECKSUM_BYTES:]
            logger.warning("an embedding in %s is damaged and is made again", self._folder)
            del self._cache[name]
        except KeyError:
            pass
        except _FAULTS as error:
            self._pause(error)
        return None

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes under a name, if they fit and the disk takes them."""
        if len(data) > self._limit_bytes * _LARGEST or not self._is_usable():
            return
        try:
            # One at a time: a value is written before old ones are dropped.
            with self._write_lock:
                self._cache.set(name, zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") + data)
        except _FAULTS as error:
            self._pause(error)

    def close(self) -> None:
        """Close the index."""
        if self._cache is not None:
            self._cache.close()

    def _open(self) -> None:
        """Open the folder; a damaged one is emptied and tried again."""
        try:
            self._cache = self._new_cache()
        except sqlite3.OperationalError as error:  # The disk is full or locked: what is stored is not damaged.
            self._pause(error)
        except sqlite3.DatabaseError as error:
            logger.warning("the embeddings in %s are damaged and are made again: %s", self._folder, error)
            shutil.rmtree(self._folder, ignore_errors=True)
            try:
                self._cache = self._new_cache()
            except _FAULTS as again:
                self._pause(again)
        except _FAULTS as error:
            self._pause(error)

    def _new_cache(self) -> Cache:
        return Cache(
            str(self._folder),
            disk=_PlainDisk,
            timeout=10,
            size_limit=int(self._limit_bytes * _FILLED),
            eviction_policy="least-recently-used",
            cull_limit=_DROPPED_PER_WRITE,
        )

    def _is_usable(self) -> bool:
        with self._open_lock:
            if self._cache is None and "fault" not in self._recent_fault:
                self._open()
        return self._cache is not None and "fault" not in self._recent_fault

    def _pause(self, error: Exception) -> None:
        with self._write_lock:
            self._recent_fault["fault"] = True
        logger.warning("embeddings are not kept on disk for %.0f s: %s: %s", _PAUSE_S, self._folder, error)
