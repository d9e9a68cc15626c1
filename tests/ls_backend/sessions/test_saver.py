"""Writing in the background: what is written when, and what waits while the store cannot be used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ls_backend.sessions import saver as session_saver
from ls_backend.sessions.saver import MAX_DROPPED, SessionSaver
from ls_backend.sessions.task_session import TaskSession
from ls_backend.store.database import Database, StoreError, store_address
from ls_backend.store.records import SessionRecord
from ls_backend.store.session_store import SessionStore
from tests.ls_backend.store.session_records import object_state, session_record

KEY = ("5", "7")


class Recorded:
    """Stands in for a session: only its record is asked for. ``soft_bytes`` make it large."""

    def __init__(self, soft_bytes: int = 40) -> None:
        self.made = session_record(objects={1: object_state(n_frames=300, soft_bytes=soft_bytes)})
        self.asked = 0

    def record(self, key: tuple[str, str]) -> SessionRecord:
        assert key == KEY
        self.asked += 1
        return self.made


def session(soft_bytes: int = 40) -> TaskSession:
    return cast(TaskSession, Recorded(soft_bytes))


class Gate(SessionStore):
    """A store that can be shut: `write` waits, or fails."""

    def __init__(self, database: Database, limit_mib: float) -> None:
        super().__init__(database, limit_mib)
        self.opened = threading.Event()
        self.opened.set()
        self.fails = False
        self.n_writes = 0

    def write(self, *words: Any) -> int:
        assert self.opened.wait(10)
        if self.fails:
            raise StoreError("disk full")
        self.n_writes += 1
        return super().write(*words)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gate]:
    store = Gate(Database(store_address("", tmp_path)), limit_mib=2)
    yield store
    store.close()


@pytest.fixture
def saver(store: Gate) -> Iterator[SessionSaver]:
    saver = SessionSaver(store)
    yield saver
    store.fails = False
    store.opened.set()
    saver.close(5)


def until(happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_masks_are_written_together_and_the_end_of_a_round_at_once(
    saver: SessionSaver, store: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_saver, "BATCH_S", 0.3)
    one = session()
    saver.add(KEY, one)
    started_s = time.monotonic()
    for _ in range(100):
        saver.changed(one, soon=False)
    until(lambda: store.n_writes == 1)
    assert time.monotonic() - started_s >= 0.3
    monkeypatch.setattr(session_saver, "BATCH_S", 60.0)
    saver.changed(one, soon=False)
    saver.changed(one, soon=True)
    until(lambda: store.n_writes == 2)
    assert store.database.is_file


def test_nobody_waits_for_the_store(saver: SessionSaver, store: Gate) -> None:
    store.opened.clear()
    one = session()
    saver.add(KEY, one)
    started_s = time.monotonic()
    for _ in range(1000):
        saver.changed(one, soon=True)
    assert time.monotonic() - started_s < 1
    assert not saver.flush(0.05)
    store.opened.set()
    assert saver.flush(5)


def test_an_open_session_stays_and_a_dropped_one_goes_once_it_is_written(saver: SessionSaver, store: Gate) -> None:
    one, other = session(), session()
    for kept in (one, other):
        saver.add(KEY, kept)
        saver.changed(kept, soon=True)
    assert saver.flush(5)
    assert len(saver.ids()) == 2
    store.opened.clear()
    saver.changed(other, soon=True)
    saver.drop(other)
    saver.drop(one)
    assert saver.knows(other)
    store.opened.set()
    saver.wait_for_dropped(KEY, 5)
    assert not saver.knows(one)
    assert not saver.knows(other)
    assert len(store.summaries(*KEY)) == 2


def test_only_so_many_dropped_sessions_wait(saver: SessionSaver, store: Gate, caplog: pytest.LogCaptureFixture) -> None:
    store.fails = True
    sessions = [session() for _ in range(MAX_DROPPED + 3)]
    for dropped in sessions:
        saver.add(KEY, dropped)
        saver.changed(dropped, soon=True)
        saver.drop(dropped)
    until(lambda: sum(saver.knows(dropped) for dropped in sessions) <= MAX_DROPPED)
    assert saver.knows(sessions[-1])
    assert "is dropped" in caplog.text


def test_a_session_too_large_for_the_store_is_said_once(
    saver: SessionSaver, store: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    large = session(soft_bytes=10_000)
    saver.add(KEY, large)
    for _ in range(3):
        saver.changed(large, soon=True)
        assert saver.flush(5)
    assert caplog.text.count("too large for IVOS_STORE_LIMIT_MIB") == 1
    assert store.summaries(*KEY) == []


def test_a_session_whose_rows_went_to_make_room_is_added_again(saver: SessionSaver, store: Gate) -> None:
    first, second = session(soft_bytes=4000), session(soft_bytes=4000)
    for kept in (first, second):
        saver.add(KEY, kept)
        saver.changed(kept, soon=True)
        assert saver.flush(5)
    assert len(store.summaries(*KEY)) == 1, "two are more than the bound"
    saver.changed(first, soon=True)
    assert saver.flush(5)
    (summary,) = store.summaries(*KEY)
    assert store.load(summary.session_id) == cast(Recorded, first).made


def test_nothing_is_kept_of_a_session_without_prompts(saver: SessionSaver, store: Gate) -> None:
    empty = session()
    cast(Recorded, empty).made = session_record(prompts=(), objects={})
    saver.add(KEY, empty)
    saver.changed(empty, soon=True)
    assert saver.flush(5)
    assert store.summaries(*KEY) == []
