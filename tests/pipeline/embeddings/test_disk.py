"""Embeddings on disk: bounded, there after a restart, and never the reason why a round fails."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.embeddings.disk import EmbeddingDisk

MIB = 2**20


def on_disk_bytes(folder: Path) -> int:
    """The size of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def block(number: int, n_bytes: int = 4 * MIB) -> bytes:
    """``n_bytes`` bytes, different for every number."""
    return number.to_bytes(4, "big") + bytes(n_bytes - 4)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[EmbeddingDisk]:
    with closing(EmbeddingDisk(tmp_path, 64)) as disk:
        yield disk


def test_the_bound_holds_and_the_least_recently_used_goes_first(disk: EmbeddingDisk, tmp_path: Path) -> None:
    disk.put("often", block(99))
    for number in range(40):
        disk.put(f"{number}", block(number))
        assert disk.get("often") == block(99), "it was read all the time"
        assert on_disk_bytes(tmp_path) <= 64 * MIB
    assert disk.get("0") is None
    assert disk.get("39") == block(39)
    assert 30 * MIB < disk.held_bytes <= 64 * MIB


def test_a_value_that_would_displace_all_others_is_not_kept(disk: EmbeddingDisk) -> None:
    disk.put("large", block(1, 9 * MIB))
    assert disk.get("large") is None


def test_values_survive_a_restart(disk: EmbeddingDisk, tmp_path: Path) -> None:
    disk.put("a", block(1))
    disk.close()
    with closing(EmbeddingDisk(tmp_path, 64)) as restarted:
        assert restarted.get("a") == block(1)


def test_a_bound_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 MiB or more"):
        EmbeddingDisk(tmp_path, 63)


@pytest.mark.parametrize("damage", ["a bit flipped", "cut", "gone"])
def test_a_damaged_value_counts_as_missing(damage: str, disk: EmbeddingDisk, tmp_path: Path) -> None:
    disk.put("a", block(1))
    disk.put("b", block(2))
    (file,) = [path for path in tmp_path.rglob("*.val") if path.read_bytes()[4:8] == block(1)[:4]]
    data = bytearray(file.read_bytes())
    if damage == "a bit flipped":
        data[MIB] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:MIB])
    else:
        file.unlink()
    assert disk.get("a") is None
    disk.put("a", block(3))
    assert disk.get("a") == block(3)
    assert disk.get("b") == block(2)


@pytest.mark.parametrize("index", [b"no database" * 99, b""])
def test_a_damaged_index_is_replaced(index: bytes, disk: EmbeddingDisk, tmp_path: Path) -> None:
    disk.put("a", block(1))
    disk.close()
    for path in tmp_path.rglob("cache.db*"):
        path.write_bytes(index) if path.name == "cache.db" else path.unlink()
    with closing(EmbeddingDisk(tmp_path, 64)) as restarted:
        assert restarted.get("a") is None
        restarted.put("a", block(2))
        assert restarted.get("a") == block(2)


def test_an_index_that_breaks_while_open_makes_values_missing(disk: EmbeddingDisk, tmp_path: Path) -> None:
    disk.put("a", block(1))
    (index,) = tmp_path.rglob("cache.db")
    with closing(sqlite3.connect(index)) as database:
        database.execute("DROP TABLE Cache")
        database.commit()
    assert disk.get("a") is None
    disk.put("a", block(2))
    assert disk.get("a") is None


def test_nothing_is_unpickled(disk: EmbeddingDisk, tmp_path: Path) -> None:
    """Whoever can write into the folder cannot make the reader run what they wrote."""

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "trap",)

    disk.put("a", block(1, 100))
    (index,) = tmp_path.rglob("cache.db")
    with closing(sqlite3.connect(index)) as database:
        database.execute("UPDATE Cache SET mode = 4, value = ?, filename = NULL", (pickle.dumps(Trap()),))
        database.commit()
    assert disk.get("a") is None
    assert not (tmp_path / "trap").exists()
